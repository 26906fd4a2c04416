import { status, type ServiceError } from '@grpc/grpc-js';
import { get } from 'node:http';

import { expect, test } from 'vitest';

import { HEALTH_SERVING, REPEATS } from '../../src/commands/demo/demo-service.js';
import { RawBackend, startGrpcBackend } from '../support/backends.js';
import { readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { connected } from '../support/transfer.js';

const BYTES = 'gitaly_tls_proxy_connection_bytes_total';
const TCP_LISTENER = 'tcp://127.0.0.1:0';
/** Where nobody looks inside, nobody knows when a connection is idle: it lasts until one of its ends is done. */
const NOT_FOLLOWED = { listen: TCP_LISTENER, inspect: false };

/** The status and the body of a path of the admin port. */
async function ask(proxy: ProxyProcess, path: string): Promise<{ status: number | undefined; body: string }> {
  const url = `${await proxy.adminUrl()}${path}`;
  return new Promise((resolve, reject) => {
    get(url, { agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
      response.once('end', () => resolve({ status: response.statusCode, body }));
    }).once('error', reject);
  });
}

/** Sends SIGTERM and waits until it was taken. */
async function drain(proxy: ProxyProcess): Promise<void> {
  proxy.signal('SIGTERM');
  await proxy.log.waitForEvent('draining');
}

test('SIGTERM with 100 streams running: readiness fails, new connections are refused, all streams finish, exit 0', async () => {
  const forward = await startGrpcBackend();
  const { ca, proxy, port } = await startSetup({ listener: { forward } });
  const address = await proxy.address(TLS_LISTENER);
  const clients = Array.from({ length: 4 }, () => new GrpcClient(address, { ca: ca.caPem }));
  // More than the windows of HTTP/2 hold: each stream waits for its client after the first two messages.
  const message = Buffer.alloc(100_000, 'x');
  const streams = await Promise.all(
    clients.flatMap((client) => Array.from({ length: 25 }, () => client.repeatUnread(message))),
  );
  expect((await proxy.scrape()).value(BYTES, { direction: 'to_client' })).toBeLessThan(
    (100 * REPEATS * message.length) / 2,
  );
  expect(await ask(proxy, '/-/readiness')).toMatchObject({ status: 200 });

  await drain(proxy);
  expect(await ask(proxy, '/-/readiness')).toMatchObject({
    status: 503,
    body: expect.stringContaining('draining') as unknown,
  });
  expect(await ask(proxy, '/-/liveness')).toMatchObject({ status: 200 });
  await expect(tlsClient(port, { ca: ca.caPem })).rejects.toThrow('ECONNREFUSED');
  expect(await Promise.all(streams.map(({ rest }) => rest()))).toEqual(
    Array.from({ length: 100 }, () => REPEATS),
  );
  // The last call of each connection has ended: nobody need close a client for the proxy to stop.
  expect(await proxy.exited).toBe(0);
  for (const client of clients) client.close();
  await proxy.log.waitForEvent('stopped');
});

test('connections that are open after graceful_restart_timeout are reset, and logged with their number, exit 1', async () => {
  const backend = await RawBackend.start();
  const proxy = await ProxyProcess.start({
    configuration: {
      listeners: [{ ...NOT_FOLLOWED, forward: backend.url }],
      graceful_restart_timeout: '300ms',
    },
  });
  const port = await proxy.port(TCP_LISTENER);
  const endings = [];
  for (let index = 0; index < 3; index++) {
    const client = await tcpClient(port);
    const upstream = await connected(client, backend);
    endings.push(
      readToEnd(client),
      upstream.ended.then((kind) => ({ kind })),
    );
  }
  await drain(proxy);
  // Neither side may take what it has for the whole.
  for (const { kind } of await Promise.all(endings)) expect(kind).toBe('reset');
  expect(await proxy.exited).toBe(1);
  const line = await proxy.log.waitForEvent('stop_incomplete');
  expect(line).toMatchObject({ level: 'warning', connections: 3 });
  expect(await proxy.log.waitForClose('drain_timeout')).toMatchObject({ 'close.initiator': 'proxy' });
});

test('a gRPC client that is cut at the end sees an error and never the end of a stream; an idle one leaves before', async () => {
  const { ca, proxy } = await startSetup({
    listener: { forward: await startGrpcBackend() },
    more: { graceful_restart_timeout: '300ms' },
  });
  const address = await proxy.address(TLS_LISTENER);
  const [busy, idle] = [new GrpcClient(address, { ca: ca.caPem }), new GrpcClient(address, { ca: ca.caPem })];
  const { rest } = await busy.repeatUnread(Buffer.alloc(1_000_000, 'x'));
  expect(await idle.health()).toEqual(HEALTH_SERVING);
  await drain(proxy);
  expect(await proxy.log.waitForClose('finished')).toMatchObject({ 'close.initiator': 'client' });
  expect(await proxy.exited).toBe(1);
  // After GOAWAY grpc-js calls a reset INTERNAL, whoever sends it.
  await expect(rest()).rejects.toSatisfy(({ code }: ServiceError) =>
    [status.UNAVAILABLE, status.INTERNAL].includes(code),
  );
  await expect(idle.health()).rejects.toMatchObject({ code: status.UNAVAILABLE });
  const line = await proxy.log.waitForEvent('stop_incomplete');
  expect(line).toMatchObject({ connections: 1 });
});

test('connections of a listener that a reload removed are let finish too', async () => {
  const backend = await RawBackend.start();
  const proxy = await ProxyProcess.start({
    configuration: { listeners: [{ ...NOT_FOLLOWED, forward: backend.url }] },
  });
  const client = await tcpClient(await proxy.port(TCP_LISTENER));
  const upstream = await connected(client, backend);
  await proxy.configure({ listeners: [{ listen: 'tcp://127.0.0.2:0', forward: backend.url }] });
  proxy.signal('SIGHUP');
  await proxy.log.waitForEvent('listener_removed');
  await drain(proxy);
  client.end();
  upstream.socket.end('whole');
  expect(await readToEnd(client)).toMatchObject({ kind: 'end', received: Buffer.from('whole') });
  expect(await proxy.exited).toBe(0);
});

test('a second signal stops at once', async () => {
  const backend = await RawBackend.start();
  const proxy = await ProxyProcess.start({
    configuration: {
      listeners: [{ ...NOT_FOLLOWED, forward: backend.url }],
      graceful_restart_timeout: '1h',
    },
  });
  const client = await tcpClient(await proxy.port(TCP_LISTENER));
  await connected(client, backend);
  const ending = readToEnd(client);
  await drain(proxy);
  proxy.signal('SIGTERM');
  expect((await ending).kind).toBe('reset');
  expect(await proxy.exited).toBe(1);
});

test('SIGHUP during the drain is harmless: nothing is bound again, and it ends as it would have', async () => {
  const backend = await RawBackend.start();
  const proxy = await ProxyProcess.start({
    configuration: { listeners: [{ ...NOT_FOLLOWED, forward: backend.url }] },
  });
  const port = await proxy.port(TCP_LISTENER);
  const client = await tcpClient(port);
  const upstream = await connected(client, backend);
  await drain(proxy);
  proxy.signal('SIGHUP');
  // The answer comes after the signal was taken: signals and sockets are read by one loop.
  expect(await ask(proxy, '/-/readiness')).toMatchObject({ status: 503 });
  await expect(tcpClient(port)).rejects.toThrow('ECONNREFUSED');
  client.end();
  upstream.socket.end();
  await readToEnd(client);
  expect(await proxy.exited).toBe(0);
});

test('SIGTERM with nothing open ends at once, exit 0', async () => {
  const { proxy } = await startSetup();
  proxy.signal('SIGTERM');
  expect(await proxy.exited).toBe(0);
});
