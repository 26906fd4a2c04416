import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';

import { expect, test } from 'vitest';

import { createCertificates } from '../../src/commands/certificates/create.js';
import { COMMANDS } from '../../src/commands/table.js';
import { Authority } from '../support/authority.js';
import { GrpcClient } from '../support/grpc-client.js';
import { CLI, ProxyProcess } from '../support/proxy-process.js';
import { descriptorSet, message, method } from '../support/descriptor-set.js';
import { shell } from '../support/shell.js';
import { StandInGitaly } from '../support/stand-in-gitaly.js';
import { MadeChain } from '../telemetry/audit/hand-made.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

/** Commands that go on until they are told to end, with what they print when they are there. */
const UNTIL_ENDED = new Map([
  ['serve', '"event":"ready"'],
  ['demo', 'Ctrl-C ends the demo'],
]);

/** Commands that print more than what a redirection of their example takes, with what stands in it. */
const PRINTING = new Map([
  ['check', 'Checking connection ... Passed'],
  ['certificates create', 'server certificate'],
  ['certificates inspect', 'usages'],
  ['audit verify', 'are as they were written'],
  ['configuration rehearse', 'would refuse none'],
  ['policy suggest', 'without-certificate'],
  ['policy test', 'allowed'],
]);

/** The admin port of a running proxy, in examples. */
const ADMIN_PORT = 'http://127.0.0.1:9237';

/** Two files of an audit log, of which the second continues the first. */
function auditFiles(): (readonly [name: string, content: string])[] {
  const chain = new MadeChain();
  const rotated = chain.opened([]).calls(2).take().join('');
  return [
    ['audit.log.1', rotated],
    ['audit.log', chain.opened([]).calls(2).take().join('')],
  ];
}

/**
 * A directory with the files that the examples name, and the program on the path. Ports are free ones: 9999 is a
 * listener's, or that of a Gitaly with TLS which is checked; 8075 that of a backend which answers.
 */
async function prepare() {
  const directory = await temporaryDirectory();
  const ca = await Authority.create(directory);
  const server = await ca.server();
  const token = 'a secret of Gitaly';
  const backend = new URL((await StandInGitaly.start()).url);
  const tls = { cert: server.certificatePem, key: server.keyPem };
  const checked = await StandInGitaly.start({ tls, token });
  const configuration = `
    prometheus_listen_addr: 127.0.0.1:0
    tls: { certificate_path: cert.pem, key_path: key.pem }
    listeners: [{ listen: tls://127.0.0.1:0, forward: ${backend.href} }]`;
  const authority = {
    directory: join(directory, 'pki'),
    caName: undefined,
    days: undefined,
    keyType: undefined,
  };
  const certificates = [{ role: 'server', names: [{ kind: 'dns', value: 'gitaly-z.internal' }] }] as const;
  await createCertificates({ ...authority, certificates, renew: false }, new Date());
  await mkdir(join(directory, 'bin'));
  for (const [name, content] of [
    ['cert.pem', server.certificatePem],
    ['key.pem', server.keyPem],
    ['ca.pem', ca.caPem],
    ['clients-ca.pem', ca.caPem],
    ['token', token],
    ...auditFiles(),
    ['gitaly.pb', descriptorSet([], [message({ 1: 'A', 2: method('M', '') })])],
    ['gitaly-tls-proxy.yaml', configuration],
    ['config.toml', 'listen_addr = "127.0.0.1:8075"\ntls_listen_addr = "0.0.0.0:9999"\n'],
    ['gitlab.rb', "git_data_dirs('default' => { 'gitaly_address' => 'tls://gitaly-a.internal:9999' })\n"],
    ['bin/gitaly-tls-proxy', `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`],
  ] as const)
    await writeFile(join(directory, name), content, { mode: 0o600 });
  await chmod(join(directory, 'bin/gitaly-tls-proxy'), 0o700);
  const withFreePorts = (line: string): string =>
    line
      .replaceAll(/(--listen \S+):\d+/gu, '$1:0')
      .replaceAll(/(--prometheus-listen-addr \S+):\d+/gu, '$1:0')
      .replaceAll('127.0.0.1:8075', backend.host)
      .replaceAll('tls://localhost:9999', checked.url);
  /** Starts the proxy with the configuration, and makes a call through it. Returns its admin port. */
  const observe = async (): Promise<string> => {
    const args = ['serve', '--config', join(directory, 'gitaly-tls-proxy.yaml')];
    const proxy = await ProxyProcess.start({ args });
    await new GrpcClient(await proxy.address('tls://127.0.0.1:0'), { ca: ca.caPem }).health();
    return proxy.adminUrl();
  };
  return { directory, withFreePorts, observe };
}

test.each(
  COMMANDS.flatMap(({ name, examples }) =>
    examples.map(({ line }) => [line, UNTIL_ENDED.get(name), PRINTING.get(name)] as const),
  ),
)('%s', async (line, sign, printed) => {
  const { directory, withFreePorts, observe } = await prepare();
  const prepared = withFreePorts(line);
  const command = line.includes(ADMIN_PORT) ? prepared.replace(ADMIN_PORT, await observe()) : prepared;
  if (sign === undefined) {
    const { exitCode, output } = await shell(`cd '${directory}' && ${command}`, {
      PATH: `${directory}/bin${delimiter}${process.env['PATH'] ?? ''}`,
    });
    const written = /> (\S+)$/u.exec(command)?.[1];
    const expected: unknown =
      printed === undefined || written !== undefined ? '' : expect.stringContaining(printed);
    expect({ exitCode, output }).toEqual({ exitCode: 0, output: expected });
    if (written !== undefined) expect(await readFile(join(directory, written), 'utf8')).not.toBe('');
    return;
  }
  const program = await ProxyProcess.spawn({ args: command.split(' ').slice(1), directory });
  await program.log.waitForText(sign);
  program.signal('SIGTERM');
  expect(await program.exited).toBe(0);
});

test('each command has an example', () => {
  expect(COMMANDS.filter(({ examples }) => examples.length === 0).map(({ name }) => name)).toEqual([]);
});
