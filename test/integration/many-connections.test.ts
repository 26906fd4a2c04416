import { once } from 'node:events';
import { connect as connectTls, createSecureContext } from 'node:tls';

import { expect, onTestFinished, test } from 'vitest';

import { HEALTH_SERVING } from '../../src/commands/demo/demo-service.js';
import { startGrpcBackend } from '../support/backends.js';
import { HTTP2_PREFACE, readToEnd, tlsClient } from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { connected, residentBytes } from '../support/transfer.js';

const ACTIVE = 'gitaly_tls_proxy_connections_active';
const DROPPED = 'gitaly_tls_proxy_connections_dropped_total';
const CLOSED = 'gitaly_tls_proxy_connections_closed_total';

/** Handshakes under way at once: more would only wait for each other's cryptography. */
const AT_A_TIME = 50;

test('1000 idle TLS connections are held, each in little memory; the next takes the place of the oldest, and all end cleanly', async () => {
  const COUNT = 1000;
  // Measured are about 52 KiB; this leaves room for a heap that has not been collected lately.
  const BYTES_EACH_MAX = 128 * 1024;
  const { ca, backend, proxy, port } = await startSetup({
    more: { max_connections: COUNT, max_unauthenticated_connections: COUNT },
  });
  // Made once: for each connection it would cost more than the handshake.
  const secureContext = createSecureContext({ ca: ca.caPem });
  const before = residentBytes(proxy.pid);
  const clients = [];
  for (let opened = 0; opened < COUNT; opened += AT_A_TIME) {
    const batch = Array.from({ length: AT_A_TIME }, async () => {
      const client = await tlsClient(port, { secureContext });
      await connected(client, backend);
      return client;
    });
    clients.push(...(await Promise.all(batch)));
  }
  expect((await proxy.scrape()).value(ACTIVE)).toBe(COUNT);
  expect((residentBytes(proxy.pid) - before) / COUNT).toBeLessThan(BYTES_EACH_MAX);

  const [oldest, ...open] = clients;
  if (!oldest) throw new Error('no client was connected');
  const replaced = readToEnd(oldest);
  const newcomer = await tlsClient(port, { secureContext });
  await connected(newcomer, backend);
  open.push(newcomer);
  expect((await replaced).kind).toBe('reset');
  await proxy.scrapeUntil(
    (scrape) => scrape.value(DROPPED, { reason: 'max_unauthenticated_connections' }) === 1,
  );

  const answers = open.map((client) => once(client, 'data'));
  for (const { socket } of backend.connections) socket.write('still here');
  for (const [answer] of await Promise.all(answers)) expect(String(answer)).toBe('still here');

  const endings = open.map(readToEnd);
  for (const client of open) client.end();
  for (const { socket } of backend.connections) socket.end();
  for (const { kind } of await Promise.all(endings)) expect(kind).toBe('end');
  await proxy.scrapeUntil((scrape) => scrape.value(CLOSED, { reason: 'finished' }) === COUNT);
  await proxy.endsWithNothingLeaked();
});

test('a flood of handshakes does not keep an honest client out, and leaves nothing behind', async () => {
  const FLOODERS = 10;
  const CALLS = 3;
  const forward = await startGrpcBackend();
  const { ca, proxy, port } = await startSetup({ listener: { forward } });
  const secureContext = createSecureContext({ ca: ca.caPem });
  let flooding = true;
  let handshakes = 0;
  const flooders = Array.from({ length: FLOODERS }, async () => {
    while (flooding) {
      const client = connectTls({
        host: '127.0.0.1',
        port,
        servername: 'localhost',
        ALPNProtocols: ['h2'],
        secureContext,
      });
      onTestFinished(() => void client.destroy());
      await once(client, 'secureConnect');
      handshakes++;
      // Every second one is broken off within its first bytes.
      if (handshakes % 2 === 0) client.write(HTTP2_PREFACE.subarray(0, 9));
      client.destroy();
    }
  });
  for (let made = 0; made < CALLS; made++) {
    const honest = new GrpcClient(await proxy.address(TLS_LISTENER), { ca: ca.caPem });
    expect(await honest.health()).toEqual(HEALTH_SERVING);
    honest.close();
  }
  flooding = false;
  await Promise.all(flooders);
  expect(handshakes).toBeGreaterThanOrEqual(FLOODERS);
  await proxy.scrapeUntil((scrape) => scrape.value(CLOSED) === handshakes + CALLS);
  await proxy.endsWithNothingLeaked();
});
