import { once } from 'node:events';
import type { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import type { BackendConnection } from '../support/backends.js';
import { BACKCHANNEL_PREFACE, HTTP2_PREFACE, readToEnd, tlsClient } from '../support/clients.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';

const SETTINGS = frame(4, 0, 0);
const ENHANCE_YOUR_CALM = 11;

function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array = new Uint8Array(),
): Buffer {
  const bytes = Buffer.alloc(9 + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes.writeUInt8(type, 3);
  bytes.writeUInt8(flags, 4);
  bytes.writeUInt32BE(streamId, 5);
  bytes.set(payload, 9);
  return bytes;
}

const uint32 = (value: number): Buffer => Buffer.from([value >>> 24, value >>> 16, value >>> 8, value]);
/** `:method: GET`. */
const request = (streamId: number): Buffer => frame(1, 4, streamId, Buffer.from([0x82]));
const odd = (index: number): number => 2 * index + 1;
/** A literal with indexing of a large value, and then one-byte references to it. */
const bomb = Buffer.concat([
  Buffer.from([0x40, 1, 0x61, 0x7f, 0x81, 0x16]),
  Buffer.alloc(2944, 'b'),
  Buffer.alloc(5000, 0xbe),
]);

interface Attack {
  readonly name: string;
  readonly limit: string;
  /** What is sent before the flood. */
  readonly first?: Buffer;
  /** One stroke of it. */
  readonly stroke: (index: number) => Buffer;
  /** How many strokes may reach Gitaly. */
  readonly allowed: number;
  /** How many are sent if nobody stops it. */
  readonly strokes: number;
}

const ATTACKS: readonly Attack[] = [
  {
    name: 'rapid reset (CVE-2023-44487)',
    limit: 'reset_flood',
    stroke: (index) => Buffer.concat([request(odd(index)), frame(3, 0, odd(index), uint32(8))]),
    allowed: 1100,
    strokes: 20_000,
  },
  {
    name: 'PING flood (CVE-2019-9512)',
    limit: 'control_flood',
    stroke: () => frame(6, 0, 0, Buffer.alloc(8)),
    allowed: 1100,
    strokes: 20_000,
  },
  {
    name: 'priority churn (CVE-2019-9513)',
    limit: 'frame_flood',
    stroke: (index) => frame(2, 0, odd(index), Buffer.alloc(5)),
    allowed: 11_000,
    strokes: 50_000,
  },
  {
    name: 'empty DATA (CVE-2019-9518)',
    limit: 'frame_flood',
    first: request(1),
    stroke: () => frame(0, 0, 1),
    allowed: 11_000,
    strokes: 50_000,
  },
  {
    name: 'window updates of one byte (CVE-2019-9511)',
    limit: 'frame_flood',
    first: request(1),
    stroke: () => frame(8, 0, 1, uint32(1)),
    allowed: 11_000,
    strokes: 50_000,
  },
  {
    name: 'CONTINUATION without end (CVE-2024-27316)',
    limit: 'continuation',
    first: frame(1, 0, 1, Buffer.from([0x82])),
    stroke: () => frame(9, 0, 1, Buffer.from([0x84])),
    allowed: 8,
    strokes: 5000,
  },
  {
    name: 'calls that are opened and never ended',
    limit: 'too_many_streams',
    stroke: (index) => request(odd(index)),
    allowed: 10_000,
    strokes: 15_000,
  },
  {
    name: 'HPACK bomb (CVE-2016-6581)',
    limit: 'hpack_too_large',
    stroke: () => frame(1, 4, 1, bomb),
    allowed: 0,
    strokes: 1,
  },
];

/** Sends strokes in bursts until the connection is gone, or all are sent. */
async function attack(client: Socket, { stroke, strokes }: Attack): Promise<void> {
  const burst = 500;
  for (let sent = 0; sent < strokes && !client.destroyed; sent += burst) {
    const parts = Array.from({ length: Math.min(burst, strokes - sent) }, (_, index) => stroke(sent + index));
    if (!client.write(Buffer.concat(parts)))
      await Promise.race([once(client, 'drain'), once(client, 'close')]).catch(() => undefined);
  }
}

/** The error code of the GOAWAY that came last. */
function goAwayCode(received: Buffer): number | undefined {
  let code: number | undefined;
  for (let offset = 0; offset + 9 <= received.length;) {
    const length = received.readUIntBE(offset, 3);
    if (received[offset + 3] === 7) code = received.readUInt32BE(offset + 9 + 4);
    offset += 9 + length;
  }
  return code;
}

async function expectClosed(proxy: ProxyProcess, limit: string): Promise<void> {
  const line = await proxy.log.waitForClose('abuse');
  expect(line).toMatchObject({ level: 'warning', 'close.initiator': 'proxy', 'close.detail': limit });
  const scrape = await proxy.scrape();
  expect(scrape.value('gitaly_tls_proxy_inspector_lost_total', { reason: limit })).toBe(1);
  expect(scrape.value('gitaly_tls_proxy_connections_closed_total', { reason: 'abuse' })).toBe(1);
}

/** How often what one stroke sends has reached the backend: its bytes by the bytes of a stroke. */
function strokesReached({ received }: BackendConnection, { first, stroke }: Attack): number {
  return (received.length - HTTP2_PREFACE.length - (first?.length ?? 0)) / stroke(0).length;
}

describe('over HTTP/2, a client is told to calm down, and closed', () => {
  test.each(ATTACKS)('$name', async (which) => {
    const { ca, backend, proxy, port } = await startSetup();
    const client = await tlsClient(port, { ca: ca.caPem });
    const arrived = backend.accept();
    client.write(HTTP2_PREFACE);
    const upstream = await arrived;
    upstream.socket.write(SETTINGS);
    await once(client, 'data');
    const ending = readToEnd(client);
    if (which.first) client.write(which.first);
    await attack(client, which);
    await expectClosed(proxy, which.limit);
    expect(goAwayCode((await ending).received)).toBe(ENHANCE_YOUR_CALM);
    await upstream.ended;
    expect(strokesReached(upstream, which)).toBeLessThanOrEqual(which.allowed);
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('resets that a client makes Gitaly send count alike (CVE-2025-8671)', async () => {
    const { ca, backend, proxy, port } = await startSetup();
    const client = await tlsClient(port, { ca: ca.caPem });
    const arrived = backend.accept();
    client.write(HTTP2_PREFACE);
    const upstream = await arrived;
    upstream.socket.write(SETTINGS);
    await once(client, 'data');
    const ending = readToEnd(client);
    const streams = 1500;
    const requests = Buffer.concat(Array.from({ length: streams }, (_, index) => request(odd(index))));
    client.write(requests);
    await upstream.receive(HTTP2_PREFACE.length + requests.length);
    upstream.socket.write(
      Buffer.concat(Array.from({ length: streams }, (_, index) => frame(3, 0, odd(index), uint32(1)))),
    );
    await expectClosed(proxy, 'reset_flood');
    await ending;
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('one that attacks before upstream has spoken, too', async () => {
    const { ca, backend, proxy, port } = await startSetup();
    const client = await tlsClient(port, { ca: ca.caPem });
    const arrived = backend.accept();
    const ending = readToEnd(client);
    const pings = Buffer.concat(Array.from({ length: 2000 }, () => frame(6, 0, 0, Buffer.alloc(8))));
    client.write(Buffer.concat([HTTP2_PREFACE, pings]));
    const upstream = await arrived;
    await expectClosed(proxy, 'control_flood');
    expect(goAwayCode((await ending).received)).toBe(ENHANCE_YOUR_CALM);
    await upstream.ended;
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });
});

test('over the backchannel, a flood of yamux PINGs gets GO AWAY', async () => {
  const { ca, backend, proxy, port } = await startSetup();
  const client = await tlsClient(port, { ca: ca.caPem });
  const arrived = backend.accept();
  client.write(BACKCHANNEL_PREFACE);
  const upstream = await arrived;
  const ping = Buffer.from([0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
  const ending = readToEnd(client);
  const flood = { name: '', limit: '', stroke: () => ping, allowed: 0, strokes: 50_000 };
  await attack(client, flood);
  await expectClosed(proxy, 'yamux_flood');
  expect((await ending).received).toEqual(Buffer.from([0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
  expect(upstream.received.length / ping.length).toBeLessThanOrEqual(11_000);
  client.destroy();
  await proxy.endsWithNothingLeaked();
});
