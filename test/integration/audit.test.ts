import { once } from 'node:events';
import { existsSync, readFileSync, renameSync, statSync, watch } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { type Client, status } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';

import { libraryClient } from '../support/grpc-client.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { shell } from '../support/shell.js';
import { StandInGitaly } from '../support/stand-in-gitaly.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { callUnary } from '../support/unary-call.js';
import { verify } from '../telemetry/audit/hand-made.js';

const LISTEN = 'tcp://127.0.0.1:0';
const WRITE_REF = '/gitaly.RepositoryService/WriteRef';
const SERVER_INFO = '/gitaly.ServerService/ServerInfo';
const UNKNOWN = '/gitaly.FutureService/Change';
/** `WriteRefRequest` with the repository `@hashed/ab.git` of the storage `default`. */
const REQUEST = Buffer.from('\n\x19\x12\x07default\x1a\x0e@hashed/ab.git', 'latin1');

type Line = Readonly<Record<string, unknown>>;

function textsOf(path: string): string[] {
  return existsSync(path) ? (readFileSync(path, 'utf8').match(/.*\n/gu) ?? []) : [];
}

/** The lines of an audit file about calls. */
function callsOf(path: string): Line[] {
  return textsOf(path)
    .map((line) => JSON.parse(line) as Line)
    .filter(({ event }) => event === 'call' || event === 'refused');
}

/** Waits until a file has a number of lines about calls. */
async function audited(path: string, count: number): Promise<Line[]> {
  const watcher = watch(dirname(path));
  try {
    for (;;) {
      const lines = callsOf(path);
      if (lines.length >= count) return lines;
      await once(watcher, 'change');
    }
  } finally {
    watcher.close();
  }
}

async function startAudited(more: Readonly<Record<string, unknown>> = {}) {
  const directory = await temporaryDirectory();
  const path = join(directory, 'audit.log');
  const gitaly = await StandInGitaly.start();
  const listeners = [{ listen: LISTEN, forward: gitaly.url }];
  const configuration = { listeners, audit_log_path: path, ...more };
  const proxy = await ProxyProcess.start({ configuration });
  const client = libraryClient((await proxy.address(LISTEN)).host, undefined);
  return { directory, path, gitaly, configuration, proxy, client };
}

function writeRef(client: Client, correlationId: string) {
  return callUnary(client, WRITE_REF, REQUEST, { 'x-gitlab-correlation-id': correlationId });
}

test.each([1, 2])(
  'a mutating call and an unknown RPC get a line, others none, with %i workers',
  async (workers) => {
    const { path, proxy, client } = await startAudited({ workers });
    expect(await writeRef(client, 'one')).toMatchObject({ code: status.OK });
    expect(await callUnary(client, SERVER_INFO)).toMatchObject({ code: status.OK });
    expect(await callUnary(client, UNKNOWN)).toMatchObject({ code: status.UNIMPLEMENTED });
    const [write, unknown] = await audited(path, 2);
    expect(write).toMatchObject({
      event: 'call',
      listener: LISTEN,
      protocol: 'http2',
      'grpc.service': 'gitaly.RepositoryService',
      'grpc.method': 'WriteRef',
      'grpc.method_operation': 'mutator',
      correlation_id: 'one',
      'gitaly.storage': 'default',
      'gitaly.relative_path': '@hashed/ab.git',
      'grpc.request.payload_bytes': REQUEST.length,
      'grpc.response.payload_bytes': 0,
      'grpc.code': 'OK',
      'grpc.ended_by': 'server',
    });
    expect(write?.['peer.address']).toMatch(/^127\.0\.0\.1:\d+$/u);
    expect(unknown).toMatchObject({ 'grpc.method_operation': 'unknown', 'grpc.code': 'Unimplemented' });
    client.close();
    await proxy.endsWithNothingLeaked();
    expect(callsOf(path)).toHaveLength(2);
    expect(verify([textsOf(path)])).toBe('intact');
    expect(statSync(path).mode & 0o137).toBe(0);
    // The log has the last hash, which shows that the end was not cut.
    const hash = proxy.log.lines.findLast(({ event }) => event === 'audit_log_head')?.['audit.hash'];
    expect(textsOf(path).at(-1)).toContain(String(hash));
  },
);

test('a refused call gets a line with the identity and the reason', async () => {
  const gitaly = await StandInGitaly.start();
  const path = join(await temporaryDirectory(), 'audit.log');
  const { ca, proxy } = await startSetup((authority) => ({
    tls: { client_auth: 'require', client_ca_path: authority.caPath },
    listener: {
      forward: gitaly.url,
      policy: { mode: 'enforce', rules: [{ name: 'tests', identities: ['dns:*.test'], allow: ['mutator'] }] },
    },
    more: { audit_log_path: path },
  }));
  const { certificatePem, keyPem } = await ca.client();
  const address = (await proxy.address(TLS_LISTENER)).host;
  const client = libraryClient(address, { ca: ca.caPem, certificate: certificatePem, key: keyPem });
  expect(await writeRef(client, 'allowed')).toMatchObject({ code: status.OK });
  const refused = await callUnary(client, '/gitaly.RefService/RefExists', REQUEST);
  expect(refused.code).toBe(status.PERMISSION_DENIED);
  const [first, second] = await audited(path, 2);
  expect(first).toMatchObject({ event: 'call', 'peer.identity': 'client.test', correlation_id: 'allowed' });
  expect(second).toMatchObject({
    event: 'refused',
    'peer.identity': 'client.test',
    'grpc.method': 'RefExists',
    'grpc.code': 'PermissionDenied',
    'grpc.ended_by': 'proxy',
    error: refused.details,
  });
  client.close();
  await proxy.endsWithNothingLeaked();
  expect(verify([textsOf(path)])).toBe('intact');
});

