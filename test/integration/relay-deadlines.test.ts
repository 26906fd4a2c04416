import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

import { describe, expect, test } from 'vitest';

import { readToEnd, tlsClient } from '../support/clients.js';
import { startSetup } from '../support/setup.js';
import { connected, MIB } from '../support/transfer.js';

const BYTE = Buffer.from('x');

describe('timeouts.idle', () => {
  test('a connection that is silent for as long is cut with a reset', async () => {
    const { ca, backend, proxy, port } = await startSetup({ more: { timeouts: { idle: '300ms' } } });
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    expect((await readToEnd(client)).kind).toBe('reset');
    expect(await upstream.ended).toBe('reset');
    expect(await proxy.log.waitForClose('idle_timeout')).toMatchObject({ 'close.initiator': 'proxy' });
    await proxy.endsWithNothingLeaked();
  });

  test.each(['client', 'upstream'] as const)(
    'one on which the %s alone says a byte now and then is not',
    async (speaker) => {
      const { ca, backend, proxy, port } = await startSetup({ more: { timeouts: { idle: '1s' } } });
      const client = await tlsClient(port, { ca: ca.caPem });
      const { socket } = await connected(client, backend);
      const [from, to] = speaker === 'client' ? [client, socket] : [socket, client];
      to.resume();
      for (let said = 0; said < 10; said++) {
        from.write(BYTE);
        await delay(200);
      }
      expect([client.destroyed, socket.destroyed]).toEqual([false, false]);
      client.destroy();
      socket.destroy();
      await proxy.endsWithNothingLeaked();
    },
  );
});

describe('timeouts.write_stall', () => {
  // Zeros are frames without content, whose number is limited where calls are followed.
  const stall = { listener: { inspect: false }, more: { timeouts: { write_stall: '400ms' } } };

  test.each(['client', 'upstream'] as const)('a %s that reads no more is cut', async (silent) => {
    const { ca, backend, proxy, port } = await startSetup(stall);
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    const reader = silent === 'client' ? client : upstream.socket;
    const writer = silent === 'client' ? upstream.socket : client;
    reader.pause();
    const ending = readToEnd(writer);
    writer.write(Buffer.alloc(64 * MIB));
    const line = await proxy.log.waitForClose('write_stall');
    expect(line).toMatchObject({ 'close.initiator': 'proxy', level: 'warning' });
    expect(line['close.detail']).toContain(silent === 'client' ? 'the client' : 'Gitaly');
    expect((await ending).kind).toBe('reset');
    reader.resume();
    await proxy.endsWithNothingLeaked();
  });

  test('one that reads a little now and then is not', async () => {
    const { ca, backend, proxy, port } = await startSetup(stall);
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    client.pause();
    upstream.socket.write(Buffer.alloc(64 * MIB));
    for (let reads = 0; reads < 10; reads++) {
      // A mebibyte is more than the proxy writes at once, so something is taken each time.
      for (let read = 0; read < MIB;) {
        const chunk: unknown = client.read();
        if (chunk instanceof Buffer) read += chunk.length;
        else await once(client, 'readable');
      }
      await delay(100);
    }
    expect(client.destroyed).toBe(false);
    client.destroy();
    upstream.socket.destroy();
    await proxy.endsWithNothingLeaked();
  });
});

describe('timeouts.half_close', () => {
  test('a connection that stays silent after one side has finished is cut', async () => {
    const { ca, backend, proxy, port } = await startSetup({ more: { timeouts: { half_close: '200ms' } } });
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    const ending = readToEnd(client);
    client.end();
    expect(await upstream.ended).toBe('end');
    expect((await ending).kind).toBe('reset');
    expect(await proxy.log.waitForClose('half_close_timeout')).toMatchObject({ 'close.initiator': 'proxy' });
    await proxy.endsWithNothingLeaked();
  });

  test('an answer that goes on for longer is not', async () => {
    const { ca, backend, proxy, port } = await startSetup({ more: { timeouts: { half_close: '600ms' } } });
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    const ending = readToEnd(client);
    client.end();
    await upstream.ended;
    for (let said = 0; said < 10; said++) {
      upstream.socket.write(BYTE);
      await delay(150);
    }
    upstream.socket.end();
    const { kind, received } = await ending;
    expect([kind, received.length]).toEqual(['end', 10]);
    await proxy.log.waitForClose('finished');
    await proxy.endsWithNothingLeaked();
  });
});

test('there is no total timeout: an established connection outlives every other deadline', async () => {
  const { ca, backend, proxy, port } = await startSetup({
    more: { timeouts: { handshake: '500ms', preface: '200ms', dial: '200ms', half_close: '200ms' } },
  });
  const client = await tlsClient(port, { ca: ca.caPem });
  const upstream = await connected(client, backend);
  await delay(1200);
  upstream.socket.write(BYTE);
  expect(await once(client, 'data')).toEqual([BYTE]);
  client.end();
  await upstream.ended;
  upstream.socket.end();
  expect(await proxy.log.waitForClose('finished')).toMatchObject({ 'bytes.to_client': 1 });
  await proxy.endsWithNothingLeaked();
});
