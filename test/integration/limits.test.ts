import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

import { expect, onTestFinished, test } from 'vitest';

import { RawBackend, startGrpcBackend } from '../support/backends.js';
import { readToEnd, tcpClient } from '../support/clients.js';
import { TEST_CLOCK } from '../support/fast-clock.js';
import { GrpcClient } from '../support/grpc-client.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { connected } from '../support/transfer.js';
import { HEALTH_SERVING } from '../../src/commands/demo/demo-service.js';

const TCP_LISTENER = 'tcp://127.0.0.1:0';
const DROPPED = 'gitaly_tls_proxy_connections_dropped_total';
const ACTIVE = 'gitaly_tls_proxy_connections_active';
const HANDSHAKE_FAILURES = 'gitaly_tls_proxy_tls_handshake_failures_total';

test('max_connections refuses with a fix in the log, counts, and recovers', async () => {
  const backend = await RawBackend.start();
  const proxy = await ProxyProcess.start({
    configuration: {
      // Without inspection the first byte of the upstream shows that it serves the client, which then keeps its place.
      listeners: [{ listen: TCP_LISTENER, forward: backend.url, inspect: false }],
      max_connections: 2,
      max_unauthenticated_connections: 2,
    },
  });
  const port = await proxy.port(TCP_LISTENER);
  const served = [await tcpClient(port), await tcpClient(port)] as const;
  for (const client of served) {
    const answer = once(client, 'data');
    (await connected(client, backend)).socket.write('served');
    await answer;
  }
  const refused = Array.from({ length: 5 }, async () => readToEnd(await tcpClient(port)));
  for (const { received } of await Promise.all(refused)) expect(received).toHaveLength(0);
  await proxy.scrapeUntil((scrape) => scrape.value(DROPPED, { reason: 'max_connections' }) === 5);
  const line = await proxy.log.waitForEvent('connection_refused', { 'close.reason': 'max_connections' });
  expect(line).toMatchObject({ level: 'warning', listener: TCP_LISTENER });
  expect(line['fix']).toContain('raise max_connections');
  // A flood of refusals is no flood of lines.
  expect(proxy.log.lines.filter(({ 'close.reason': reason }) => reason === 'max_connections')).toHaveLength(
    1,
  );
  expect(backend.connections).toHaveLength(2);

  served[0].destroy();
  backend.connections[0]?.socket.destroy();
  await proxy.scrapeUntil((scrape) => scrape.value(ACTIVE) === 1);
  const later = await tcpClient(port);
  await connected(later, backend);
  for (const client of [served[1], later]) client.destroy();
  for (const { socket } of backend.connections) socket.destroy();
  await proxy.endsWithNothingLeaked();
});

test('with 64 descriptors (ulimit -n 64) it refuses, counts, stays observable, and recovers', async () => {
  const backend = await RawBackend.start();
  const proxy = await ProxyProcess.start({
    configuration: { listeners: [{ listen: TCP_LISTENER, forward: backend.url }] },
    openFiles: 64,
  });
  const port = await proxy.port(TCP_LISTENER);
  const REASON = { reason: 'descriptors' };
  let droppedBefore = 0;
  for (let round = 0; round < 2; round++) {
    const clients: Socket[] = [];
    const endings = [];
    for (let index = 0; index < 60; index++) {
      const client = await tcpClient(port);
      clients.push(client);
      endings.push(readToEnd(client));
    }
    // Every one is either held or was counted: none is lost to EMFILE, of which nobody hears.
    const scrape = await proxy.scrapeUntil(
      (sample) => sample.value(ACTIVE) + sample.value(DROPPED, REASON) - droppedBefore === 60,
    );
    const held = scrape.value(ACTIVE);
    droppedBefore = scrape.value(DROPPED, REASON);
    expect(held).toBeGreaterThanOrEqual(4);
    expect(held).toBeLessThan(32);
    for (const client of clients) client.destroy();
    await Promise.all(endings);
    await proxy.scrapeUntil((sample) => sample.value(ACTIVE) === 0);
  }
  const line = await proxy.log.waitForEvent('connection_refused', { 'close.reason': 'descriptors' });
  expect(line['fix']).toContain('ulimit -n');

  const later = await tcpClient(port);
  await connected(later, backend);
  later.destroy();
  for (const { socket } of backend.connections) socket.destroy();
  await proxy.endsWithNothingLeaked();
});

test('a handshake that is not finished within timeouts.handshake is reset and counted, silent or dribbling', async () => {
  const { backend, proxy, port } = await startSetup({ more: { timeouts: { handshake: '300ms' } } });
  const silent = await tcpClient(port);
  const dribbling = await tcpClient(port);
  // The header of a record that announces 512 bytes of ClientHello, and then a byte at a time.
  dribbling.write(Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]));
  const dribble = setInterval(() => dribbling.write(Buffer.from([0])), 50);
  onTestFinished(() => clearInterval(dribble));
  const endings = await Promise.all([readToEnd(silent), readToEnd(dribbling)]);
  clearInterval(dribble);
  expect(endings.map(({ kind }) => kind)).toEqual(['reset', 'reset']);
  await proxy.scrapeUntil((scrape) => scrape.value(HANDSHAKE_FAILURES, { reason: 'timeout' }) === 2);
  const line = await proxy.log.waitForClose('handshake_failed');
  expect(line).toMatchObject({ level: 'warning', 'close.initiator': 'proxy' });
  expect(line['close.advice']).toContain('timeouts.handshake');
  expect(backend.connections).toHaveLength(0);
  await proxy.endsWithNothingLeaked();
});

test('200 silent connections do not keep an honest client out, and all are closed and counted', async () => {
  const forward = await startGrpcBackend();
  const { ca, proxy, port } = await startSetup({
    listener: { forward },
    more: { timeouts: { handshake: '5m' } },
    ...TEST_CLOCK,
  });
  const silent = Array.from({ length: 200 }, () => connect({ host: '127.0.0.1', port }));
  onTestFinished(() => silent.forEach((client) => client.destroy()));
  await Promise.all(silent.map((client) => once(client, 'connect')));
  const endings = silent.map(readToEnd);
  const honest = new GrpcClient(await proxy.address(TLS_LISTENER), { ca: ca.caPem });
  expect(await honest.health()).toEqual(HEALTH_SERVING);
  honest.close();
  expect((await proxy.scrape()).value(ACTIVE)).toBeGreaterThanOrEqual(200);
  await proxy.advanceClock(300_000);
  await Promise.all(endings);
  await proxy.scrapeUntil((scrape) => scrape.value(HANDSHAKE_FAILURES, { reason: 'timeout' }) === 200);
  await proxy.endsWithNothingLeaked();
});
