import { once } from 'node:events';
import type { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import { SWEEP_MS_MAX } from '../../src/limits.js';
import { readToEnd, tlsClient } from '../support/clients.js';
import { TEST_CLOCK } from '../support/fast-clock.js';
import { windowCloses } from '../support/process-facts.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';
import { connected, MIB } from '../support/transfer.js';

const BYTE = Buffer.from('x');

const DEADLINE = '5m';
const DEADLINE_MS = 300_000;
/** Less than the deadline, and more than half of it. */
const BEFORE_DEADLINE_MS = 0.9 * DEADLINE_MS;

/** Sends a byte, and waits until it has arrived. */
async function passByte(from: Socket, to: Socket): Promise<void> {
  const arrived = once(to, 'data');
  from.write(BYTE);
  expect(await arrived).toEqual([BYTE]);
}

describe('timeouts.idle', () => {
  const idle = { ...TEST_CLOCK, more: { timeouts: { idle: DEADLINE } } };

  test('a silent connection is reset at the deadline', async () => {
    const { ca, backend, proxy, port } = await startSetup(idle);
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    const ending = readToEnd(client);
    await proxy.advanceClock(DEADLINE_MS + 2 * SWEEP_MS_MAX);
    expect((await ending).kind).toBe('reset');
    expect(await upstream.ended).toBe('reset');
    expect(await proxy.log.waitForClose('idle_timeout')).toMatchObject({ 'close.initiator': 'proxy' });
    await proxy.endsWithNothingLeaked();
  });

  test.each(['client', 'upstream'] as const)(
    'a connection on which only the %s sends a byte before each deadline stays open',
    async (sender) => {
      const { ca, backend, proxy, port } = await startSetup(idle);
      const client = await tlsClient(port, { ca: ca.caPem });
      const { socket } = await connected(client, backend);
      const [from, to] = sender === 'client' ? [client, socket] : [socket, client];
      for (let byte = 0; byte < 5; byte++) {
        await passByte(from, to);
        await proxy.advanceClock(BEFORE_DEADLINE_MS);
      }
      await passByte(from, to);
      await passByte(to, from);
      client.destroy();
      socket.destroy();
      await proxy.endsWithNothingLeaked();
    },
  );
});

describe('timeouts.write_stall', () => {
  // Zeros are frames without content, whose number is limited where calls are followed.
  const stall = {
    ...TEST_CLOCK,
    listener: { inspect: false },
    more: { timeouts: { write_stall: DEADLINE } },
  };

  test.each(['client', 'upstream'] as const)(
    'a connection whose %s stops reading is reset at the deadline',
    async (stalled) => {
      const { ca, backend, proxy, port } = await startSetup(stall);
      const client = await tlsClient(port, { ca: ca.caPem });
      const upstream = await connected(client, backend);
      const reader = stalled === 'client' ? client : upstream.socket;
      const writer = stalled === 'client' ? upstream.socket : client;
      reader.pause();
      const ending = readToEnd(writer);
      writer.write(Buffer.alloc(64 * MIB));
      await windowCloses(reader);
      await proxy.advanceClock(DEADLINE_MS + 2 * SWEEP_MS_MAX);
      const line = await proxy.log.waitForClose('write_stall');
      expect(line).toMatchObject({ 'close.initiator': 'proxy', level: 'warning' });
      expect(line['close.detail']).toContain(stalled === 'client' ? 'the client' : 'Gitaly');
      expect((await ending).kind).toBe('reset');
      reader.resume();
      await proxy.endsWithNothingLeaked();
    },
  );

  test('a client that reads a little before each deadline keeps its connection', async () => {
    const { ca, backend, proxy, port } = await startSetup(stall);
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    client.pause();
    upstream.socket.write(Buffer.alloc(128 * MIB));
    for (let read = 0; read < 4; read++) {
      await windowCloses(client);
      const before = await bytesToClient(proxy);
      // Until the proxy has been able to send more.
      do await readBytes(client, MIB);
      while ((await bytesToClient(proxy)) === before);
      await proxy.advanceClock(BEFORE_DEADLINE_MS);
    }
    await readBytes(client, MIB);
    expect(client.destroyed).toBe(false);
    client.destroy();
    upstream.socket.destroy();
    await proxy.endsWithNothingLeaked();
    expect(proxy.log.text).not.toContain('write_stall');
  });
});

describe('timeouts.half_close', () => {
  const halfClose = { ...TEST_CLOCK, more: { timeouts: { half_close: DEADLINE } } };

  test('a connection that is silent after one side has finished is reset at the deadline', async () => {
    const { ca, backend, proxy, port } = await startSetup(halfClose);
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    const ending = readToEnd(client);
    client.end();
    expect(await upstream.ended).toBe('end');
    await proxy.advanceClock(DEADLINE_MS);
    expect((await ending).kind).toBe('reset');
    expect(await proxy.log.waitForClose('half_close_timeout')).toMatchObject({ 'close.initiator': 'proxy' });
    await proxy.endsWithNothingLeaked();
  });

  test('an answer that sends a byte before each deadline arrives whole', async () => {
    const { ca, backend, proxy, port } = await startSetup(halfClose);
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    const ending = readToEnd(client);
    client.end();
    await upstream.ended;
    for (let byte = 0; byte < 5; byte++) {
      await passByte(upstream.socket, client);
      await proxy.advanceClock(BEFORE_DEADLINE_MS);
    }
    upstream.socket.end();
    const { kind, received } = await ending;
    expect([kind, received.length]).toEqual(['end', 5]);
    await proxy.log.waitForClose('finished');
    await proxy.endsWithNothingLeaked();
  });
});

test('an established connection outlives every other deadline: no total timeout exists', async () => {
  const { ca, backend, proxy, port } = await startSetup({
    ...TEST_CLOCK,
    more: { timeouts: { handshake: '1m', preface: '1m', dial: '1m', half_close: '1m' } },
  });
  const client = await tlsClient(port, { ca: ca.caPem });
  const upstream = await connected(client, backend);
  await proxy.advanceClock(DEADLINE_MS);
  await passByte(upstream.socket, client);
  client.end();
  await upstream.ended;
  upstream.socket.end();
  expect(await proxy.log.waitForClose('finished')).toMatchObject({ 'bytes.to_client': 1 });
  await proxy.endsWithNothingLeaked();
});

async function bytesToClient(proxy: ProxyProcess): Promise<number> {
  return (await proxy.scrape()).value('gitaly_tls_proxy_connection_bytes_total', { direction: 'to_client' });
}

async function readBytes(socket: Socket, bytes: number): Promise<void> {
  for (let read = 0; read < bytes;) {
    const chunk: unknown = socket.read();
    if (chunk instanceof Buffer) read += chunk.length;
    else await once(socket, 'readable');
  }
}
