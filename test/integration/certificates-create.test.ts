import { X509Certificate } from 'node:crypto';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { HEALTH_SERVING } from '../../src/commands/demo/demo-service.js';
import { startGrpcBackend } from '../support/backends.js';
import { GrpcClient } from '../support/grpc-client.js';
import { HttpBackend } from '../support/http-backend.js';
import { CLI, ProxyProcess } from '../support/proxy-process.js';
import { isInstalled, shell, type CommandResult } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const NAMES = '--server localhost,127.0.0.1 gitaly-b.internal --client rails-1.internal';

/** A directory, and the command in it: `create` takes what follows DIR. */
async function prepare() {
  const pki = join(await temporaryDirectory(), 'pki');
  const program = (args: string): Promise<CommandResult> => shell(`'${process.execPath}' '${CLI}' ${args}`);
  return {
    pki,
    program,
    create: (args: string, umask = '022'): Promise<CommandResult> =>
      shell(`umask ${umask}; '${process.execPath}' '${CLI}' certificates create '${pki}' ${args}`),
    certificate: async (name: string): Promise<X509Certificate> =>
      new X509Certificate(await readFile(join(pki, `${name}.pem`))),
  };
}

test('makes a CA, server certificates and client certificates; each with its key, and nothing else', async () => {
  const { pki, create } = await prepare();
  expect((await create(`--ca-name 'The CA' ${NAMES}`)).exitCode).toBe(0);
  expect((await readdir(pki)).sort()).toEqual(
    ['ca', 'gitaly-b.internal', 'localhost', 'rails-1.internal'].flatMap((name) => [
      `${name}.key`,
      `${name}.pem`,
    ]),
  );
});

test.each(['000', '022', '077'])('files are 0644 and keys 0600, whatever the umask (%s)', async (umask) => {
  const { pki, create } = await prepare();
  expect((await create(NAMES, umask)).exitCode).toBe(0);
  for (const name of await readdir(pki)) {
    const { mode } = await lstat(join(pki, name));
    expect([name, mode & 0o777]).toEqual([name, name.endsWith('.key') ? 0o600 : 0o644]);
  }
  // The directory that it has made: nobody else may replace a key in it.
  expect((await lstat(pki)).mode & 0o022).toBe(0);
});

test.each(['ec', 'rsa'])('OpenSSL takes them for what they are for: %s', async (type) => {
  const { pki, create } = await prepare();
  expect((await create(`--key-type ${type} ${NAMES}`)).exitCode).toBe(0);
  const verify = async (purpose: string, name: string): Promise<number | null> =>
    (
      await shell(
        `openssl verify -x509_strict -purpose ${purpose} -CAfile '${pki}/ca.pem' '${pki}/${name}.pem'`,
      )
    ).exitCode;
  expect(await verify('sslserver', 'localhost')).toBe(0);
  expect(await verify('sslclient', 'localhost')).toBe(0);
  expect(await verify('sslclient', 'rails-1.internal')).toBe(0);
  expect(await verify('sslserver', 'rails-1.internal')).not.toBe(0);
  const { output } = await shell(`openssl x509 -noout -text -in '${pki}/localhost.pem'`);
  expect(output).toMatch(/DNS:localhost, IP Address:127\.0\.0\.1/);
  expect(output).toMatch(/TLS Web Server Authentication, TLS Web Client Authentication/);
  expect(output).toMatch(type === 'ec' ? /prime256v1/ : /Public-Key: \(3072 bit\)/);
  const ca = await shell(`openssl x509 -noout -text -in '${pki}/ca.pem'`);
  expect(ca.output).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:0/);
  expect(ca.output).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign/);
});

test('the proxy serves them and requires them, both ways, from client to client mode to server to gRPC', async () => {
  const { pki, program, create } = await prepare();
  expect((await create(NAMES)).exitCode).toBe(0);
  const server = await ProxyProcess.start({
    configuration: {
      tls: {
        certificate_path: join(pki, 'localhost.pem'),
        key_path: join(pki, 'localhost.key'),
        client_auth: 'require',
        client_ca_path: join(pki, 'ca.pem'),
      },
      listeners: [{ listen: 'tls://127.0.0.1:0', forward: await startGrpcBackend() }],
    },
  });
  const client = await ProxyProcess.start({
    configuration: {
      listeners: [
        {
          listen: 'tcp://127.0.0.1:0',
          forward: `tls://localhost:${await server.port('tls://127.0.0.1:0')}`,
          upstream_tls: {
            ca_path: join(pki, 'ca.pem'),
            certificate_path: join(pki, 'rails-1.internal.pem'),
            key_path: join(pki, 'rails-1.internal.key'),
          },
        },
      ],
    },
  });
  for (const proxy of [server, client]) {
    expect(await program(`configuration validate '${proxy.configurationPath}'`)).toEqual({
      exitCode: 0,
      output: '',
    });
    expect(proxy.log.text).not.toContain('"level":"warning"');
  }
  const caller = new GrpcClient(await client.address('tcp://127.0.0.1:0'));
  expect(await caller.health()).toEqual(HEALTH_SERVING);
  caller.close();
  const closed = await server.log.waitFor((line) => line['peer.identity'] !== undefined);
  expect(closed['peer.identity']).toBe('rails-1.internal');
  await client.endsWithNothingLeaked();
  await server.endsWithNothingLeaked();
});

test("curl: a server's certificate is a client's too, as Gitaly presents it to GitLab", async ({ skip }) => {
  skip(!isInstalled('curl'), 'curl is not installed');
  const { pki, create } = await prepare();
  expect((await create(NAMES)).exitCode).toBe(0);
  const backend = await HttpBackend.start();
  const gate = await ProxyProcess.start({
    configuration: {
      tls: {
        certificate_path: join(pki, 'localhost.pem'),
        key_path: join(pki, 'localhost.key'),
        client_auth: 'require',
        client_ca_path: join(pki, 'ca.pem'),
      },
      listeners: [{ listen: 'https://127.0.0.1:0', forward: backend.url }],
    },
  });
  const url = `https://localhost:${await gate.port('https://127.0.0.1:0')}/api/v4/internal/check`;
  const curl = (args: string): Promise<CommandResult> =>
    shell(`curl -s --noproxy '*' -o /dev/null -w '%{http_code}' --cacert '${pki}/ca.pem' ${args} ${url}`);
  const presented = `--cert '${pki}/gitaly-b.internal.pem' --key '${pki}/gitaly-b.internal.key'`;
  expect(await curl(presented)).toEqual({ exitCode: 0, output: '200' });
  expect(await curl('')).toEqual({ exitCode: 0, output: '403' });
  backend.closeConnections();
  await gate.endsWithNothingLeaked();
});

test('a renewal is put in force by a running proxy', async () => {
  const { pki, create, certificate } = await prepare();
  expect((await create('--server localhost')).exitCode).toBe(0);
  const proxy = await ProxyProcess.start({
    configuration: {
      tls: { certificate_path: join(pki, 'localhost.pem'), key_path: join(pki, 'localhost.key') },
      listeners: [{ listen: 'tls://127.0.0.1:0', forward: await startGrpcBackend() }],
    },
  });
  expect((await create('--renew --days 700')).exitCode).toBe(0);
  const end = new Date((await certificate('localhost')).validTo).getTime() / 1000;
  await proxy.scrapeUntil(
    (scrape) => scrape.value('gitaly_tls_proxy_tls_certificate_not_after_timestamp_seconds') === end,
  );
  expect((await proxy.scrape()).value('gitaly_tls_proxy_tls_reloads_total', { result: 'failure' })).toBe(0);
  await proxy.endsWithNothingLeaked();
});
