import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';

import { describe, expect, onTestFinished, test } from 'vitest';

import { RawBackend } from '../support/backends.js';
import { BACKCHANNEL_PREFACE, readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';
import { connected, MIB, receiveSlowly, send, unrecorded } from '../support/transfer.js';

const TCP_LISTENER = 'tcp://127.0.0.1:0';

async function startTcp() {
  const backend = await RawBackend.start();
  const proxy = await ProxyProcess.start({
    configuration: { listeners: [{ listen: TCP_LISTENER, forward: backend.url }] },
  });
  return { backend, proxy, port: await proxy.port(TCP_LISTENER) };
}

/** A TLS client and the socket below, which alone can be reset. */
async function resettableTlsClient(port: number, ca: string): Promise<{ client: Socket; raw: Socket }> {
  const raw = connect({ host: '127.0.0.1', port });
  onTestFinished(() => void raw.destroy());
  raw.on('error', () => undefined);
  const client = connectTls({ socket: raw, servername: 'localhost', ALPNProtocols: ['h2'], ca });
  client.on('error', () => undefined);
  await once(client, 'secureConnect');
  return { client, raw };
}

describe('an end stays an end', () => {
  test('a client that has finished still gets the whole answer', async () => {
    const { ca, backend, proxy, port } = await startSetup();
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    client.end();
    expect(await upstream.ended).toBe('end');
    const [sent, got] = await Promise.all([send(upstream.socket, 2 * MIB), receiveSlowly(client)]);
    expect(got).toBe(sent);
    expect(await proxy.log.waitForClose('finished')).toMatchObject({ 'close.initiator': 'client' });
    await proxy.endsWithNothingLeaked();
  });

  test('a backend that has finished still gets the whole upload', async () => {
    const { ca, backend, proxy, port } = await startSetup();
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    upstream.socket.end();
    await once(client.resume(), 'end');
    const [sent, got] = await Promise.all([send(client, 2 * MIB), receiveSlowly(unrecorded(upstream))]);
    expect(got).toBe(sent);
    expect(await proxy.log.waitForClose('finished')).toMatchObject({ 'close.initiator': 'upstream' });
    await proxy.endsWithNothingLeaked();
  });
});

describe('a reset stays a reset: a cut stream never looks like a finished one', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)('of the backend, through %s', async (version) => {
    const { ca, backend, proxy, port } = await startSetup();
    const client = await tlsClient(port, { ca: ca.caPem, minVersion: version, maxVersion: version });
    const upstream = await connected(client, backend);
    upstream.socket.write(randomBytes(100_000));
    await once(client, 'data');
    const ending = readToEnd(client);
    upstream.reset();
    expect((await ending).kind).toBe('reset');
    expect(await proxy.log.waitForClose('reset')).toMatchObject({ 'close.initiator': 'upstream' });
    await proxy.endsWithNothingLeaked();
  });

  test('of the client, in plaintext', async () => {
    const { backend, proxy, port } = await startTcp();
    const client = await tcpClient(port);
    const upstream = await connected(client, backend);
    client.resetAndDestroy();
    expect(await upstream.ended).toBe('reset');
    expect(await proxy.log.waitForClose('reset')).toMatchObject({ 'close.initiator': 'client' });
    await proxy.endsWithNothingLeaked();
  });

  test('of the client, below TLS', async () => {
    const { ca, backend, proxy, port } = await startSetup();
    const { client, raw } = await resettableTlsClient(port, ca.caPem);
    const upstream = await connected(client, backend);
    raw.resetAndDestroy();
    expect(await upstream.ended).toBe('reset');
    expect(await proxy.log.waitForClose('reset')).toMatchObject({ 'close.initiator': 'client' });
    await proxy.endsWithNothingLeaked();
  });
});

describe('1000 resets of clients leak nothing', () => {
  const ROUNDS = 20;

  test('800 in plaintext: before the first byte, within the preface, in mid-stream', async () => {
    const { backend, proxy, port } = await startTcp();
    const prefaces = [Buffer.alloc(0), BACKCHANNEL_PREFACE.subarray(0, 5), BACKCHANNEL_PREFACE];
    for (let round = 0; round < ROUNDS; round++) {
      await Promise.all(
        Array.from({ length: 800 / ROUNDS }, async (_, index) => {
          const client = connect({ host: '127.0.0.1', port });
          client.on('error', () => undefined);
          await once(client, 'connect');
          client.write(prefaces[index % prefaces.length] ?? '');
          if (index % 2 === 0) await nextTurn();
          client.resetAndDestroy();
          await once(client, 'close');
        }),
      );
    }
    await proxy.scrapeUntil(
      (scrape) => scrape.value('gitaly_tls_proxy_connections_closed_total', { initiator: 'client' }) === 800,
    );
    for (const { socket } of backend.connections) socket.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('200 below TLS: within the handshake, after it, in mid-stream', async () => {
    const { ca, backend, proxy, port } = await startSetup();
    for (let round = 0; round < ROUNDS; round++) {
      await Promise.all(
        Array.from({ length: 200 / ROUNDS }, async (_, index) => {
          const raw = connect({ host: '127.0.0.1', port });
          raw.on('error', () => undefined);
          const client = connectTls({
            socket: raw,
            servername: 'localhost',
            ALPNProtocols: ['h2'],
            ca: ca.caPem,
          });
          client.on('error', () => undefined);
          // The server's flight has come.
          if (index % 3 === 0) await once(raw, 'connect');
          else await once(client, 'secureConnect');
          if (index % 3 === 2) client.write(BACKCHANNEL_PREFACE);
          await nextTurn();
          raw.resetAndDestroy();
          await once(raw, 'close');
        }),
      );
    }
    await proxy.scrapeUntil(
      (scrape) => scrape.value('gitaly_tls_proxy_connections_closed_total', { initiator: 'client' }) === 200,
    );
    for (const { socket } of backend.connections) socket.destroy();
    await proxy.endsWithNothingLeaked();
  });
});
