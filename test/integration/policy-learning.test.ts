import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { status } from '@grpc/grpc-js';
import { expect, test, vi } from 'vitest';
import { parse, stringify } from 'yaml';

import type { Authority, Issued } from '../support/authority.js';
import type { TrafficReport } from '../../src/policy/observed-traffic.js';
import { demoService } from '../../src/commands/demo/demo-service.js';
import { startGrpcBackend } from '../support/backends.js';
import { speaking, tlsClient } from '../support/clients.js';
import { libraryClient } from '../support/grpc-client.js';
import { CLI, type ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';

const HEALTH = 'grpc.health.v1.Health/Check';

interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command of the built program. */
function run(...args: readonly string[]): Promise<Finished> {
  return new Promise((resolve) => {
    execFile(process.execPath, [CLI, ...args], (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
    );
  });
}

async function observed(proxy: ProxyProcess): Promise<TrafficReport & { readonly shown: number }> {
  const response = await fetch(`${await proxy.adminUrl()}/-/policy`, { headers: { connection: 'close' } });
  expect(response.status).toBe(200);
  return (await response.json()) as TrafficReport & { readonly shown: number };
}

/** A client with a connection of its own. */
function clientOf(address: URL, ca: Authority, own?: Issued) {
  const tls = { ca: ca.caPem, ...(own && { certificate: own.certificatePem, key: own.keyPem }) };
  const client = libraryClient(address.host, tls, {
    'grpc.ssl_target_name_override': 'localhost',
    'grpc.default_authority': 'localhost',
  });
  const call = (rpc: string): Promise<status> =>
    new Promise((resolve) => {
      client.makeUnaryRequest(
        `/${rpc}`,
        (value: Buffer) => value,
        (value: Buffer) => value,
        Buffer.alloc(0),
        (error) => resolve(error ? error.code : status.OK),
      );
    });
  return { call, close: () => client.close() };
}

test('from report to enforce: what is observed becomes rules, which allow it and nothing else', async () => {
  const forward = await startGrpcBackend();
  const setup = await startSetup((ca) => ({
    tls: { client_auth: 'report', client_ca_path: ca.caPath },
    listener: {
      forward,
      policy: { mode: 'report', rules: [{ name: 'empty', identities: ['dns:nobody.internal'], allow: [] }] },
    },
  }));
  const { proxy, ca, directory, configuration } = setup;
  const address = await proxy.address(TLS_LISTENER);
  const admin = await proxy.adminUrl();
  const rails = clientOf(address, ca, await ca.client({ dns: ['rails-1.internal'], commonName: 'rails' }));
  const indexer = clientOf(
    address,
    ca,
    await ca.client({ dns: ['indexer.internal'], commonName: 'indexer' }),
  );
  const anyone = clientOf(address, ca);
  for (const client of [rails, indexer, anyone]) expect(await client.call(HEALTH)).toBe(status.OK);

  const page = await observed(proxy);
  expect(page).toMatchObject({ evicted: { clients: 0, rpcs: 0 }, missing_workers: 0, total: 3, shown: 3 });
  expect(page.clients.map(({ identities, certificate }) => [identities, certificate])).toEqual([
    [['dns:indexer.internal', 'cn:indexer'], 'verified'],
    [['dns:rails-1.internal', 'cn:rails'], 'verified'],
    [[], 'absent'],
  ]);
  for (const { rpcs, authorities, tls_version, connections } of page.clients) {
    expect({ tls_version, connections }).toEqual({ tls_version: 'TLSv1.3', connections: 1 });
    expect(authorities.map(({ name }) => name).filter((name) => name !== 'CN=ca')).toEqual([]);
    expect(rpcs).toMatchObject([
      { rpc: HEALTH, calls: 1, decisions: { allowed: 0, denied: 0, would_deny: 1 }, rule: 'none' },
    ]);
  }

  const suggested = await run('policy', 'suggest', '--from', admin);
  expect(suggested).toMatchObject({ code: 0, stderr: '' });
  const { listeners } = parse(suggested.stdout) as { listeners: { listen: string; policy: object }[] };
  expect(listeners).toEqual([
    {
      listen: TLS_LISTENER,
      policy: {
        mode: 'report',
        rules: [
          { name: 'clients', identities: ['dns:indexer.internal', 'dns:rails-1.internal'], allow: [HEALTH] },
          { name: 'without-certificate', identities: ['*'], allow: [HEALTH] },
        ],
      },
    },
  ]);

  const [listener] = configuration.listeners;
  const write = async (name: string, next: object): Promise<string> => {
    await writeFile(join(directory, name), stringify(next));
    return join(directory, name);
  };
  const next = {
    ...configuration,
    listeners: [{ ...listener, policy: { ...listeners[0]?.policy, mode: 'enforce' } }],
  };
  const enforced = await write('enforced.yaml', next);
  expect(await run('configuration', 'validate', enforced)).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(await run('configuration', 'rehearse', enforced, '--from', admin)).toMatchObject({ code: 0 });
  const rules = [{ name: 'rails', identities: ['dns:rails-*.internal'], allow: ['*'] }];
  const strict = await write('strict.yaml', {
    tls: { ...configuration.tls, client_auth: 'require' },
    listeners: [{ ...listener, policy: { mode: 'enforce', rules } }],
  });
  const rehearsed = await run('configuration', 'rehearse', strict, '--from', admin, '--json');
  expect(rehearsed.code).toBe(1);
  expect(JSON.parse(rehearsed.stdout)).toMatchObject({
    since: page.since,
    total: 3,
    refused: [
      { reason: 'policy', identities: ['dns:indexer.internal', 'cn:indexer'], rpc: HEALTH, calls: 1 },
      { reason: 'client_auth', identities: [], rpc: null, connections: 1 },
    ],
    reported: [],
  });

  await proxy.configure(next);
  proxy.signal('SIGHUP');
  await proxy.scrapeUntil((scrape) => scrape.value('gitaly_tls_proxy_tls_reloads_total') > 0);
  for (const client of [rails, indexer, anyone]) {
    expect(await client.call(HEALTH)).toBe(status.OK);
    expect(await client.call('gitaly.RepositoryService/RemoveRepository')).toBe(status.PERMISSION_DENIED);
    client.close();
  }
  await proxy.endsWithNothingLeaked();
});

test('an RPC that the table does not have is observed by name once it was answered, with its decisions', async () => {
  const forward = await startGrpcBackend();
  const { proxy, ca } = await startSetup({
    listener: { forward, policy: { mode: 'report', rules: [{ identities: ['*'], allow: [HEALTH] }] } },
  });
  const client = clientOf(await proxy.address(TLS_LISTENER), ca);
  const echo = demoService.echo.path.slice(1);
  for (let made = 0; made < 3; made++) expect(await client.call(echo)).toBe(status.OK);
  expect(await client.call('no.Such/Method')).toBe(status.UNIMPLEMENTED);
  const { clients } = await observed(proxy);
  expect(clients).toMatchObject([
    {
      rpcs: [
        // The decision on the first call was made before the RPC had a name.
        { rpc: echo, operation: 'unknown', calls: 3, decisions: { would_deny: 2 }, refused_by_upstream: 0 },
        { rpc: 'other/other', calls: 1, refused_by_upstream: 1 },
      ],
    },
  ]);
  client.close();
  await proxy.endsWithNothingLeaked();
});

test('two workers: what both have observed is one page', async () => {
  const forward = await startGrpcBackend();
  const { proxy, ca } = await startSetup((authority) => ({
    tls: { client_auth: 'require', client_ca_path: authority.caPath },
    listener: { forward },
    more: { workers: 2 },
  }));
  const address = await proxy.address(TLS_LISTENER);
  const own = await ca.client({ dns: ['rails-1.internal'], commonName: 'rails' });
  // Each worker gets two of the connections.
  const clients = Array.from({ length: 4 }, () => clientOf(address, ca, own));
  for (const client of clients) expect(await client.call(HEALTH)).toBe(status.OK);
  const { clients: groups, missing_workers: missing } = await observed(proxy);
  expect({ groups, missing }).toMatchObject({
    missing: 0,
    groups: [{ connections: 4, rpcs: [{ rpc: HEALTH, calls: 4, decisions: { allowed: 0 }, rule: null }] }],
  });
  for (const client of clients) client.close();
  await proxy.endsWithNothingLeaked();
});

test('the CAs of a client are observed, also in a resumed session', async () => {
  const { proxy, ca, port } = await startSetup((authority) => ({
    tls: { client_auth: 'require', client_ca_path: authority.caPath },
  }));
  const between = await ca.intermediate('between');
  const own = await between.client({ dns: ['rails-1.internal'] });
  const options = {
    ...speaking('TLSv1.2'),
    ca: ca.caPem,
    cert: own.certificatePem,
    key: own.keyPem,
  };
  const first = await tlsClient(port, options);
  const session = first.getSession();
  const second = await tlsClient(port, { ...options, ...(session && { session }) });
  expect(second.isSessionReused()).toBe(true);
  const expected = {
    tls_version: 'TLSv1.2',
    certificate: 'verified',
    connections: 2,
    authorities: [{ name: 'CN=between' }, { name: 'CN=ca' }],
  };
  // The client may finish its handshake before the proxy does.
  await vi.waitFor(async () => expect((await observed(proxy)).clients).toMatchObject([expected]));
  first.destroy();
  second.destroy();
  await proxy.endsWithNothingLeaked();
});

test('the commands that read the page report an address that is not the admin port, with a fix', async () => {
  const { proxy } = await startSetup();
  const admin = await proxy.adminUrl();
  const other = await startGrpcBackend();
  const refused = await run('policy', 'suggest', '--from', other.replace('tcp:', 'http:'));
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/cannot read the observed traffic from .*; fix: /u);
  expect(
    await run('configuration', 'rehearse', proxy.configurationPath, '--from', `${admin}/metrics`),
  ).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('does not exist') as string,
  });
  const page = await fetch(`${admin}/-/policy?limit=0`, { headers: { connection: 'close' } });
  expect([page.status, await page.text()]).toEqual([
    400,
    'limit: expected a number from 1 to 10000, got "0"\n',
  ]);
  await proxy.endsWithNothingLeaked();
});
