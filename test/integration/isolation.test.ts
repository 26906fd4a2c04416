import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

import { Authority } from '../support/authority.js';
import { readToEnd, tlsClient } from '../support/clients.js';
import { presenting } from '../support/gate.js';
import { GrpcClient } from '../support/grpc-client.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';
import { StandInGitaly } from '../support/stand-in-gitaly.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected, exchange, MIB, unrecorded } from '../support/transfer.js';

const INJECT_FAULT = fileURLToPath(new URL('../support/inject-fault.mjs', import.meta.url));
const BROKEN_PEER_CERTIFICATE = fileURLToPath(
  new URL('../support/broken-peer-certificate.mjs', import.meta.url),
);
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

test('a fault is logged with the positions of the source files, not of the built ones', async () => {
  const { proxy, open } = await startFaulty();
  const { client, upstream } = await open();
  client.write('FAULT throw');
  await upstream.ended;
  const { 'close.detail': detail } = await proxy.log.waitForClose('internal_error');
  expect(detail).toMatch(/at \S+ \(src\/connection\/[a-z/-]+\.ts:\d+:\d+\)/u);
  expect(detail).not.toContain('/dist/');
});

test('an exception outside of any connection ends none, and is counted', async () => {
  const { proxy, open, othersGoOn } = await startFaulty();
  const { client, upstream } = await open();
  client.write('FAULT later');
  await proxy.log.waitForEvent('internal_error');
  expect((await proxy.scrape()).value(INTERNAL_ERRORS, { scope: 'process' })).toBe(1);
  await othersGoOn();
  client.end();
  expect(await upstream.ended).toBe('end');
  upstream.socket.end();
  await once(client.resume(), 'end');
  await proxy.endsWithNothingLeaked();
});

/** Loaded into the program: Node throws for the certificate of each peer. */
const BROKEN = { nodeArgs: ['--import', BROKEN_PEER_CERTIFICATE] };

test('an exception over the certificate of a client ends that connection alone, and is counted', async () => {
  const setup = await startSetup((ca) => ({
    ...BROKEN,
    tls: { client_auth: 'optional', client_ca_path: ca.caPath },
  }));
  const client = await tlsClient(setup.port, { ca: setup.ca.caPem });
  expect((await readToEnd(client)).received).toHaveLength(0);
  const line = await setup.proxy.log.waitForClose('internal_error');
  expect(line['close.detail']).toContain('an injected fault in getPeerX509Certificate');
  const scrape = await setup.proxy.scrape();
  expect(scrape.value(INTERNAL_ERRORS, { scope: 'connection' })).toBe(1);
  expect(scrape.value(INTERNAL_ERRORS)).toBe(1);
  await setup.proxy.endsWithNothingLeaked();
});

test('an exception over the certificate of an upstream ends its dial at once, and no health check stops', async () => {
  const directory = await temporaryDirectory();
  const ca = await Authority.create(directory);
  const gitaly = await StandInGitaly.start({ tls: presenting(await ca.server()) });
  const listen = 'tcp://127.0.0.1:0';
  const proxy = await ProxyProcess.start({
    ...BROKEN,
    configuration: {
      listeners: [{ listen, forward: gitaly.url, upstream_tls: { ca_path: ca.caPath } }],
      health_check_interval: '1s',
      // Whoever waited for it would fail the test.
      timeouts: { dial: '60s' },
    },
  });
  const client = new GrpcClient(await proxy.address(listen));
  await expect(client.health()).rejects.toMatchObject({
    details: expect.stringContaining('an injected fault in getPeerX509Certificate') as string,
  });
  client.close();
  await proxy.log.waitForClose('upstream_unreachable');
  const line = await proxy.log.waitForEvent('upstream_down');
  expect(line['error']).toContain('an injected fault in getPeerX509Certificate');
  expect((await proxy.scrape()).value(INTERNAL_ERRORS, { scope: 'process' })).toBe(0);
  await proxy.endsWithNothingLeaked();
});
