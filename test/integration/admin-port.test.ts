import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

import { expect, onTestFinished, test } from 'vitest';

import { readToEnd } from '../support/clients.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';
import { shell } from '../support/shell.js';

const LIVENESS = 'GET /-/liveness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';

/** Connects to the admin port, as one who does not leave. */
async function visit(proxy: ProxyProcess, localAddress = '127.0.0.1'): Promise<Socket> {
  const { hostname, port } = new URL(await proxy.adminUrl());
  const socket = connect({ host: hostname, port: Number(port), localAddress, allowHalfOpen: true });
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Sends bytes and reads the answer to the end of the connection. */
async function say(proxy: ProxyProcess, bytes: string): Promise<string> {
  const socket = await visit(proxy);
  socket.write(bytes);
  return (await readToEnd(socket)).received.toString();
}

function ask(proxy: ProxyProcess, path: string, ...fields: readonly string[]): Promise<string> {
  return say(proxy, [`GET ${path} HTTP/1.1`, 'Connection: close', ...fields, '', ''].join('\r\n'));
}

test.each([
  ['say nothing', ''],
  ['keep a connection between two requests', 'GET /-/liveness HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['do not end their header', 'GET /-/liveness HTTP/1.1\r\nHost: lo'],
  ['do not read', 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(60)],
])('100 clients that %s do not starve liveness', async (_what, bytes) => {
  const { proxy } = await startSetup();
  const clients: Socket[] = [];
  // Some of them are closed for the others.
  for (let index = 0; index < 100; index++) {
    const client = await visit(proxy);
    client.pause().write(bytes);
    clients.push(client);
  }
  for (let index = 0; index < 5; index++) expect(await say(proxy, LIVENESS)).toContain('alive');
  for (const client of clients) client.destroy();
  await proxy.endsWithNothingLeaked();
});

test('connections of one address do not close those of another', async () => {
  const { proxy } = await startSetup();
  const request = 'GET /-/liveness HTTP/1.1\r\nHost: localhost\r\n\r\n';
  const scraper = await visit(proxy, '127.0.0.2');
  for (let index = 0; index < 40; index++) await visit(proxy);
  scraper.write(request);
  const [answer] = (await once(scraper, 'data')) as [Buffer];
  expect(answer.toString()).toContain('alive');
});

test('a client with more requests under way than any scraper has is closed', async () => {
  const { proxy } = await startSetup();
  const client = await visit(proxy);
  client.write('GET /-/rpcs HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(1000));
  await readToEnd(client);
  await proxy.endsWithNothingLeaked();
});

test('a Host that is not ours is refused on every page, and the log names the setting', async () => {
  const { proxy } = await startSetup();
  for (const path of ['/metrics', '/-/liveness', '/-/readiness', '/-/connections', '/-/rpcs', '/'])
    expect(await ask(proxy, path, 'Host: evil.example:9237')).toMatch(
      /^HTTP\/1\.1 421 [^]*unknown host "evil\.example:9237": use an IP address, or add the name to admin_hosts/u,
    );
  for (const host of ['localhost', '127.0.0.1:9237', '10.2.3.4', '[::1]:80'])
    expect(await ask(proxy, '/-/liveness', `Host: ${host}`)).toContain('alive');
  expect(await ask(proxy, '/-/liveness', 'Host: localhost', 'Host: evil.example')).toMatch(
    /^HTTP\/1\.1 400 /u,
  );
  expect(await say(proxy, 'GET /-/liveness HTTP/1.0\r\n\r\n')).toContain('alive');
  const lines = proxy.log.lines.filter(({ event }) => event === 'admin_request_refused');
  expect(lines).toEqual([
    expect.objectContaining({
      level: 'warning',
      error: 'the request names the host "evil.example:9237", which is not known',
      fix: 'If clients of the admin port may use this name, add it to admin_hosts.',
      'peer.address': expect.stringMatching(/^127\.0\.0\.1:\d+$/u) as unknown,
      count: 1,
    }),
  ]);
  await proxy.endsWithNothingLeaked();
});

test('a request of a web page of another origin is refused', async () => {
  const { proxy } = await startSetup();
  const host = `Host: ${new URL(await proxy.adminUrl()).host}`;
  for (const origin of ['http://evil.example', 'null', 'http://localhost:1'])
    expect(await ask(proxy, '/-/connections', host, `Origin: ${origin}`)).toMatch(/^HTTP\/1\.1 403 /u);
  expect(await ask(proxy, '/-/connections', host, `Origin: ${await proxy.adminUrl()}`)).toMatch(
    /^HTTP\/1\.1 200 /u,
  );
  await proxy.endsWithNothingLeaked();
});

test('admin_hosts are answered, and a reload changes them', async () => {
  const { proxy, configuration } = await startSetup({
    more: { admin_hosts: ['proxy.gitlab.svc', '*.pods.internal'] },
  });
  const status = async (host: string): Promise<string> =>
    (await ask(proxy, '/metrics', `Host: ${host}:9237`)).slice(9, 12);
  expect(await Promise.all(['proxy.gitlab.svc', 'a.pods.internal', 'new.internal'].map(status))).toEqual([
    '200',
    '200',
    '421',
  ]);
  await proxy.configure({ ...configuration, admin_hosts: ['new.internal'] });
  proxy.signal('SIGHUP');
  await proxy.log.waitForEvent('reloaded');
  expect(await Promise.all(['proxy.gitlab.svc', 'new.internal'].map(status))).toEqual(['421', '200']);
  await proxy.endsWithNothingLeaked();
});

test('a target in absolute form is answered by its path, under the host that it names', async () => {
  const { proxy } = await startSetup();
  const url = await proxy.adminUrl();
  const curl = async (target: string): Promise<string> =>
    (await shell(`curl -s -o /dev/null -w '%{http_code}' -x ${url} ${target}`)).output;
  expect(await curl('http://127.0.0.1:9237/metrics')).toContain('200');
  expect(await curl('http://localhost/-/rpcs?limit=1')).toContain('200');
  expect(await curl('http://node.example.test:9237/metrics')).toContain('421');
  expect(await ask(proxy, 'http://evil.example/metrics', 'Host: localhost')).toMatch(/^HTTP\/1\.1 421 /u);
  expect(await ask(proxy, 'http://localhost', 'Host: evil.example')).toMatch(/^HTTP\/1\.1 404 /u);
  await proxy.endsWithNothingLeaked();
});
