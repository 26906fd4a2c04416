import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';

import { describe, expect, test } from 'vitest';

import { block, frame, headers, settings, uint32 } from '../support/http2-frames.js';
import { HTTP2_PREFACE, tlsClient } from '../support/clients.js';
import { framesOf } from '../support/http2-frames.js';
import { ALLOWED, startGate, type Gate } from '../support/gate.js';
import { windowCloses } from '../support/process-facts.js';
import { MIB, residentBytes } from '../support/transfer.js';

const [DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS] = [0, 1, 2, 3, 4] as const;
const [PING, WINDOW_UPDATE, CONTINUATION] = [6, 8, 9] as const;
const GOAWAY = 7;
const [END_STREAM, PADDED] = [1, 8] as const;
const ENHANCE_YOUR_CALM = 11;
const GET = { ':method': 'GET', ':scheme': 'https', ':path': ALLOWED, ':authority': 'gitlab' };
const POST = { ...GET, ':method': 'POST' };
const BURST = 500;
const ACTIVE = 'gitaly_tls_proxy_connections_active';

/** Connections are looked at ten times a second. */
const QUICK = { timeouts: { preface: '400ms' } };

/** Windows that hold whatever comes: SETTINGS_INITIAL_WINDOW_SIZE, and that of the connection. */
const WIDE = Buffer.concat([
  settings([4, 2 ** 31 - 1]),
  frame(WINDOW_UPDATE, 0, 0, uint32(2 ** 31 - 1 - 65_535)),
]);

const odd = (index: number): number => 2 * index + 1;

/** Each limit's setting, or its size if it has none, in the advice of the log line. */
const ADVICE = {
  control_flood: '`abuse_limits.control_frames`',
  frame_flood: '`abuse_limits.small_frames`',
  continuation: '64 KiB in small CONTINUATION frames',
};

interface Attack {
  readonly name: string;
  readonly first?: Buffer;
  readonly stroke: (index: number) => Buffer;
  readonly strokes: number;
  /** The limit that the client exceeds, if that closes its connection with GOAWAY. */
  readonly limit?: keyof typeof ADVICE;
  /** Of the requests that reach upstream, at most. */
  readonly requests: number;
  /** Milliseconds of a core that a stroke may cost, at most; a good request costs about half a millisecond. */
  readonly strokeMs: number;
}

const ATTACKS: readonly Attack[] = [
  {
    name: 'rapid reset (CVE-2023-44487)',
    stroke: (index) =>
      Buffer.concat([headers(odd(index), GET, END_STREAM), frame(RST_STREAM, 0, odd(index), uint32(8))]),
    strokes: 20_000,
    requests: 1000,
    strokeMs: 0.5,
  },
  {
    name: 'provoked resets (CVE-2025-8671)',
    stroke: (index) =>
      Buffer.concat([headers(odd(index), POST), frame(WINDOW_UPDATE, 0, odd(index), uint32(0))]),
    strokes: 20_000,
    requests: 1000,
    strokeMs: 0.5,
  },
  {
    name: 'requests that never end',
    stroke: (index) => headers(odd(index), POST),
    strokes: 5000,
    // MAX_HTTP2_REQUESTS
    requests: 100,
    strokeMs: 0.5,
  },
  {
    name: 'paths that are refused',
    stroke: (index) => headers(odd(index), { ...GET, ':path': '/' }, END_STREAM),
    strokes: 5000,
    requests: 0,
    strokeMs: 0.5,
  },
  {
    name: 'PING flood (CVE-2019-9512)',
    stroke: () => frame(PING, 0, 0, Buffer.alloc(8)),
    limit: 'control_flood',
    strokes: 50_000,
    requests: 0,
    strokeMs: 0.02,
  },
  {
    name: 'SETTINGS flood (CVE-2019-9515)',
    stroke: () => frame(SETTINGS, 0, 0),
    limit: 'control_flood',
    strokes: 50_000,
    requests: 0,
    strokeMs: 0.05,
  },
  {
    name: 'priority churn (CVE-2019-9513)',
    stroke: (index) => frame(PRIORITY, 0, odd(index), Buffer.alloc(5)),
    limit: 'frame_flood',
    strokes: 50_000,
    requests: 0,
    strokeMs: 0.02,
  },
  {
    name: 'empty DATA (CVE-2019-9518)',
    first: headers(1, POST),
    stroke: () => frame(DATA, 0, 1),
    limit: 'frame_flood',
    strokes: 50_000,
    requests: 1,
    strokeMs: 0.02,
  },
  {
    name: 'window updates of a byte (CVE-2019-9511)',
    first: headers(1, POST),
    stroke: () => frame(WINDOW_UPDATE, 0, 1, uint32(1)),
    limit: 'frame_flood',
    strokes: 50_000,
    requests: 1,
    strokeMs: 0.02,
  },
  {
    name: 'DATA of padding alone',
    first: headers(1, POST),
    stroke: () => frame(DATA, PADDED, 1, [3, 0, 0, 0]),
    limit: 'frame_flood',
    strokes: 50_000,
    requests: 1,
    strokeMs: 0.02,
  },
  {
    name: 'frames of unknown types',
    stroke: () => frame(99, 0, 0),
    limit: 'frame_flood',
    strokes: 50_000,
    requests: 0,
    strokeMs: 0.02,
  },
  {
    name: 'CONTINUATION without end (CVE-2024-27316)',
    first: frame(HEADERS, 0, 1, block(GET)),
    stroke: () => frame(CONTINUATION, 0, 1, block({ a: 'b' })),
    limit: 'continuation',
    strokes: 5000,
    requests: 0,
    strokeMs: 0.05,
  },
];

