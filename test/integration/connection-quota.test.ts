import { once } from 'node:events';
import { Agent } from 'node:https';
import { connect, type Socket } from 'node:net';

import { describe, expect, onTestFinished, test } from 'vitest';

import { HEALTH_SERVING } from '../../src/commands/demo/demo-service.js';
import { Authority } from '../support/authority.js';
import { RawBackend, startGrpcBackend } from '../support/backends.js';
import { HTTP2_PREFACE, readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { ALLOWED, startGate } from '../support/gate.js';
import { GrpcClient } from '../support/grpc-client.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

const TCP_LISTENER = 'tcp://127.0.0.1:0';
const DROPPED = 'gitaly_tls_proxy_connections_dropped_total';
const ACTIVE = 'gitaly_tls_proxy_connections_active';
const UNAUTHENTICATED = { reason: 'max_unauthenticated_connections' };
const PER_SOURCE = { reason: 'max_connections_per_source' };

/** A client that begins HTTP/2 and does nothing, whether it is let in or not. */
function idlePreface(port: number): void {
  const stranger = connect({ host: '127.0.0.1', port });
  onTestFinished(() => void stranger.destroy());
  stranger.on('error', () => undefined).write(HTTP2_PREFACE);
}

describe.each([1, 2])('with %i worker(s)', (workers) => {
  test('clients that do nothing have a share, are counted beyond it, and keep no honest client out', async () => {
    const proxy = await ProxyProcess.start({
      configuration: {
        listeners: [{ listen: TCP_LISTENER, forward: await startGrpcBackend() }],
        max_connections: 8,
        workers,
      },
    });
    const address = await proxy.address(TCP_LISTENER);
    const known = [new GrpcClient(address), new GrpcClient(address)];
    for (const client of known) expect(await client.health()).toEqual(HEALTH_SERVING);
    for (let count = 0; count < 20; count++) idlePreface(Number(address.port));
    await proxy.scrapeUntil((scrape) => scrape.value(DROPPED, UNAUTHENTICATED) === 16);
    expect((await proxy.scrape()).value(ACTIVE)).toBe(2 + 4);
    const line = await proxy.log.waitFor((entry) => entry['close.reason'] === UNAUTHENTICATED.reason);
    expect(line).toMatchObject({ level: 'warning' });
    expect(line['fix']).toContain('raise max_unauthenticated_connections');

    // It may be refused as long as the strangers have not had their time.
    const newcomer = new GrpcClient(address, undefined, { waitForReady: true });
    expect(await newcomer.health()).toEqual(HEALTH_SERVING);
    for (const client of known) expect(await client.health()).toEqual(HEALTH_SERVING);
    for (const client of [newcomer, ...known]) client.close();
  });

  test('max_connections_per_source refuses, counts, and recovers; another address is served', async () => {
    const backend = await RawBackend.start();
    const proxy = await ProxyProcess.start({
      configuration: {
        listeners: [{ listen: TCP_LISTENER, forward: backend.url }],
        max_connections_per_source: 2,
        workers,
      },
    });
    const port = await proxy.port(TCP_LISTENER);
    const from = async (localAddress: string): Promise<Socket> => {
      const client = connect({ host: '127.0.0.1', port, localAddress });
      onTestFinished(() => void client.destroy());
      client.on('error', () => undefined);
      await once(client, 'connect');
      return client;
    };
    const first = await from('127.0.0.1');
    const clients = [first, await from('127.0.0.1'), await from('127.0.0.2')];
    for (const client of clients) await connected(client, backend);
    expect((await readToEnd(await from('127.0.0.1'))).received).toHaveLength(0);
    await proxy.scrapeUntil((scrape) => scrape.value(DROPPED, PER_SOURCE) === 1);
    first.destroy();
    backend.connections[0]?.socket.destroy();
    await proxy.scrapeUntil((scrape) => scrape.value(ACTIVE) === 2);
    await connected(await from('127.0.0.1'), backend);
    backend.stop();
    await proxy.endsWithNothingLeaked();
  });

  test('behind a load balancer the source is the address of the PROXY header', async () => {
    const backend = await RawBackend.start();
    const forward = backend.url;
    const proxy = await ProxyProcess.start({
      configuration: {
        listeners: [{ listen: TCP_LISTENER, forward, proxy_protocol: { accept_from: ['127.0.0.0/8'] } }],
        max_connections_per_source: 2,
        workers,
      },
    });
    const port = await proxy.port(TCP_LISTENER);
    const clients: Socket[] = [];
    const as = async (address: string): Promise<Socket> => {
      const client = await tcpClient(port);
      clients.push(client);
      client.write(`PROXY TCP4 ${address} 198.51.100.1 40001 9999\r\n`);
      return client;
    };
    for (const address of ['192.0.2.7', '192.0.2.7', '192.0.2.8', '192.0.2.8'])
      await connected(await as(address), backend);
    expect((await readToEnd(await as('192.0.2.7'))).received).toHaveLength(0);
    const scrape = await proxy.scrapeUntil((sample) => sample.value(DROPPED, PER_SOURCE) === 1);
    expect(scrape.value(ACTIVE)).toBe(4);
    const line = await proxy.log.waitFor((entry) => entry['close.reason'] === PER_SOURCE.reason);
    expect(line['peer.address']).toBe('192.0.2.7:40001');
    await connected(await as('192.0.2.9'), backend);
    backend.stop();
    for (const client of clients) client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('a verified certificate authenticates at once', async () => {
    const clients = await Authority.create(await temporaryDirectory(), 'clients');
    const known = await clients.client({ dns: ['sidekiq.internal'] });
    const { ca, proxy, port, backend } = await startSetup({
      tls: { client_auth: 'optional', client_ca_path: clients.caPath },
      more: { max_connections: 6, max_unauthenticated_connections: 1, workers },
    });
    const tls = { ca: ca.caPem, cert: known.certificatePem, key: known.keyPem };
    const served: Socket[] = [];
    for (let count = 0; count < 4; count++) {
      const client = await tlsClient(port, tls);
      await connected(client, backend);
      served.push(client);
    }
    expect((await proxy.scrape()).value(DROPPED)).toBe(0);
    for (const client of served) client.destroy();
    backend.stop();
    await proxy.endsWithNothingLeaked();
  });
});

test('on a gate a client is authenticated once a request of it was answered', async () => {
  const gate = await startGate({ more: { max_connections: 6, max_unauthenticated_connections: 1 } });
  const agents = Array.from({ length: 3 }, () => new Agent({ keepAlive: true, maxSockets: 1 }));
  onTestFinished(() => agents.forEach((agent) => agent.destroy()));
  for (const agent of agents) expect((await gate.ask(ALLOWED, { agent })).status).toBe(200);
  expect((await gate.proxy.scrape()).value(ACTIVE)).toBe(3);
  idlePreface(gate.port);
  idlePreface(gate.port);
  await gate.proxy.scrapeUntil((scrape) => scrape.value(DROPPED, UNAUTHENTICATED) === 1);
  for (const agent of agents) expect((await gate.ask(ALLOWED, { agent })).status).toBe(200);
});
