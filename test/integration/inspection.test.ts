import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';

import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { ABUSE_LIMITS, MAX_UNACCEPTED_STREAMS, OLD_STREAM_MS } from '../../src/limits.js';
import type { BackendConnection } from '../support/backends.js';
import {
  BACKCHANNEL_PREFACE,
  HTTP2_PREFACE,
  readToEnd,
  tcpClient,
  tlsClient,
  type Ending,
} from '../support/clients.js';
import {
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  HEADERS,
  PADDED,
  RST_STREAM,
  SETTINGS,
  uint32,
} from '../support/http2-frames.js';
import { startSetup, type Setup, type SetupOptions } from '../support/setup.js';
import { yamux } from '../support/yamux-frames.js';

const CANCEL = 8;
const LOST = 'gitaly_tls_proxy_inspector_lost_total';
const STARTED = { grpc_service: 'gitaly.CommitService', grpc_method: 'FindCommit' };

const odd = (index: number): number => 2 * index + 1;
const literal = (first: number, name: string, value: Buffer | string): Buffer =>
  Buffer.concat([Buffer.of(first), text(Buffer.from(name)), text(Buffer.from(value))]);

/** RFC 7541 section 5.2, without Huffman. */
function text(bytes: Buffer): Buffer {
  const length = [Math.min(bytes.length, 127)];
  for (let rest = bytes.length - 127; rest >= 0; rest = Math.floor(rest / 128)) {
    length.push((rest % 128) + (rest >= 128 ? 128 : 0));
    if (rest < 128) break;
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

const PATH = literal(0x00, ':path', '/gitaly.CommitService/FindCommit');
const request = (streamId: number, block: Buffer = PATH): Buffer =>
  frame(HEADERS, END_HEADERS, streamId, block);
const answer = (streamId: number): Buffer =>
  frame(HEADERS, END_HEADERS | END_STREAM, streamId, Buffer.of(0x88));
const rapidResets = (count: number, first: number): Buffer =>
  Buffer.concat(
    Array.from({ length: count }, (_, index) => {
      const streamId = odd(first + index);
      return Buffer.concat([request(streamId), frame(RST_STREAM, 0, streamId, uint32(CANCEL))]);
    }),
  );

interface Opened extends Setup {
  readonly client: Socket;
  readonly upstream: BackendConnection;
  readonly ending: Promise<Ending>;
}

/** A connection of this protocol that upstream has answered. */
async function open(preface: Buffer, options: SetupOptions = {}): Promise<Opened> {
  const setup = await startSetup({ more: { workers: 1 }, ...options });
  const client = await tlsClient(setup.port, { ca: setup.ca.caPem });
  const arrived = setup.backend.accept();
  client.write(preface);
  const upstream = await arrived;
  upstream.socket.write(preface === HTTP2_PREFACE ? frame(SETTINGS, 0, 0) : yamux(1, 2, 1, 0));
  await once(client, 'data');
  return { ...setup, client, upstream, ending: readToEnd(client) };
}

async function finish({ client, upstream, ending, proxy }: Opened): Promise<void> {
  upstream.socket.end();
  await ending;
  client.destroy();
  await proxy.endsWithNothingLeaked();
}

describe('a call with more metadata than usual harms no call', () => {
  /** A header block in frames of this size. */
  const inFrames = (streamId: number, block: Buffer, size = 16_384): Buffer[] =>
    Array.from({ length: Math.ceil(block.length / size) }, (_, index) => {
      const end = (index + 1) * size;
      const flags = end >= block.length ? END_HEADERS : 0;
      return frame(index === 0 ? HEADERS : CONTINUATION, flags, streamId, block.subarray(end - size, end));
    });
  const flags = (count: number): Buffer =>
    Buffer.concat(
      Array.from({ length: count }, (_, index) => literal(0x40, `gitaly-feature-${index}`, 'true')),
    );

  test.each([
    ['140 fields, one for each feature flag', flags(140)],
    ['5000 fields', flags(5000)],
    ['a value of 70 kB', literal(0x40, 'huge-bin', Buffer.alloc(70_000, 'v'))],
    ['a value of 1 MB', literal(0x00, 'huge-bin', Buffer.alloc(1_000_000, 'v'))],
  ])('%s', async (_what, metadata) => {
    const opened = await open(HTTP2_PREFACE);
    const { client, upstream, proxy } = opened;
    // An entry of the table that the next call refers to, behind all that.
    const block = Buffer.concat([PATH, metadata, literal(0x40, ':path', '/gitaly.CommitService/FindCommit')]);
    const sent = Buffer.concat([request(1), ...inFrames(3, block), request(5, Buffer.of(0xbe))]);
    client.write(sent);
    const received = await upstream.receive(HTTP2_PREFACE.length + sent.length);
    expect(received.subarray(HTTP2_PREFACE.length).equals(sent)).toBe(true);
    upstream.socket.write(Buffer.concat([1, 3, 5].map(answer)));
    const scrape = await proxy.scrapeUntil((each) => each.value('gitaly_tls_proxy_rpcs_in_flight') === 0);
    expect(scrape.value('grpc_server_started_total', STARTED)).toBe(3);
    expect(scrape.value(LOST)).toBe(0);
    await finish(opened);
  });
});

test('1500 deadlines that expire at once on both sides do not exceed the reset limit', async () => {
  const opened = await open(HTTP2_PREFACE);
  const { client, upstream, proxy } = opened;
  const streams = Array.from({ length: 1500 }, (_, index) => odd(index));
  client.write(Buffer.concat(streams.map((streamId) => request(streamId))));
  await vi.waitFor(
    async () => {
      const page = await fetch(`${await proxy.adminUrl()}/-/rpcs?limit=1`, {
        headers: { connection: 'close' },
      });
      expect(await page.json()).toMatchObject({ open: 1500, shown: 1 });
    },
    { timeout: 20_000, interval: 20 },
  );
  // They were open then, and by now they are old.
  await vi.waitFor(
    async () => {
      const page = await fetch(`${await proxy.adminUrl()}/-/rpcs?limit=1500`, {
        headers: { connection: 'close' },
      });
      const { rpcs } = (await page.json()) as { rpcs: readonly { age_ms: number }[] };
      expect(rpcs.at(-1)?.age_ms).toBeGreaterThan(2 * OLD_STREAM_MS);
    },
    { timeout: 20_000, interval: 20 },
  );
  const resets = Buffer.concat(streams.map((streamId) => frame(RST_STREAM, 0, streamId, uint32(CANCEL))));
  client.write(resets);
  upstream.socket.write(resets);
  const next = odd(1500);
  client.write(request(next));
  const scrape = await proxy.scrapeUntil((each) => each.value('gitaly_tls_proxy_rpcs_in_flight') === 1);
  expect(scrape.value(LOST)).toBe(0);
  upstream.socket.write(answer(next));
  await finish(opened);
});

describe('to be lost turns no limit off', () => {
  const WAYS: readonly (readonly [name: string, reason: string, bytes: Buffer])[] = [
    ['an index that is not there', 'hpack_index', request(1, Buffer.of(0xff, 0xff, 0x7f))],
    ['DATA without a stream', 'frame', frame(DATA, 0, 0, Buffer.of(1))],
    ['half a setting', 'settings', frame(SETTINGS, 0, 0, Buffer.alloc(3))],
  ];

  test.each(WAYS)('%s, and then rapid resets', async (_name, reason, bytes) => {
    const opened = await open(HTTP2_PREFACE);
    const { client, upstream, ending, proxy } = opened;
    client.write(bytes);
    const line = await proxy.log.waitForEvent('inspection_lost');
    expect(line).toMatchObject({
      level: 'warning',
      'inspection.reason': reason,
      'peer.address': expect.stringMatching(/^127\.0\.0\.1:\d+$/) as unknown,
      error: expect.stringMatching(/^[A-Z].*\.$/) as unknown,
      fix: expect.stringMatching(/^[A-Z].*\.$/) as unknown,
    });
    const stroke = rapidResets(1, 10).length;
    client.write(rapidResets(4000, 10));
    const closed = await proxy.log.waitForClose('abuse');
    expect(closed).toMatchObject({
      'close.detail': 'reset_flood',
      'close.advice': expect.stringContaining(`a burst of ${ABUSE_LIMITS.resets.burst}`) as unknown,
    });
    await upstream.ended;
    expect(upstream.received.length / stroke).toBeLessThan(1.2 * ABUSE_LIMITS.resets.burst);
    await ending;
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('a second stream of the backchannel that begins with anything, with an id that jumps', async () => {
    const opened = await open(BACKCHANNEL_PREFACE);
    const { client, upstream, ending, proxy } = opened;
    client.write(yamux(0, 1, 2001, Buffer.from('X')));
    client.write(yamux(0, 0, 1, HTTP2_PREFACE));
    for (let sent = 0; sent < 20; sent++) client.write(yamux(0, 0, 1, rapidResets(200, 200 * sent)));
    expect(await proxy.log.waitForClose('abuse')).toMatchObject({ 'close.detail': 'reset_flood' });
    expect((await proxy.scrape()).value(LOST)).toBe(1);
    await upstream.ended;
    await ending;
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('DATA that holds padding alone counts as empty', async () => {
    const opened = await open(HTTP2_PREFACE);
    const { client, upstream, ending, proxy } = opened;
    client.write(request(1));
    const padding = frame(DATA, PADDED, 1, Buffer.of(0));
    client.write(Buffer.concat(Array.from({ length: 20_000 }, () => padding)));
    expect(await proxy.log.waitForClose('abuse')).toMatchObject({ 'close.detail': 'frame_flood' });
    await upstream.ended;
    await ending;
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('an integer of HPACK in seven bytes, which Go accepts, is followed', async () => {
    const opened = await open(HTTP2_PREFACE);
    const { client, upstream, proxy } = opened;
    // The value's length is 127 and then 0, in six bytes.
    const long = Buffer.concat([
      Buffer.of(0x00, 1, 0x61, 0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00),
      Buffer.alloc(127, 'v'),
    ]);
    client.write(request(1, Buffer.concat([PATH, long])));
    await proxy.scrapeUntil((each) => each.value('grpc_server_started_total', STARTED) === 1);
    upstream.socket.write(answer(1));
    const scrape = await proxy.scrapeUntil((each) => each.value('gitaly_tls_proxy_rpcs_in_flight') === 0);
    expect(scrape.value(LOST)).toBe(0);
    await finish(opened);
  });
});

describe('inspect: required closes a connection whose calls cannot be followed', () => {
  test.each([
    ['over HTTP/2', HTTP2_PREFACE, request(1, Buffer.of(0xff, 0xff, 0x7f)), 'hpack_index'],
    ['on the backchannel', BACKCHANNEL_PREFACE, yamux(0, 0, 1, Buffer.from('X')), 'stream_kind'],
  ])('%s', async (_how, preface, bytes, reason) => {
    const opened = await open(preface, { listener: { inspect: 'required' } });
    const { client, upstream, ending, proxy } = opened;
    client.write(bytes);
    expect(await proxy.log.waitForClose('inspection_lost')).toMatchObject({
      level: 'warning',
      'close.detail': reason,
      'close.initiator': 'proxy',
      'close.advice': expect.stringContaining('inspect: true') as unknown,
    });
    expect(await upstream.ended).toBe('reset');
    // What could not be followed has not reached Gitaly.
    expect(upstream.received).toEqual(preface);
    await ending;
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });
});

describe('of a stream that Gitaly has not accepted', () => {
  test('no call is followed, and as soon as it is accepted they are', async () => {
    const opened = await open(BACKCHANNEL_PREFACE);
    const { client, upstream, proxy } = opened;
    const started = async (): Promise<number> =>
      (await proxy.scrape()).value('grpc_server_started_total', STARTED);
    const sent = yamux(0, 1, 3, Buffer.concat([HTTP2_PREFACE, request(1), request(3)]));
    client.write(sent);
    await upstream.receive(BACKCHANNEL_PREFACE.length + sent.length);
    expect(await started()).toBe(0);
    upstream.socket.write(yamux(1, 2, 3, 0));
    // An answer of yamux behind which the acceptance has passed.
    upstream.socket.write(yamux(0, 0, 3, frame(SETTINGS, 0, 0)));
    await proxy.scrapeUntil(
      (each) => each.value('gitaly_tls_proxy_connection_bytes_total', { direction: 'to_client' }) >= 45,
    );
    client.write(yamux(0, 0, 3, request(5)));
    await proxy.scrapeUntil((each) => each.value('grpc_server_started_total', STARTED) === 1);
    await finish(opened);
  });

  test('its early frames are bounded in number', async () => {
    const opened = await open(BACKCHANNEL_PREFACE);
    const { client, upstream, ending, proxy } = opened;
    const opens = Array.from({ length: MAX_UNACCEPTED_STREAMS + 2 }, (_, index) =>
      yamux(1, 1, odd(index + 1), 0),
    );
    client.write(Buffer.concat(opens));
    expect(await proxy.log.waitForClose('abuse')).toMatchObject({ 'close.detail': 'too_many_streams' });
    await upstream.ended;
    await ending;
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });
});

describe('memory', () => {
  const PLAIN = { listen: 'tcp://127.0.0.1:0' };

  /** A client that upstream has answered; `closed` settles if it is closed instead. */
  async function begin(port: number): Promise<{ client: Socket; answered: boolean }> {
    const client = await tcpClient(port);
    client.on('error', () => undefined);
    const outcome = new Promise<boolean>((resolve) => {
      client.once('data', () => resolve(true));
      client.once('close', () => resolve(false));
    });
    client.write(HTTP2_PREFACE);
    const answered = await outcome;
    client.resume();
    return { client, answered };
  }

  test('that calls take is bounded in all: attackers lose their following, and another is served', async () => {
    // There is room for 2 048 calls, so that one connection may follow 1 024.
    const { proxy, port } = await startSetup({
      nodeArgs: ['--max-old-space-size=64'],
      listener: { ...PLAIN, forward: await answeringBackend() },
      more: { workers: 1 },
    });
    const calls = Buffer.concat(Array.from({ length: 8000 }, (_, index) => request(odd(index))));
    const attackers = await Promise.all(Array.from({ length: 12 }, () => begin(port)));
    for (const { client } of attackers) client.write(calls);
    await proxy.scrapeUntil((each) => each.value(LOST, { reason: 'call_budget' }) === attackers.length);
    const polite = await begin(port);
    polite.client.write(request(1));
    const scrape = await proxy.scrapeUntil((each) => each.value('gitaly_tls_proxy_rpcs_in_flight') === 1);
    expect(scrape.value('gitaly_tls_proxy_connections_active')).toBe(attackers.length + 1);
    for (const { client } of [...attackers, polite]) client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test(
    'that connections take is bounded: they are refused and counted, and served again',
    { timeout: 90_000 },
    async () => {
      const { proxy, port } = await startSetup({
        nodeArgs: ['--max-old-space-size=32'],
        listener: { ...PLAIN, forward: await answeringBackend() },
        more: { workers: 1 },
      });
      const clients: Socket[] = [];
      let refused = 0;
      while (refused === 0 && clients.length < 4000) {
        for (const { client, answered } of await Promise.all(Array.from({ length: 50 }, () => begin(port)))) {
          clients.push(client);
          if (!answered) refused++;
        }
      }
      const dropped = { reason: 'memory' };
      const scrape = await proxy.scrapeUntil(
        (each) => each.value('gitaly_tls_proxy_connections_dropped_total', dropped) > 0,
      );
      expect(scrape.value('gitaly_tls_proxy_worker_exits_total')).toBe(0);
      const line = await proxy.log.waitForEvent('connection_refused', { 'close.reason': 'memory' });
      expect(line['fix']).toContain('--max-old-space-size');
      for (const client of clients) client.destroy();
      // Once they are gone there is room again.
      await vi.waitFor(
        async () => {
          const { client, answered } = await begin(port);
          client.destroy();
          expect(answered).toBe(true);
        },
        { timeout: 60_000, interval: 200 },
      );
      await proxy.endsWithNothingLeaked();
    },
  );
});

/** The address of a backend that greets its clients and keeps nothing of what they send. */
async function answeringBackend(): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined).resume();
    socket.write(frame(SETTINGS, 0, 0));
  });
  server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 });
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const address = server.address();
  return `tcp://127.0.0.1:${address !== null && typeof address === 'object' ? address.port : 0}`;
}
