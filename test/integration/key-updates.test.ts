import { once } from 'node:events';

import { describe, expect, test } from 'vitest';

import { KEY_UPDATES } from '../../src/limits.js';
import { BACKCHANNEL_PREFACE } from '../support/clients.js';
import { ALLOWED, startGate } from '../support/gate.js';
import { startSetup, startWithCalls } from '../support/setup.js';
import { Tls13Client } from '../support/tls13-client.js';

const DETAIL = 'key_update_flood';

const tls = (ca: { readonly caPem: string }): { ca: string } => ({ ca: ca.caPem });

describe('a client that sends KeyUpdates without end is reset', () => {
  test.each([false, true])(
    'before it sends anything else; requesting answers: %s',
    async (requestsAnswer) => {
      const { ca, proxy, port, call } = await startWithCalls();
      const client = await Tls13Client.connect(port, tls(ca));
      client.raw.write(client.keyUpdates(1000, requestsAnswer));
      expect(await proxy.log.waitForClose('abuse')).toMatchObject({ 'close.detail': DETAIL });
      if (!client.raw.destroyed) await once(client.raw, 'close');
      await call();
      await proxy.endsWithNothingLeaked();
    },
  );

  test('while it is relayed, even if it reads no answer', async () => {
    const { ca, backend, proxy, port } = await startSetup();
    const client = await Tls13Client.connect(port, tls(ca));
    client.raw.write(client.data(BACKCHANNEL_PREFACE));
    const upstream = await backend.accept();
    await upstream.receive(BACKCHANNEL_PREFACE.length);
    client.raw.pause();
    client.raw.write(client.keyUpdates(1000, true));
    const line = await proxy.log.waitForClose('abuse');
    expect(line).toMatchObject({
      level: 'warning',
      'close.initiator': 'proxy',
      'close.detail': 'key_update_flood',
      'close.advice': expect.stringContaining(`${KEY_UPDATES.burst} KeyUpdate messages`) as string,
    });
    expect(await upstream.ended).toBe('reset');
    await proxy.endsWithNothingLeaked();
  });

  test('with `inspect: false`, too', async () => {
    const { ca, backend, proxy, port } = await startSetup({ listener: { inspect: false } });
    const client = await Tls13Client.connect(port, tls(ca));
    client.raw.write(client.data(BACKCHANNEL_PREFACE));
    const upstream = await backend.accept();
    client.raw.write(client.keyUpdates(1000));
    await proxy.log.waitForClose('abuse');
    expect(await upstream.ended).toBe('reset');
    await proxy.endsWithNothingLeaked();
  });

  test.each(['h2', 'http/1.1'])('on a gate over %s', async (protocol) => {
    const gate = await startGate();
    const { ca, proxy, port } = gate;
    const client = await Tls13Client.connect(port, { ...tls(ca), ALPNProtocols: [protocol] });
    client.raw.write(client.keyUpdates(1000, true));
    expect(await proxy.log.waitForClose('abuse')).toMatchObject({ 'close.detail': DETAIL });
    expect((await gate.ask(ALLOWED)).status).toBe(200);
    await gate.endsWithNothingLeaked();
  });

  test('but not one that updates its keys now and then', async () => {
    const { ca, backend, proxy, port } = await startSetup({ listener: { inspect: false } });
    const client = await Tls13Client.connect(port, tls(ca));
    client.raw.write(client.data(BACKCHANNEL_PREFACE));
    const upstream = await backend.accept();
    for (let update = 0; update < KEY_UPDATES.burst; update++) {
      client.raw.write(client.keyUpdate(true));
      client.raw.write(client.data(Buffer.from('x')));
    }
    await upstream.receive(BACKCHANNEL_PREFACE.length + KEY_UPDATES.burst);
    client.raw.destroy();
    await upstream.ended;
    upstream.socket.end();
    await proxy.endsWithNothingLeaked();
  });
});

test('KeyUpdates do not keep an idle connection open', async () => {
  const { ca, backend, proxy, port } = await startSetup({ more: { timeouts: { idle: '500ms' } } });
  const client = await Tls13Client.connect(port, tls(ca));
  client.raw.write(client.data(BACKCHANNEL_PREFACE));
  await backend.accept();
  const updating = setInterval(() => client.raw.write(client.keyUpdate()), 100);
  client.raw.once('close', () => clearInterval(updating));
  await proxy.log.waitForClose('idle_timeout');
  await proxy.endsWithNothingLeaked();
});
