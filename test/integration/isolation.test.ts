import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

import { readToEnd, tlsClient } from '../support/clients.js';
import { startSetup } from '../support/setup.js';
import { connected, exchange, MIB, unrecorded } from '../support/transfer.js';

const INJECT_FAULT = fileURLToPath(new URL('../support/inject-fault.mjs', import.meta.url));
const INTERNAL_ERRORS = 'gitaly_tls_proxy_internal_errors_total';

/** A proxy that can be made to fail, and two connections: one to fail, one to go on. */
async function startFaulty() {
  const setup = await startSetup({ nodeArgs: ['--import', INJECT_FAULT] });
  const open = async () => {
    const client = await tlsClient(setup.port, { ca: setup.ca.caPem });
    return { client, upstream: await connected(client, setup.backend) };
  };
  const bystander = await open();
  /** The other connection, and new ones, pass their bytes as if nothing had happened. */
  const othersGoOn = async (): Promise<void> => {
    for (const { client, upstream } of [bystander, await open()]) {
      const { sent, got } = await exchange(client, unrecorded(upstream), MIB);
      expect(got).toEqual(sent);
    }
  };
  return { ...setup, open, othersGoOn };
}

test.each(['upload', 'download'])(
  'an exception in the relay (%s) ends that connection alone, and is counted',
  async (direction) => {
    const { proxy, open, othersGoOn } = await startFaulty();
    const { client, upstream } = await open();
    const ending = readToEnd(client);
    const source = direction === 'upload' ? client : upstream.socket;
    source.write('FAULT throw');
    expect((await ending).kind).toBe('reset');
    expect(await upstream.ended).toBe('reset');
    const line = await proxy.log.waitForClose('internal_error');
    expect(line).toMatchObject({ level: 'error', 'close.initiator': 'proxy' });
    expect(line['close.detail']).toContain('an injected fault in write');
    expect((await proxy.scrape()).value(INTERNAL_ERRORS, { scope: 'connection' })).toBe(1);
    await othersGoOn();
    expect((await proxy.scrape()).value(INTERNAL_ERRORS)).toBe(1);
    await proxy.endsWithNothingLeaked();
  },
);

test('an exception before the handshake ends that connection alone, and is counted', async () => {
  const { ca, backend, proxy, port, othersGoOn } = await startFaulty();
  await expect(tlsClient(port, { ca: ca.caPem, servername: 'fault.test' })).rejects.toThrow();
  const line = await proxy.log.waitForClose('internal_error');
  expect(line).toMatchObject({ level: 'error', protocol: 'unknown' });
  expect(line['close.detail']).toContain('an injected fault in unshift');
  expect((await proxy.scrape()).value(INTERNAL_ERRORS, { scope: 'connection' })).toBe(1);
  expect(backend.connections).toHaveLength(1);
  await othersGoOn();
  await proxy.endsWithNothingLeaked();
});

test('an exception outside of any connection ends none, and is counted', async () => {
  const { proxy, open, othersGoOn } = await startFaulty();
  const { client, upstream } = await open();
  client.write('FAULT later');
  await proxy.log.waitForMessage('fault of the proxy outside of any connection; please report it');
  expect((await proxy.scrape()).value(INTERNAL_ERRORS, { scope: 'process' })).toBe(1);
  await othersGoOn();
  client.end();
  expect(await upstream.ended).toBe('end');
  upstream.socket.end();
  await once(client.resume(), 'end');
  await proxy.endsWithNothingLeaked();
});