test('after a rotation and SIGHUP, lines go to a new file that continues the chain', async () => {
  const { path, proxy, client } = await startAudited();
  await writeRef(client, 'one');
  await audited(path, 1);
  renameSync(path, `${path}.1`);
  await writeRef(client, 'two');
  await audited(`${path}.1`, 2);
  // The file is reopened even if the configuration cannot be applied.
  await writeFile(proxy.configurationPath, 'listeners: 1');
  proxy.signal('SIGHUP');
  await proxy.log.waitForEvent('reload_failed');
  await writeRef(client, 'three');
  await audited(path, 1);
  client.close();
  await proxy.endsWithNothingLeaked();
  expect(verify([textsOf(`${path}.1`), textsOf(path)])).toBe('intact');
  expect(verify([textsOf(`${path}.1`).slice(0, -1), textsOf(path)])).not.toBe('intact');
  const cli = (...files: readonly string[]) =>
    shell(`'${process.execPath}' dist/cli.js audit verify ${files.join(' ')}`);
  expect(await cli(`${path}.1`, path)).toMatchObject({ exitCode: 0 });
  await writeFile(path, readFileSync(path, 'utf8').replace('three', 'tree'));
  const changed = await cli(`${path}.1`, path);
  expect(changed.exitCode).toBe(1);
  expect(changed.output).toBe(`${path}:2: it was changed\n`);
});

test('a restarted process continues the file', async () => {
  const { path, configuration, proxy, client } = await startAudited();
  await writeRef(client, 'one');
  client.close();
  await proxy.endsWithNothingLeaked();
  const again = await ProxyProcess.start({ configuration });
  const other = libraryClient((await again.address(LISTEN)).host, undefined);
  await writeRef(other, 'two');
  other.close();
  await again.endsWithNothingLeaked();
  expect(callsOf(path).map(({ correlation_id: id }) => id)).toEqual(['one', 'two']);
  expect(verify([textsOf(path)])).toBe('intact');
});

test('a killed process loses no line that it has written', async () => {
  const { path, configuration, proxy, client } = await startAudited();
  await writeRef(client, 'one');
  await audited(path, 1);
  proxy.signal('SIGKILL');
  await proxy.exited;
  const again = await ProxyProcess.start({ configuration });
  await again.endsWithNothingLeaked();
  expect(callsOf(path)).toHaveLength(1);
  expect(verify([textsOf(path)])).toBe('intact');
});

describe('a full disk', () => {
  test.each([1, 2])(
    'refuses mutating calls with audit_required until lines can be written, with %i workers',
    async (workers) => {
      const settings = { workers, audit_log_path: '/dev/full', audit_required: true };
      const { path, gitaly, configuration, proxy, client } = await startAudited(settings);
      await proxy.log.waitForEvent('audit_log_failed');
      const refused = async (): Promise<status> => (await writeRef(client, 'refused')).code;
      // A worker learns of it a little later.
      while ((await refused()) !== status.UNAVAILABLE);
      const before = gitaly.calls.length;
      const { details } = await writeRef(client, 'refused');
      expect(details).toContain('the audit log cannot be written');
      expect(await callUnary(client, SERVER_INFO)).toMatchObject({ code: status.OK });
      expect(gitaly.calls.slice(before)).toEqual([SERVER_INFO]);
      const scrape = await proxy.scrape();
      expect(scrape.value('gitaly_tls_proxy_audit_write_errors_total')).toBeGreaterThan(0);
      await proxy.configure({ ...configuration, audit_log_path: path });
      proxy.signal('SIGHUP');
      await proxy.log.waitForEvent('audit_log_recovered');
      while ((await writeRef(client, 'served')).code !== status.OK);
      client.close();
      await proxy.endsWithNothingLeaked();
      // The refusals waited.
      const [refusal] = callsOf(path).filter(({ event }) => event === 'refused');
      expect(refusal).toMatchObject({ 'grpc.code': 'Unavailable', 'grpc.ended_by': 'proxy' });
      expect(callsOf(path).at(-1)).toMatchObject({ event: 'call', correlation_id: 'served' });
      expect(verify([textsOf(path)])).toBe('intact');
    },
  );

  test('is counted and logged without audit_required, and calls are served', async () => {
    const { proxy, client } = await startAudited({ audit_log_path: '/dev/full' });
    const line = await proxy.log.waitForEvent('audit_log_failed');
    expect(line['error']).toContain('no space left on device');
    expect(await writeRef(client, 'served')).toMatchObject({ code: status.OK });
    client.close();
    await proxy.endsWithNothingLeaked();
  });
});

test('a path that cannot be opened is an error at startup, and a failed reload keeps the file', async () => {
  const { directory, path, configuration, proxy, client } = await startAudited();
  const broken = { ...configuration, audit_log_path: join(directory, 'missing', 'audit.log') };
  await proxy.configure(broken);
  proxy.signal('SIGHUP');
  const failed = await proxy.log.waitForEvent('reload_failed');
  expect(failed['error']).toContain('audit_log_path');
  await writeRef(client, 'one');
  await audited(path, 1);
  client.close();
  await proxy.endsWithNothingLeaked();
  const second = await ProxyProcess.spawn({ configuration: broken });
  expect(await second.exited).toBe(2);
  expect(second.stderr.text).toContain('audit_log_path');
});
