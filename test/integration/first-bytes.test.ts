import { once } from 'node:events';

import { describe, expect, test } from 'vitest';

import { BACKCHANNEL_PREFACE, HTTP2_PREFACE, readToEnd, tlsClient } from '../support/clients.js';
import { startSetup } from '../support/setup.js';

async function start(timeouts: Record<string, string> = {}) {
  const { ca, ...setup } = await startSetup({ more: { timeouts } });
  return { ...setup, ca: ca.caPem };
}

describe('the first bytes decide', () => {
  test.each([
    ['http2', HTTP2_PREFACE],
    ['backchannel', BACKCHANNEL_PREFACE],
  ])(
    '%s is recognised though its bytes come one at a time, and reaches Gitaly unchanged',
    async (protocol, preface) => {
      const { ca, backend, proxy, port } = await start();
      const client = await tlsClient(port, { ca });
      for (const byte of preface) {
        // Each write is a TLS record of its own; its callback comes when it has left.
        await new Promise<void>((resolve) => client.write(Buffer.from([byte]), () => resolve()));
      }
      const upstream = await backend.accept();
      expect(await upstream.receive(preface.length)).toEqual(preface);
      upstream.socket.write('an answer');
      expect(await once(client, 'data')).toEqual([Buffer.from('an answer')]);
      client.end();
      expect(await upstream.ended).toBe('end');
      upstream.socket.end();
      await once(client.resume(), 'end');
      expect(await proxy.log.waitForClose('finished')).toMatchObject({
        protocol,
        'close.initiator': 'client',
      });
      await proxy.endsWithNothingLeaked();
    },
  );

  test.each([
    ['HTTP/1', Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')],
    ['a preface with one wrong byte', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\rX')],
    ['a magic with one wrong byte', Buffer.from('backchanneL')],
    ['garbage', Buffer.from([0, 1, 2, 3])],
  ])('%s is closed and counted, and Gitaly is not dialled', async (_name, bytes) => {
    const { ca, backend, proxy, port } = await start();
    const client = await tlsClient(port, { ca });
    client.write(bytes);
    expect((await readToEnd(client)).received).toHaveLength(0);
    await proxy.log.waitForClose('protocol_unknown');
    const scrape = await proxy.scrape();
    expect(scrape.value('gitaly_tls_proxy_connections_closed_total', { reason: 'protocol_unknown' })).toBe(1);
    expect(scrape.value('gitaly_tls_proxy_connections_total', { protocol: 'unknown' })).toBe(1);
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test('silence until the deadline is closed and counted, and Gitaly is not dialled', async () => {
    const { ca, backend, proxy, port } = await start({ preface: '200ms' });
    const client = await tlsClient(port, { ca });
    await readToEnd(client);
    await proxy.log.waitForClose('preface_timeout');
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });
});
