import { once } from 'node:events';
import type { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import { frame, pingFrame, resetFrame, settingsFrame } from '../../src/inspect/http2/encode.js';
import { ErrorCode, Flag, FrameType } from '../../src/inspect/http2/http2-frame.js';
import type { BackendConnection } from '../support/backends.js';
import { BACKCHANNEL_PREFACE, HTTP2_PREFACE, readToEnd, tlsClient, type Ending } from '../support/clients.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, type Setup } from '../support/setup.js';

const odd = (index: number): number => 2 * index + 1;
const times = (count: number, stroke: (index: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => stroke(index)));

/** A request with `:method: GET` and more fields. */
const request = (streamId: number, ...fields: readonly Buffer[]): Buffer =>
  frame(FrameType.headers, Flag.endHeaders, streamId, Buffer.concat([Buffer.of(0x82), ...fields]));

/** A field of 9 kB, as a literal without indexing. */
const LARGE_FIELD = Buffer.concat([
  Buffer.of(0x00, 1, 0x61, 0x7f, ...[((9000 - 127) % 128) | 0x80, Math.floor((9000 - 127) / 128)]),
  Buffer.alloc(9000, 'v'),
]);

/** An entry of 4 kB, and 500 references of one byte to it: 2 MB, 439 times as large as their encoding. */
const BOMB = [
  Buffer.concat([
    Buffer.of(0x40, 1, 0x61, 0x7f, ...[((4000 - 127) % 128) | 0x80, Math.floor((4000 - 127) / 128)]),
    Buffer.alloc(4000, 'v'),
  ]),
  Buffer.alloc(500, 0xbe),
];

const yamuxPing = (): Buffer => Buffer.of(0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0);

interface Case {
  readonly setting: string;
  readonly preface?: Buffer;
  readonly lowered: unknown;
  /** How often the stroke exceeds the lowered limit. */
  readonly exceeding: number;
  /** Above the default, if `passing` is. */
  readonly raised: unknown;
  readonly passing: number;
  /** `close.detail`, and the value in `close.advice`. */
  readonly reason: string;
  readonly value: string;
  /** What upstream answers to each first part, before the second part is sent. */
  readonly first?: (index: number) => Buffer;
  readonly answer?: (index: number) => Buffer;
  readonly stroke: (index: number) => Buffer;
}

const CASES: readonly Case[] = [
  {
    setting: 'resets',
    lowered: { rate: 1, burst: 20 },
    exceeding: 100,
    raised: { burst: 5000 },
    passing: 2000,
    reason: 'reset_flood',
    value: 'a burst of 20, then 1 per second',
    stroke: (index) => Buffer.concat([request(odd(index)), resetFrame(odd(index), ErrorCode.cancel)]),
  },
  {
    setting: 'late_resets',
    lowered: { rate: 1, burst: 20 },
    exceeding: 100,
    raised: { rate: 1, burst: 3000 },
    passing: 2000,
    reason: 'reset_flood',
    value: 'a burst of 20, then 1 per second',
    first: (index) => request(odd(index)),
    answer: (index) => frame(FrameType.headers, Flag.endHeaders, odd(index), Buffer.of(0x88)),
    stroke: (index) => resetFrame(odd(index), ErrorCode.cancel),
  },
  {
    setting: 'control_frames',
    lowered: { rate: 2, burst: 20 },
    exceeding: 100,
    raised: { burst: 5000 },
    passing: 2000,
    reason: 'control_flood',
    value: 'a burst of 20, then 2 per second',
    stroke: () => pingFrame(Buffer.alloc(8), 'ping'),
  },
  {
    setting: 'small_frames',
    lowered: { rate: 3, burst: 200 },
    exceeding: 500,
    raised: { burst: 50_000 },
    passing: 20_000,
    reason: 'frame_flood',
    value: 'a burst of 200, then 3 per second',
    stroke: (index) => frame(FrameType.priority, 0, odd(index), Buffer.alloc(5)),
  },
  {
    setting: 'small_frames',
    preface: BACKCHANNEL_PREFACE,
    lowered: { rate: 3, burst: 200 },
    exceeding: 500,
    raised: { burst: 50_000 },
    passing: 20_000,
    reason: 'yamux_flood',
    value: 'a burst of 200, then 3 per second',
    stroke: yamuxPing,
  },
  {
    setting: 'oversized_headers',
    lowered: { rate: 0, burst: 2 },
    exceeding: 4,
    raised: { burst: 100 },
    passing: 20,
    reason: 'hpack_too_large',
    value: 'a burst of 2, then 0 per second',
    stroke: (index) => request(odd(index), ...BOMB),
  },
  {
    setting: 'header_list_bytes',
    lowered: 8192,
    exceeding: 20,
    raised: 10_000,
    passing: 20,
    reason: 'hpack_too_large',
    value: 'more than 8192 bytes',
    stroke: (index) => request(odd(index), LARGE_FIELD),
  },
  {
    setting: 'calls_per_connection',
    lowered: 50,
    exceeding: 60,
    raised: 20_000,
    passing: 12_000,
    reason: 'too_many_streams',
    value: 'open calls on one connection: 50',
    stroke: (index) => request(odd(index)),
  },
];

interface Opened {
  readonly client: Socket;
  readonly upstream: BackendConnection;
  readonly ending: Promise<Ending>;
}

/** A connection on which both ends have sent their first bytes. */
async function open({ ca, port, backend }: Setup, preface: Buffer): Promise<Opened> {
  const client = await tlsClient(port, { ca: ca.caPem });
  const arrived = backend.accept();
  client.write(preface);
  const upstream = await arrived;
  // SETTINGS, or the acceptance of the first stream.
  const accepted = Buffer.of(0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0);
  upstream.socket.write(preface === HTTP2_PREFACE ? settingsFrame('settings') : accepted);
  await once(client, 'data');
  return { client, upstream, ending: readToEnd(client) };
}

/** Sends this many strokes; all of them have passed when the result settles, unless the connection was closed. */
async function send({ client, upstream }: Opened, which: Case, strokes: number): Promise<void> {
  if (which.first && which.answer) {
    client.write(times(strokes, which.first));
    await upstream.receive(upstream.received.length + times(strokes, which.first).length);
    const answers = times(strokes, which.answer);
    let received = 0;
    const answered = new Promise<void>((resolve) =>
      client.on('data', (bytes: Buffer) => {
        received += bytes.length;
        if (received >= answers.length) resolve();
      }),
    );
    upstream.socket.write(answers);
    await answered;
  }
  client.write(times(strokes, which.stroke));
}

async function reload(proxy: ProxyProcess): Promise<void> {
  const before = (await proxy.scrape()).value('gitaly_tls_proxy_tls_reloads_total');
  proxy.signal('SIGHUP');
  await proxy.scrapeUntil((scrape) => scrape.value('gitaly_tls_proxy_tls_reloads_total') > before);
}

describe('abuse_limits: a lowered limit closes, a reload raises it for the connections that follow', () => {
  test.each(CASES)('$setting ($reason)', async (which) => {
    const { setting, lowered, raised, reason, value, preface = HTTP2_PREFACE } = which;
    const setup = await startSetup({ more: { workers: 1, abuse_limits: { [setting]: lowered } } });
    const closed = await open(setup, preface);
    const early = await open(setup, preface);
    await send(closed, which, which.exceeding);
    const line = await setup.proxy.log.waitForClose('abuse');
    expect(line).toMatchObject({ level: 'warning', 'close.detail': reason });
    const advice = String(line['close.advice']);
    expect(advice).toContain(`\`abuse_limits.${setting}\``);
    expect(advice).toContain('If you trust the client, raise `abuse_limits.');
    expect(advice).toContain(value);
    await closed.upstream.ended;

    await setup.proxy.configure({ ...setup.configuration, abuse_limits: { [setting]: raised } });
    await reload(setup.proxy);
    const kept = await open(setup, preface);
    const sent =
      times(which.passing, which.stroke).length + times(which.passing, which.first ?? nothing).length;
    await send(kept, which, which.passing);
    await kept.upstream.receive(preface.length + sent);

    // A connection that was accepted before keeps its limits.
    await send(early, which, which.exceeding);
    await early.upstream.ended;
    kept.upstream.socket.end();
    for (const { client, ending } of [closed, early, kept]) {
      await ending;
      client.destroy();
    }
    await setup.proxy.endsWithNothingLeaked();
  });
});

function nothing(): Buffer {
  return Buffer.alloc(0);
}