/** What the proxy's process has used of a core, milliseconds (proc(5): user and system time in hundredths of a second). */
function cpuMs({ proxy }: Gate): number {
  const fields = readFileSync(`/proc/${proxy.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** The error code of the GOAWAY that came last, if one came. */
function errorOf(received: readonly Buffer[]): number | undefined {
  const goAway = framesOf(Buffer.concat(received)).findLast(({ type }) => type === GOAWAY);
  return goAway?.payload.readUInt32BE(4);
}

/** Sends strokes in bursts until the connection is gone, or all are sent; how many that was. */
async function attack(client: TLSSocket, { first, stroke, strokes }: Attack): Promise<number> {
  const gone = new Promise<void>((resolve) => client.resume().once('end', resolve).once('close', resolve));
  client.write(Buffer.concat([HTTP2_PREFACE, ...(first ? [first] : [])]));
  let sent = 0;
  while (sent < strokes && !client.destroyed && !client.readableEnded) {
    const parts = Array.from({ length: BURST }, (_, index) => stroke(sent + index));
    sent += BURST;
    if (!client.write(Buffer.concat(parts)))
      await Promise.race([once(client, 'drain').catch(() => undefined), gone]);
  }
  return sent;
}

/** What Node's HTTP/2 does not bound, the proxy does. */
describe('abuse of HTTP/2 at the gate costs little, harms no other client and leaves nothing behind:', () => {
  test.each(ATTACKS)('$name', async (what) => {
    const gate = await startGate();
    let arrived = 0;
    gate.backend.server.on('request', () => arrived++);
    expect(await gate.ask(ALLOWED)).toMatchObject({ status: 200 });
    const before = { cpuMs: cpuMs(gate), bytes: residentBytes(gate.proxy.pid) };
    const client = await tlsClient(gate.port, { ca: gate.ca.caPem });
    const received: Buffer[] = [];
    client.on('data', (bytes: Buffer) => received.push(bytes));
    const sent = await attack(client, what);
    if (what.limit !== undefined) {
      expect(await gate.proxy.log.waitForClose('abuse')).toMatchObject({
        'close.detail': what.limit,
        'close.initiator': 'proxy',
        'close.advice': expect.stringContaining(ADVICE[what.limit]) as unknown,
      });
      await expect.poll(() => errorOf(received)).toBe(ENHANCE_YOUR_CALM);
    }
    // Another client is served; by then what was sent has been read, or is not any more.
    expect(await gate.ask(ALLOWED)).toMatchObject({ status: 200 });
    const after = { cpuMs: cpuMs(gate), bytes: residentBytes(gate.proxy.pid) };
    client.destroy();
    await gate.proxy.scrapeUntil((scrape) => scrape.value(ACTIVE) === 0);
    expect(arrived - 2).toBeLessThanOrEqual(what.requests);
    expect(after.cpuMs - before.cpuMs).toBeLessThan(50 + sent * what.strokeMs);
    expect(after.bytes - before.bytes).toBeLessThan(64 * MIB);
    expect((await gate.proxy.scrape()).value('gitaly_tls_proxy_internal_errors_total')).toBe(0);
    await gate.endsWithNothingLeaked();
  });

  test('a client that gives up more requests than it may is cut', async () => {
    const gate = await startGate();
    gate.backend.handler = () => undefined;
    const client = await tlsClient(gate.port, { ca: gate.ca.caPem });
    const [rapidReset] = ATTACKS;
    if (rapidReset) await attack(client, rapidReset);
    const line = await gate.proxy.log.waitForClose('abuse');
    expect(line).toMatchObject({
      'close.detail': 'reset_flood',
      'close.initiator': 'proxy',
      'close.advice': expect.stringContaining('a burst of 500, then 33 per second') as unknown,
      level: 'warning',
    });
    await gate.endsWithNothingLeaked();
  });

  test.each([
    ['DATA of no stream', frame(DATA, 0, 0, Buffer.from('abc'))],
    ['a frame that is too large', frame(DATA, 0, 1, Buffer.alloc(20_000))],
  ])(
    'a client that sends %s and leaves: its open request does not keep the connection',
    async (_what, bytes) => {
      const gate = await startGate({ more: QUICK });
      const open: IncomingMessage[] = [];
      gate.backend.handler = (request) => void open.push(request);
      const client = await tlsClient(gate.port, { ca: gate.ca.caPem });
      client.write(Buffer.concat([HTTP2_PREFACE, headers(1, GET, END_STREAM)]));
      await expect.poll(() => open.length).toBe(1);
      client.end(bytes);
      expect(await gate.proxy.log.waitForClose('request_malformed')).toMatchObject({
        'close.initiator': 'proxy',
      });
      await expect.poll(() => open[0]?.destroyed).toBe(true);
      await gate.endsWithNothingLeaked();
    },
  );

  test('a client that sends malformed HTTP/2 and does not read is closed', async () => {
    const gate = await startGate();
    gate.backend.handler = (_request, response) => response.end(Buffer.alloc(64 * MIB));
    const client = (await tlsClient(gate.port, { ca: gate.ca.caPem })).pause();
    client.write(Buffer.concat([HTTP2_PREFACE, WIDE, headers(1, GET, END_STREAM)]));
    // The proxy's answer to the next frame waits behind the bytes that the client does not read.
    await windowCloses(client);
    client.write(frame(CONTINUATION, 0, 1));
    expect(await gate.proxy.log.waitForClose('request_malformed')).toMatchObject({
      'close.initiator': 'proxy',
    });
    await gate.endsWithNothingLeaked();
  });

  test('a client that leaves within a request has not finished', async () => {
    const gate = await startGate();
    const open: IncomingMessage[] = [];
    gate.backend.handler = (request) => void open.push(request);
    const client = await tlsClient(gate.port, { ca: gate.ca.caPem });
    client.write(Buffer.concat([HTTP2_PREFACE, headers(1, GET, END_STREAM)]));
    await expect.poll(() => open.length).toBe(1);
    client.end();
    expect(await gate.proxy.log.waitForClose('reset')).toMatchObject({
      'close.initiator': 'client',
      'close.detail': 'the client disconnected while its request was open',
    });
    await gate.endsWithNothingLeaked();
  });

  test('a client that does not read for a while gets all of its answer later', async () => {
    const gate = await startGate({ more: QUICK });
    gate.backend.handler = (_request, response) => response.end(Buffer.alloc(64 * MIB));
    const client = (await tlsClient(gate.port, { ca: gate.ca.caPem })).pause();
    client.write(Buffer.concat([HTTP2_PREFACE, WIDE, headers(1, GET, END_STREAM)]));
    await windowCloses(client);
    let received = 0;
    client.on('data', (bytes: Buffer) => (received += bytes.length)).resume();
    while (received < 64 * MIB) await once(client, 'data');
    client.destroy();
    await gate.endsWithNothingLeaked();
  });
});
