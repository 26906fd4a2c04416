import type { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import { Authority } from '../support/authority.js';
import { RawBackend } from '../support/backends.js';
import { BACKCHANNEL_PREFACE, tcpClient, tlsClient, unixClient } from '../support/clients.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { windowCloses } from '../support/process-facts.js';
import { startSetup } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import {
  connected,
  exchange,
  MIB,
  receiveSlowly,
  residentBytes,
  send,
  unrecorded,
} from '../support/transfer.js';

const BYTES_TOTAL = 'gitaly_tls_proxy_connection_bytes_total';

describe('bytes pass both ways unchanged', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)('24 MiB each way at once, through %s', async (version) => {
    const { ca, backend, proxy, port } = await startSetup();
    const client = await tlsClient(port, { ca: ca.caPem, minVersion: version, maxVersion: version });
    const upstream = unrecorded(await connected(client, backend));
    const { sent, got } = await exchange(client, upstream, 24 * MIB);
    expect(got).toEqual(sent);
    await proxy.log.waitForClose('finished');
    const scrape = await proxy.scrape();
    expect(scrape.value(BYTES_TOTAL, { direction: 'to_client' })).toBe(24 * MIB);
    expect(scrape.value(BYTES_TOTAL, { direction: 'to_upstream' })).toBe(
      24 * MIB + BACKCHANNEL_PREFACE.length,
    );
    await proxy.endsWithNothingLeaked();
  });

  test('from each of tls, tcp and unix to each of tls, tcp and unix', async () => {
    const directory = await temporaryDirectory();
    const ca = await Authority.create(directory);
    const { certificatePath, keyPath, certificatePem, keyPem } = await ca.server();
    const backends = {
      tcp: await RawBackend.start(),
      unix: await RawBackend.start(`${directory}/backend.socket`),
      tls: await RawBackend.startTls({ cert: certificatePem, key: keyPem }),
    };
    // Port 0 does not tell listeners apart in the log, so each takes an address of its own.
    const pairs = (['tcp', 'unix', 'tls'] as const).flatMap((to, index) => [
      { listen: `tls://127.0.1.${index + 1}:0`, to },
      { listen: `tcp://127.0.2.${index + 1}:0`, to },
      { listen: `unix:${directory}/to-${to}.socket`, to },
    ]);
    const proxy = await ProxyProcess.start({
      configuration: {
        tls: { certificate_path: certificatePath, key_path: keyPath },
        listeners: pairs.map(({ listen, to }) => ({
          listen,
          forward: to === 'tls' ? backends.tls.tlsUrl() : backends[to].url,
          ...(to === 'tls' && { upstream_tls: { ca_path: ca.caPath } }),
        })),
      },
    });
    const open = async (listen: string): Promise<Socket> => {
      const { protocol, hostname, pathname, port } = await proxy.address(listen);
      if (protocol === 'unix:') return unixClient(pathname);
      if (protocol === 'tcp:') return tcpClient(Number(port), hostname);
      return tlsClient(Number(port), { ca: ca.caPem, host: hostname });
    };
    for (const { listen, to } of pairs) {
      const client = await open(listen);
      const upstream = unrecorded(await connected(client, backends[to]));
      const { sent, got } = await exchange(client, upstream, 2 * MIB);
      expect(got, `${listen} to ${to}`).toEqual(sent);
    }
    const scrape = await proxy.scrape();
    for (const type of ['tls', 'tcp', 'unix'])
      expect(scrape.value('gitaly_connections_total', { type })).toBe(3);
    await proxy.endsWithNothingLeaked();
  });
});

describe('memory grows by at most 1 MiB per connection', () => {
  /** So many are stalled before the others are measured: what they take the process needs once. */
  const FIRST = 4;
  const MEASURED = 12;
  /** Beyond what the kernel's buffers of both connections take (tcp_wmem has 4 MiB at most). */
  const TRANSFER = 16 * MIB;

  test.each([
    ['clients that do not read a download', 'to_client'],
    ['an upstream that does not take uploads', 'to_upstream'],
  ])('with %s, and all arrives once they do', async (_name, direction) => {
    const { ca, backend, proxy, port } = await startSetup();
    const connect = async () => {
      const client = await tlsClient(port, { ca: ca.caPem });
      client.pause();
      const upstream = unrecorded(await connected(client, backend));
      return direction === 'to_client'
        ? { source: upstream, sink: client }
        : { source: client, sink: upstream };
    };
    const sendUnread = async (count: number) => {
      const connections = await Promise.all(Array.from({ length: count }, connect));
      const transfers = connections.map(({ source, sink }) => ({ sent: send(source, TRANSFER), sink }));
      for (const { sink } of connections) await windowCloses(sink);
      // By its answer, the proxy has read what it can.
      await proxy.scrape();
      return transfers;
    };
    const warm = await connect();
    await Promise.all([send(warm.source, 2 * TRANSFER), receiveSlowly(warm.sink)]);
    warm.sink.end();
    const first = await sendUnread(FIRST);
    const before = residentBytes(proxy.pid);
    const measured = await sendUnread(MEASURED);
    expect(residentBytes(proxy.pid) - before).toBeLessThan(MEASURED * MIB);
    const arrivals = [...first, ...measured].map(async ({ sent, sink }) => {
      const got = receiveSlowly(sink);
      sink.end();
      expect(await got).toBe(await sent);
    });
    await Promise.all(arrivals);
    await proxy.endsWithNothingLeaked();
  });
});
