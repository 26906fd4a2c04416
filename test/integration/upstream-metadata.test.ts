import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';

import { gitalyAuthorization } from '../../src/gitaly-client/gitaly-token.js';
import { libraryClient } from '../support/grpc-client.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { StandInGitaly } from '../support/stand-in-gitaly.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { callUnary } from '../support/unary-call.js';

const LISTEN = 'tcp://127.0.0.1:0';
const SERVER_INFO = '/gitaly.ServerService/ServerInfo';
const SECRET = 'the shared secret of Gitaly';

/** A Gitaly that wants a token, and a proxy that has it. */
async function startWithToken(workers = 1) {
  const gitaly = await StandInGitaly.start({ token: SECRET });
  const tokenPath = join(await temporaryDirectory(), 'gitaly.token');
  await writeFile(tokenPath, `${SECRET}\n`, { mode: 0o600 });
  const configuration = {
    logging: { level: 'debug', rpc: 'all' },
    workers,
    listeners: [{ listen: LISTEN, forward: gitaly.url, upstream_token_path: tokenPath }],
  };
  const proxy = await ProxyProcess.start({ configuration });
  const client = libraryClient((await proxy.address(LISTEN)).host, undefined);
  return { gitaly, tokenPath, proxy, client };
}

test.each([1, 2])(
  'a call without a token is served through upstream_token_path, with %i workers',
  async (workers) => {
    const { gitaly, proxy, client } = await startWithToken(workers);
    const direct = libraryClient(new URL(gitaly.url).host, undefined);
    expect(await callUnary(direct, SERVER_INFO)).toMatchObject({ code: status.UNAUTHENTICATED });
    for (let call = 0; call < 3; call++)
      expect(await callUnary(client, SERVER_INFO)).toEqual({ code: status.OK, details: '' });
    client.close();
    await proxy.endsWithNothingLeaked();
  },
);

test('a call keeps its own authorization, right or wrong', async () => {
  const { gitaly, proxy, client } = await startWithToken();
  const own = gitalyAuthorization(SECRET, Date.now() - 5000);
  expect(await callUnary(client, SERVER_INFO, undefined, { authorization: own })).toMatchObject({ code: 0 });
  const wrong = gitalyAuthorization('another secret', Date.now());
  const refused = await callUnary(client, SERVER_INFO, undefined, { authorization: wrong });
  expect(refused.code).toBe(status.PERMISSION_DENIED);
  expect(gitaly.authorizations).toEqual([own, wrong]);
  client.close();
  await proxy.endsWithNothingLeaked();
});

test('a new token is used on open connections after a reload, and a file without one changes nothing', async () => {
  const { gitaly, tokenPath, proxy, client } = await startWithToken();
  expect(await callUnary(client, SERVER_INFO)).toMatchObject({ code: 0 });
  await writeFile(tokenPath, ' \n');
  proxy.signal('SIGHUP');
  const failed = await proxy.log.waitForEvent('reload_failed');
  expect(failed['error']).toContain('the file is empty');
  expect(await callUnary(client, SERVER_INFO)).toMatchObject({ code: 0 });
  await writeFile(tokenPath, 'another secret');
  // Its file is watched.
  await proxy.log.waitForEvent('reloaded');
  expect(await callUnary(client, SERVER_INFO)).toMatchObject({ code: status.PERMISSION_DENIED });
  const [first, second, third] = gitaly.authorizations.map((value) => value?.split('.')[1]);
  expect(first === third || second === third).toBe(false);
  client.close();
  await proxy.endsWithNothingLeaked();
});

test('neither the secret nor a signature of it is logged, at any level', async () => {
  const { gitaly, proxy, client } = await startWithToken();
  await callUnary(client, SERVER_INFO);
  await callUnary(client, '/gitaly.Unknown/Method');
  const admin = await proxy.adminUrl();
  const page = async (path: string): Promise<string> =>
    (await fetch(`${admin}${path}`, { headers: { connection: 'close' } })).text();
  const pages = [await page('/-/connections'), await page('/-/rpcs'), await page('/metrics')];
  client.close();
  await proxy.endsWithNothingLeaked();
  const [signature = ''] = /[\da-f]{64}/u.exec(gitaly.authorizations[0] ?? '') ?? [];
  expect(signature).not.toBe('');
  for (const text of [proxy.log.text, proxy.stderr.text, ...pages]) {
    expect(text).not.toContain(SECRET);
    expect(text).not.toContain(signature);
  }
});

test.each([
  ['a missing', undefined, 'no such file'],
  ['an empty', '\n', 'the file is empty'],
  ['a too large', 'x'.repeat(100_000), 'larger than 64 KiB'],
])('%s token file is an error at startup', async (_, content, message) => {
  const tokenPath = join(await temporaryDirectory(), 'gitaly.token');
  if (content !== undefined) await writeFile(tokenPath, content, { mode: 0o600 });
  const listeners = [{ listen: LISTEN, forward: 'tcp://127.0.0.1:1', upstream_token_path: tokenPath }];
  const proxy = await ProxyProcess.spawn({ configuration: { listeners } });
  expect(await proxy.exited).toBe(2);
  expect(proxy.stderr.text).toContain('upstream_token_path');
  expect(proxy.stderr.text).toContain(message);
});

test('the identity of the client is added, and a client that sends the field itself is refused', async () => {
  const gitaly = await StandInGitaly.start();
  const field = 'x-gitaly-client-identity';
  const { ca, proxy } = await startSetup((authority) => ({
    tls: { client_auth: 'optional', client_ca_path: authority.caPath },
    listener: { forward: gitaly.url, upstream_metadata: { [field]: 'identity' } },
  }));
  const address = (await proxy.address(TLS_LISTENER)).host;
  const { certificatePem, keyPem } = await ca.client();
  const known = libraryClient(address, { ca: ca.caPem, certificate: certificatePem, key: keyPem });
  const anonymous = libraryClient(address, { ca: ca.caPem });
  expect(await callUnary(known, SERVER_INFO)).toMatchObject({ code: 0 });
  expect(await callUnary(anonymous, SERVER_INFO)).toMatchObject({ code: 0 });
  for (const client of [known, anonymous]) {
    const refused = await callUnary(client, SERVER_INFO, undefined, { [field]: 'dns:rails.internal' });
    expect(refused.code).toBe(status.PERMISSION_DENIED);
    expect(refused.details).toContain(`has the field ${field}, which only the proxy may set`);
  }
  expect(await callUnary(known, SERVER_INFO)).toMatchObject({ code: 0 });
  expect(gitaly.metadata.map((metadata) => metadata[field])).toEqual([
    'client.test',
    undefined,
    'client.test',
  ]);
  known.close();
  anonymous.close();
  await proxy.endsWithNothingLeaked();
});
