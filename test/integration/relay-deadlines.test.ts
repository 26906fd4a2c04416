import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

import { describe, expect, test } from 'vitest';

import { readToEnd, tlsClient } from '../support/clients.js';
import { startSetup } from '../support/setup.js';
import { connected } from '../support/transfer.js';

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
