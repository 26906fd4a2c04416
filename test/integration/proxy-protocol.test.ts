import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import { RawBackend, type BackendConnection } from '../support/backends.js';
import { BACKCHANNEL_PREFACE, readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const TCP_LISTENER = 'tcp://127.0.0.1:0';
const V2_SIGNATURE = '0d0a0d0a000d0a515549540a';

function v1(line: string): Buffer {
  return Buffer.from(`${line}\r\n`, 'latin1');
}

/** `versionCommand` and `family` as in section 2.2; the addresses and what follows them in hexadecimal. */
function v2(versionCommand: string, family: string, payload: string): Buffer {
  const length = (payload.length / 2).toString(16).padStart(4, '0');
  return Buffer.from(V2_SIGNATURE + versionCommand + family + length + payload, 'hex');
}

const V1_HEADER = v1('PROXY TCP4 192.0.2.7 198.51.100.1 40001 9999');
/** 192.0.2.7:40003 to 198.51.100.1:9999. */
const V2_IPV4 = 'c0000207c6336401' + '9c43270f';
/** [2001:db8::7]:40004 to [2001:db8::1]:9999. */
const V2_IPV6 = '20010db8000000000000000000000007' + '20010db8000000000000000000000001' + '9c44270f';
/** PP2_TYPE_AWS with one VPC endpoint's id, as a network load balancer adds it. */
const V2_TLV = 'ea0006' + '017670632d31';

/** A plaintext listener in front of a recording backend. */
async function startTcp(
  proxyProtocol: Readonly<Record<string, unknown>>,
  more: Readonly<Record<string, unknown>> = {},
) {
  const backend = await RawBackend.start();
  const proxy = await ProxyProcess.start({
    configuration: {
      listeners: [{ listen: TCP_LISTENER, forward: backend.url, proxy_protocol: proxyProtocol }],
      ...more,
    },
  });
  return { backend, proxy, port: await proxy.port(TCP_LISTENER) };
}

/** Both sides say that they are done. */
async function finish(client: Socket, upstream: BackendConnection): Promise<void> {
  client.end();
  await upstream.ended;
  upstream.socket.end();
  await once(client.resume(), 'close');
}

function ownAddress(client: Socket): string {
  return `${client.localAddress ?? ''}:${client.localPort ?? 0}`;
}

describe('a PROXY header from a listed network', () => {
  const named: [string, Buffer, string][] = [
    ['v1 over IPv4', V1_HEADER, '192.0.2.7:40001'],
    ['v1 over IPv6', v1('PROXY TCP6 2001:db8::7 2001:db8::1 40002 9999'), '[2001:db8::7]:40002'],
    [
      'v1 over IPv6, spelt otherwise',
      v1('PROXY TCP6 2001:0DB8::0.0.0.7 ::1 40012 9999'),
      '[2001:db8::7]:40012',
    ],
    ['v2 over IPv4', v2('21', '11', V2_IPV4), '192.0.2.7:40003'],
    ['v2 over IPv6', v2('21', '21', V2_IPV6), '[2001:db8::7]:40004'],
    ['v2 with a TLV', v2('21', '11', V2_IPV4.replace('9c43', '9c45') + V2_TLV), '192.0.2.7:40005'],
  ];

  test('gives the client its real address in the log, and upstream sees none of it: v1 and v2, before TLS', async () => {
    const { ca, backend, proxy, port } = await startSetup({
      listener: { proxy_protocol: { accept_from: ['127.0.0.0/8'] } },
    });
    for (const [name, header, address] of named) {
      const raw = await tcpClient(port);
      const balancer = ownAddress(raw);
      raw.write(header);
      const client = await tlsClient(port, { socket: raw, ca: ca.caPem });
      client.write(BACKCHANNEL_PREFACE);
      const upstream = await backend.accept();
      await upstream.receive(BACKCHANNEL_PREFACE.length);
      await finish(client, upstream);
      expect(upstream.received, name).toEqual(BACKCHANNEL_PREFACE);
      const line = await proxy.log.waitFor((candidate) => candidate['peer.via'] === balancer);
      expect(line, name).toMatchObject({ 'peer.address': address, 'close.reason': 'finished' });
    }
    await proxy.endsWithNothingLeaked();
  });

  test('may name no client: the address is that of the connection itself', async () => {
    const { backend, proxy, port } = await startTcp({ accept_from: ['127.0.0.1'] });
    const nameless = {
      'v1 UNKNOWN': v1('PROXY UNKNOWN'),
      'v2 LOCAL': v2('20', '00', ''),
      'v2 LOCAL with addresses, which do not count': v2('20', '11', V2_IPV4),
      'v2 of an unspecified family': v2('21', '00', ''),
    };
    for (const [name, header] of Object.entries(nameless)) {
      const client = await tcpClient(port);
      const address = ownAddress(client);
      client.write(Buffer.concat([header, BACKCHANNEL_PREFACE]));
      const upstream = await backend.accept();
      expect(await upstream.receive(BACKCHANNEL_PREFACE.length), name).toEqual(BACKCHANNEL_PREFACE);
      await finish(client, upstream);
      const line = await proxy.log.waitFor((candidate) => candidate['peer.address'] === address);
      expect(line, name).not.toHaveProperty('peer.via');
    }
    await proxy.endsWithNothingLeaked();
  });

  test.each([
    ['v1', V1_HEADER, '192.0.2.7:40001'],
    ['v2', v2('21', '11', V2_IPV4 + V2_TLV), '192.0.2.7:40003'],
  ])('may come one byte at a time (%s)', async (_version, header, address) => {
    const { backend, proxy, port } = await startTcp({ accept_from: ['127.0.0.0/8'] });
    const client = await tcpClient(port);
    client.setNoDelay(true);
    for (const byte of Buffer.concat([header, BACKCHANNEL_PREFACE])) {
      await new Promise<void>((resolve) => client.write(Buffer.from([byte]), () => resolve()));
    }
    const upstream = await backend.accept();
    expect(await upstream.receive(BACKCHANNEL_PREFACE.length)).toEqual(BACKCHANNEL_PREFACE);
    await finish(client, upstream);
    expect(await proxy.log.waitForClose('finished')).toMatchObject({ 'peer.address': address });
    await proxy.endsWithNothingLeaked();
  });

  test.each([
    ['without a byte', Buffer.alloc(0)],
    ['after a LOCAL header', v2('20', '00', '')],
  ])('a balancer that looks whether the port is there and leaves %s is a probe', async (_name, bytes) => {
    const { backend, proxy, port } = await startSetup({
      listener: { proxy_protocol: { accept_from: ['127.0.0.0/8'] } },
    });
    const client = await tcpClient(port);
    client.end(bytes);
    await readToEnd(client);
    const scrape = await proxy.scrapeUntil(
      (current) => current.value('gitaly_tls_proxy_connections_closed_total') === 1,
    );
    expect(scrape.value('gitaly_tls_proxy_connections_closed_total', { reason: 'probe' })).toBe(1);
    expect(proxy.log.lines.filter((line) => 'close.reason' in line)).toEqual([]);
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });
});

describe('what is closed, Gitaly not dialled, and its address unchanged in the log', () => {
  const malformed: [string, Buffer, RegExp][] = [
    ['v1 of an unknown protocol', v1('PROXY UDP4 192.0.2.7 198.51.100.1 40001 9999'), /TCP4/],
    ['v1 with a bad address', v1('PROXY TCP4 192.0.2.777 198.51.100.1 40001 9999'), /address/],
    ['v1 without an end', Buffer.alloc(200, 'PROXY TCP4 '), /107 bytes/],
    ['v2 of another version', v2('31', '11', V2_IPV4), /version/],
    ['v2 whose addresses are cut', v2('21', '21', V2_IPV4), /IPv6/],
    ['v2 that announces 64 KiB', Buffer.from(`${V2_SIGNATURE}2111ffff`, 'hex'), /longer than 4096 bytes/],
    ['a preface without a header', BACKCHANNEL_PREFACE, /must send/],
    ['a ClientHello without a header', Buffer.from('16030100c8010000c4', 'hex'), /must send/],
  ];

  test('a header that is malformed or missing', async () => {
    const { backend, proxy, port } = await startTcp({ accept_from: ['127.0.0.0/8'] });
    for (const [name, bytes, detail] of malformed) {
      const client = await tcpClient(port);
      const address = ownAddress(client);
      client.write(bytes);
      expect((await readToEnd(client)).received, name).toHaveLength(0);
      const line = await proxy.log.waitFor((candidate) => candidate['peer.address'] === address);
      expect(line, name).toMatchObject({
        level: 'warning',
        'close.reason': 'proxy_header_malformed',
        'close.initiator': 'proxy',
      });
      expect(line['close.detail'], name).toMatch(detail);
      expect(line, name).not.toHaveProperty('peer.via');
    }
    const scrape = await proxy.scrape();
    const labels = { reason: 'proxy_header_malformed' };
    expect(scrape.value('gitaly_tls_proxy_connections_closed_total', labels)).toBe(malformed.length);
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test('a header that is not whole at the deadline', async () => {
    const { backend, proxy, port } = await startTcp(
      { accept_from: ['127.0.0.0/8'] },
      { timeouts: { handshake: '200ms' } },
    );
    const slow = {
      silence: Buffer.alloc(0),
      'half of v1': V1_HEADER.subarray(0, 20),
      'half of v2': v2('21', '11', V2_IPV4).subarray(0, 20),
    };
    const clients = Object.entries(slow).map(async ([name, bytes]) => {
      const client = await tcpClient(port);
      const address = ownAddress(client);
      client.write(bytes);
      await readToEnd(client);
      const line = await proxy.log.waitFor((candidate) => candidate['peer.address'] === address);
      expect(line, name).toMatchObject({
        'close.reason': 'proxy_header_timeout',
        'close.initiator': 'proxy',
      });
    });
    await Promise.all(clients);
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test('a header from a network that is not listed', async () => {
    const { backend, proxy, port } = await startTcp({ accept_from: ['10.0.0.0/8', '2001:db8::/32'] });
    const client = await tcpClient(port);
    const address = ownAddress(client);
    client.write(Buffer.concat([V1_HEADER, BACKCHANNEL_PREFACE]));
    await readToEnd(client);
    const line = await proxy.log.waitForClose('protocol_unknown');
    expect(line['peer.address']).toBe(address);
    expect(line['close.detail']).toContain('proxy_protocol.accept_from');
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test('the same before TLS', async () => {
    const { backend, proxy, port } = await startSetup({
      listener: { proxy_protocol: { accept_from: ['10.0.0.0/8'] } },
    });
    const raw = await tcpClient(port);
    const address = ownAddress(raw);
    raw.write(V1_HEADER);
    await readToEnd(raw);
    expect(await proxy.log.waitForClose('handshake_failed')).toMatchObject({ 'peer.address': address });
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });
});

test('the header is required from the listed networks and from them only', async () => {
  const { backend, proxy, port } = await startTcp({ accept_from: ['127.0.0.2/32'] });

  const direct = await tcpClient(port);
  direct.write(BACKCHANNEL_PREFACE);
  const upstream = await backend.accept();
  await upstream.receive(BACKCHANNEL_PREFACE.length);
  await finish(direct, upstream);
  await proxy.log.waitForClose('finished');

  const balancer = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' });
  onTestFinished(() => void balancer.destroy());
  await once(balancer, 'connect');
  balancer.write(BACKCHANNEL_PREFACE);
  await readToEnd(balancer);
  const line = await proxy.log.waitForClose('proxy_header_malformed');
  expect(line['peer.address']).toMatch(/^127\.0\.0\.2:/);
  expect(backend.connections).toHaveLength(1);
  await proxy.endsWithNothingLeaked();
});

describe('send', () => {
  /** What upstream must read before the preface. */
  function expectedHeader(version: 'v1' | 'v2', clientPort: number, listenerPort: number): Buffer {
    if (version === 'v1') return v1(`PROXY TCP4 127.0.0.1 127.0.0.1 ${clientPort} ${listenerPort}`);
    const [from, to] = [clientPort, listenerPort].map((port) => port.toString(16).padStart(4, '0'));
    return v2('21', '11', `7f0000017f000001${from ?? ''}${to ?? ''}`);
  }

  test.each([
    ['v1', 'tcp'],
    ['v2', 'tcp'],
    ['v1', 'unix'],
    ['v2', 'unix'],
  ] as const)('%s: who the client is stands before the first byte to a %s upstream', async (send, kind) => {
    const path = kind === 'unix' ? join(await temporaryDirectory(), 'gitaly.socket') : undefined;
    const backend = await RawBackend.start(path);
    const proxy = await ProxyProcess.start({
      configuration: {
        listeners: [{ listen: TCP_LISTENER, forward: backend.url, proxy_protocol: { send } }],
      },
    });
    const port = await proxy.port(TCP_LISTENER);
    const client = await tcpClient(port);
    const header = expectedHeader(send, client.localPort ?? 0, port);
    client.write(BACKCHANNEL_PREFACE);
    const upstream = await backend.accept();
    const whole = Buffer.concat([header, BACKCHANNEL_PREFACE]);
    expect(await upstream.receive(whole.length)).toEqual(whole);
    await finish(client, upstream);
    await proxy.log.waitForClose('finished');
    await proxy.endsWithNothingLeaked();
  });

  test.each(['v1', 'v2'] as const)(
    '%s: a tls upstream gets it before TLS, and its log has the client of the first',
    async (send) => {
      const second = await startSetup({ listener: { proxy_protocol: { accept_from: ['127.0.0.1'] } } });
      const first = await ProxyProcess.start({
        configuration: {
          listeners: [
            {
              listen: TCP_LISTENER,
              forward: `tls://localhost:${second.port}`,
              upstream_tls: { ca_path: second.ca.caPath },
              proxy_protocol: { accept_from: ['127.0.0.1'], send },
            },
          ],
        },
      });
      const client = await tcpClient(await first.port(TCP_LISTENER));
      client.write(Buffer.concat([V1_HEADER, BACKCHANNEL_PREFACE]));
      const upstream = await second.backend.accept();
      expect(await upstream.receive(BACKCHANNEL_PREFACE.length)).toEqual(BACKCHANNEL_PREFACE);
      await finish(client, upstream);
      for (const proxy of [first, second.proxy]) {
        expect(await proxy.log.waitForClose('finished')).toMatchObject({ 'peer.address': '192.0.2.7:40001' });
      }
      await first.endsWithNothingLeaked();
      await second.proxy.endsWithNothingLeaked();
    },
  );

  test.each([
    ['v1', v1('PROXY UNKNOWN')],
    ['v2', v2('20', '00', '')],
  ] as const)('%s: a client on a unix socket is sent as unknown', async (send, header) => {
    const path = join(await temporaryDirectory(), 'proxy.socket');
    const backend = await RawBackend.start();
    const proxy = await ProxyProcess.start({
      configuration: {
        listeners: [{ listen: `unix:${path}`, forward: backend.url, proxy_protocol: { send } }],
      },
    });
    const client = connect({ path, allowHalfOpen: true });
    onTestFinished(() => void client.destroy());
    client.write(BACKCHANNEL_PREFACE);
    const upstream = await backend.accept();
    const whole = Buffer.concat([header, BACKCHANNEL_PREFACE]);
    expect(await upstream.receive(whole.length)).toEqual(whole);
    await finish(client, upstream);
    expect(await proxy.log.waitForClose('finished')).toMatchObject({ 'peer.address': '@' });
    await proxy.endsWithNothingLeaked();
  });
});
