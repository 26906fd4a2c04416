import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import type { BackendConnection } from '../support/backends.js';
import {
  BACKCHANNEL_PREFACE,
  HTTP2_PREFACE,
  readToEnd,
  tcpClient,
  tlsClient,
  type Ending,
} from '../support/clients.js';
import { FAST_CLOCK } from '../support/fast-clock.js';
import { frame, uint32 } from '../support/http2-frames.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, type Setup } from '../support/setup.js';
import { yamux } from '../support/yamux-frames.js';

const SETTINGS = frame(4, 0, 0);
const ENHANCE_YOUR_CALM = 11;

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
    name: 'SETTINGS flood (CVE-2019-9515)',
    limit: 'control_flood',
    stroke: () => SETTINGS,
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
    name: 'HPACK bombs (CVE-2016-6581)',
    limit: 'hpack_too_large',
    stroke: (index) => frame(1, 4, odd(index), bomb),
    allowed: 11,
    strokes: 500,
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

/** A client that upstream has answered, and what it has cost so far. */
interface Attacker {
  readonly setup: Setup;
  readonly client: Socket;
  readonly upstream: BackendConnection;
  /** How the connection ends for the client. */
  readonly ending: Promise<Ending>;
}

/** Opens a connection of this protocol through a proxy of its own. */
async function open(preface: Buffer, more: Readonly<Record<string, unknown>> = {}): Promise<Attacker> {
  // One process: its CPU is compared.
  const setup = await startSetup({ more: { workers: 1, ...more } });
  const client = await tlsClient(setup.port, { ca: setup.ca.caPem });
  const arrived = setup.backend.accept();
  client.write(preface);
  const upstream = await arrived;
  if (preface === HTTP2_PREFACE) {
    upstream.socket.write(SETTINGS);
    await once(client, 'data');
  }
  return { setup, client, upstream, ending: readToEnd(client) };
}

/** All is over, and nothing is left of it. */
async function finish({ setup, client, upstream }: Attacker): Promise<void> {
  await upstream.ended;
  client.destroy();
  await setup.proxy.endsWithNothingLeaked();
}

/** What a proxy has used: CPU of all its threads, and memory. */
async function usage(proxy: ProxyProcess): Promise<{ cpuMs: number; memoryKib: number }> {
  const directory = `/proc/${proxy.pid}/task`;
  let nanoseconds = 0;
  for (const thread of await readdir(directory)) {
    const [running = ''] = (await readFile(`${directory}/${thread}/schedstat`, 'utf8')).split(' ');
    nanoseconds += Number(running);
  }
  const [, resident = ''] = (await readFile(`/proc/${proxy.pid}/statm`, 'utf8')).split(' ');
  return { cpuMs: nanoseconds / 1e6, memoryKib: Number(resident) * 4 };
}

/** CPU that a client costs that makes one call after the other, by what it sends. */
async function politeCpuMsPerMib(): Promise<number> {
  const { setup, client, upstream, ending } = await open(HTTP2_PREFACE);
  const calls = 1000;
  const answer = (streamId: number): Buffer => frame(1, 5, streamId, Buffer.from([0x88]));
  const requests = Array.from({ length: calls }, (_, index) => frame(1, 5, odd(index), Buffer.from([0x82])));
  const before = await usage(setup.proxy);
  for (const [index, bytes] of requests.entries()) {
    const answered = once(client, 'data');
    client.write(bytes);
    await upstream.receive(HTTP2_PREFACE.length + (index + 1) * bytes.length);
    upstream.socket.write(answer(odd(index)));
    await answered;
  }
  const { cpuMs } = await usage(setup.proxy);
  upstream.socket.end();
  await ending;
  client.destroy();
  await setup.proxy.endsWithNothingLeaked();
  return (cpuMs - before.cpuMs) / (Buffer.concat(requests).length / 2 ** 20);
}

/** What an attack may take: 10 000 open calls, about 1.6 KiB each, and what V8 has not given back. */
const MEMORY_KIB = 32 * 1024;

/** Prints what each attack came to: `ABUSE_FIGURES=1 npx vitest run test/integration/abuse.test.ts`. */
function tell(name: string, figures: Readonly<Record<string, number>>): void {
  if (process.env['ABUSE_FIGURES'] === undefined) return;
  const words = Object.entries(figures).map(([what, figure]) => `${what} ${figure.toPrecision(3)}`);
  process.stdout.write(`${name}: ${words.join(', ')}\n`);
}

/** CPU of the end of a connection and of two scrapes, which does not grow with what the client sends. */
const FIXED_CPU_MS = 10;

/** Measured once, by the first test. */
let politeCpu: number | undefined;

/** Lets a client do what it should not, and asserts that it has cost the proxy no more than a client that behaves. */
async function expectCheap(name: string, attacker: Attacker, act: () => Promise<void>): Promise<void> {
  const { setup, client, upstream } = attacker;
  const { proxy } = setup;
  if (process.platform === 'linux') politeCpu ??= await politeCpuMsPerMib();
  const before = politeCpu === undefined ? undefined : await usage(proxy);
  const [begun, sentBefore] = [performance.now(), client.bytesWritten];
  await act();
  const tookMs = performance.now() - begun;
  if (!before || politeCpu === undefined) return;
  const after = await usage(proxy);
  const cpuMs = after.cpuMs - before.cpuMs;
  const memoryKib = after.memoryKib - before.memoryKib;
  const mib = (client.bytesWritten - sentBefore) / 2 ** 20;
  const share = Math.max(cpuMs - FIXED_CPU_MS, 0) / mib / politeCpu;
  tell(name, { tookMs, bytesReached: upstream.received.length, cpuMs, mib, share, memoryKib });
  // A byte of an attack may cost what a polite one does, and not a hundred times as much.
  expect(share).toBeLessThan(1);
  expect(memoryKib).toBeLessThan(MEMORY_KIB);
}

/** The same of a client that is closed for a limit. Gives what the client received. */
async function expectClosedCheaply(
  name: string,
  limit: string,
  attacker: Attacker,
  act: () => Promise<void> | void,
): Promise<Buffer> {
  await expectCheap(name, attacker, async () => {
    await act();
    await attacker.ending;
  });
  await expectClosed(attacker.setup.proxy, limit);
  return (await attacker.ending).received;
}

describe('an abusive HTTP/2 client gets ENHANCE_YOUR_CALM, and its connection is closed', () => {
  test.each(ATTACKS)('$name', async (which) => {
    const attacker = await open(HTTP2_PREFACE);
    const { client, upstream } = attacker;
    const received = await expectClosedCheaply(which.name, which.limit, attacker, () => {
      if (which.first) client.write(which.first);
      return attack(client, which);
    });
    expect(goAwayCode(received)).toBe(ENHANCE_YOUR_CALM);
    expect(strokesReached(upstream, which)).toBeLessThanOrEqual(which.allowed);
    await finish(attacker);
  });

  test('a header block that is not complete within timeouts.preface', async () => {
    const attacker = await open(HTTP2_PREFACE, { timeouts: { preface: '1s' } });
    const begun = performance.now();
    const before = await usage(attacker.setup.proxy);
    attacker.client.write(frame(1, 0, 1, Buffer.from([0x82])));
    expect(goAwayCode((await attacker.ending).received)).toBe(ENHANCE_YOUR_CALM);
    const closedAfterMs = performance.now() - begun;
    expect(closedAfterMs).toBeGreaterThan(900);
    await expectClosed(attacker.setup.proxy, 'continuation');
    expect(await attacker.setup.proxy.log.waitForClose('abuse')).toMatchObject({
      'close.advice': expect.stringMatching(/raise `timeouts\.preface`/) as unknown,
    });
    const after = await usage(attacker.setup.proxy);
    const memoryKib = after.memoryKib - before.memoryKib;
    tell('a header block without end', { closedAfterMs, cpuMs: after.cpuMs - before.cpuMs, memoryKib });
    expect(memoryKib).toBeLessThan(MEMORY_KIB);
    await finish(attacker);
  });

  test('resets that a client makes Gitaly send count alike (CVE-2025-8671)', async () => {
    const attacker = await open(HTTP2_PREFACE);
    const { client, upstream } = attacker;
    const streams = 1500;
    const requests = Buffer.concat(Array.from({ length: streams }, (_, index) => request(odd(index))));
    const resets = Array.from({ length: streams }, (_, index) => frame(3, 0, odd(index), uint32(1)));
    await expectClosedCheaply('provoked resets (CVE-2025-8671)', 'reset_flood', attacker, async () => {
      client.write(requests);
      await upstream.receive(HTTP2_PREFACE.length + requests.length);
      upstream.socket.write(Buffer.concat(resets));
    });
    await finish(attacker);
  });

  // They are no reason to close: Gitaly refuses them (smuggling.test.ts). What they may not do is to cost more.
  test.each([
    ['smuggled headers', 'x-smuggled\r\n', 'a\r\nauthorization: b\0'],
    ['tricks with :path', ':path', '//gitaly.CommitService%2f../FindCommit'],
  ])('%s pass at the price of a polite call', async (what, name, value) => {
    const attacker = await open(HTTP2_PREFACE);
    const { setup, client, upstream, ending } = attacker;
    const block = Buffer.from(
      `\x82\x00${String.fromCharCode(name.length)}${name}${String.fromCharCode(value.length)}${value}`,
      'latin1',
    );
    const calls = 1000;
    let sent = HTTP2_PREFACE.length;
    await expectCheap(what, attacker, async () => {
      for (let index = 0; index < calls; index++) {
        const answered = once(client, 'data');
        const bytes = frame(1, 5, odd(index), block);
        client.write(bytes);
        await upstream.receive((sent += bytes.length));
        upstream.socket.write(frame(1, 5, odd(index), Buffer.from([0x88])));
        await answered;
      }
    });
    const scrape = await setup.proxy.scrape();
    expect(scrape.value('grpc_server_started_total', { grpc_service: 'other' })).toBe(calls);
    upstream.socket.end();
    await ending;
    client.destroy();
    await setup.proxy.endsWithNothingLeaked();
  });

  test('a client that attacks before upstream has sent anything', async () => {
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

/** What so many clients have cost a proxy, each. */
async function costOfEach(
  { proxy }: Setup,
  clients: number,
  act: () => Promise<unknown>,
): Promise<Readonly<Record<'closedAfterMs' | 'cpuMs' | 'memoryKib', number>>> {
  const before = await usage(proxy);
  const begun = performance.now();
  await act();
  const closedAfterMs = performance.now() - begun;
  const after = await usage(proxy);
  return {
    closedAfterMs,
    cpuMs: (after.cpuMs - before.cpuMs) / clients,
    memoryKib: (after.memoryKib - before.memoryKib) / clients,
  };
}

/** Runs something for each of so many clients at once. */
function eachOf<T>(clients: number, act: () => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: clients }, act));
}

describe.runIf(process.platform === 'linux')('a client that is slow on purpose', () => {
  const CLIENTS = 100;
  const rows: [string, string, 'handshake' | 'preface', (setup: Setup) => Promise<Socket>][] = [
    ['slow handshake: silence', 'handshake_failed', 'handshake', ({ port }) => tcpClient(port)],
    [
      'slow handshake: its first byte',
      'handshake_failed',
      'handshake',
      async ({ port }) => {
        const client = await tcpClient(port);
        client.write(Buffer.from([0x16]));
        return client;
      },
    ],
    [
      'slow preface: silence',
      'preface_timeout',
      'preface',
      ({ ca, port }) => tlsClient(port, { ca: ca.caPem }),
    ],
    [
      'slow preface: its first byte',
      'preface_timeout',
      'preface',
      async ({ ca, port }) => {
        const client = await tlsClient(port, { ca: ca.caPem });
        client.write('P');
        return client;
      },
    ],
  ];

  test.each(rows)(
    '%s: is closed in time, before anything is dialled',
    async (name, reason, timeout, begin) => {
      const setup = await startSetup({
        more: { workers: 1, timeouts: { [timeout]: '2s' } },
        ...FAST_CLOCK,
      });
      const { proxy, backend } = setup;
      const slow = await costOfEach(setup, CLIENTS, async () => {
        await eachOf(CLIENTS, async () => {
          const client = await begin(setup);
          await readToEnd(client);
          client.destroy();
        });
        await proxy.scrapeUntil((scrape) => scrape.value('gitaly_tls_proxy_connections_active') === 0);
      });
      const scrape = await proxy.scrape();
      expect(scrape.value('gitaly_tls_proxy_connections_closed_total', { reason })).toBe(CLIENTS);
      expect(backend.connections).toHaveLength(0);
      await proxy.endsWithNothingLeaked();

      // A polite one shakes hands, makes a call's first move, and leaves.
      const other = await startSetup({ more: { workers: 1 } });
      const polite = await costOfEach(other, CLIENTS, async () => {
        for (let index = 0; index < CLIENTS; index++) {
          const client = await tlsClient(other.port, { ca: other.ca.caPem });
          const arrived = other.backend.accept();
          client.write(HTTP2_PREFACE);
          const upstream = await arrived;
          const ending = readToEnd(client);
          upstream.socket.end(SETTINGS);
          await ending;
          client.destroy();
        }
      });
      await other.proxy.endsWithNothingLeaked();
      tell(name, { ...slow, share: slow.cpuMs / polite.cpuMs });
      // Nearly all of a handshake is the asymmetric key's; more than twice the polite one's is more than chance.
      expect(slow.cpuMs / polite.cpuMs).toBeLessThan(2);
      expect(slow.memoryKib).toBeLessThan(256);
    },
  );

  test('a TCP window that is closed: is cut when it has taken nothing for timeouts.write_stall (CVE-2019-9517)', async () => {
    const clients = 8;
    const setup = await startSetup({ more: { workers: 1, timeouts: { write_stall: '1s' } } });
    const { ca, proxy, port, backend } = setup;
    const data = frame(0, 0, 1, Buffer.alloc(16_384));
    /** Has Gitaly send as long as anybody takes it, or so many bytes; how much was taken. */
    const pour = async (socket: Socket, bytes = Number.POSITIVE_INFINITY): Promise<number> => {
      for (let sent = 0; sent < bytes && !socket.destroyed; sent += data.length)
        if (!socket.write(data))
          await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => undefined);
      return socket.bytesWritten - socket.writableLength;
    };
    /** A client with a call whose answer may be as long as it likes. */
    const call = async (): Promise<{ client: Socket; upstream: BackendConnection }> => {
      const client = await tlsClient(port, { ca: ca.caPem });
      const arrived = backend.accept();
      const window = uint32(2 ** 31 - 1 - 65_535);
      client.write(
        Buffer.concat([HTTP2_PREFACE, request(1), frame(8, 0, 0, window), frame(8, 0, 1, window)]),
      );
      return { client, upstream: await arrived };
    };
    const calls: Awaited<ReturnType<typeof call>>[] = [];
    for (let index = 0; index < 2 * clients; index++) calls.push(await call());
    const [attackers, others] = [calls.slice(0, clients), calls.slice(clients)];
    let taken = 0;
    const cost = await costOfEach(setup, clients, async () => {
      for (const { client } of attackers) client.pause();
      const poured = await Promise.all(attackers.map(({ upstream }) => pour(upstream.socket)));
      taken = poured.reduce((sum, bytes) => sum + bytes) / clients;
    });
    const stalled = { reason: 'write_stall', initiator: 'proxy' };
    await proxy.scrapeUntil(
      (scrape) => scrape.value('gitaly_tls_proxy_connections_closed_total', stalled) === clients,
    );
    const politeBytes = 8 * 2 ** 20;
    const polite = await costOfEach(setup, clients, () =>
      Promise.all(
        others.map(async ({ client, upstream }) => {
          const ending = readToEnd(client);
          await pour(upstream.socket, politeBytes);
          upstream.socket.end();
          expect((await ending).received.length).toBeGreaterThanOrEqual(politeBytes);
        }),
      ),
    );
    const share = cost.cpuMs / taken / (polite.cpuMs / politeBytes);
    tell('closed TCP window', { ...cost, mibTaken: taken / 2 ** 20, share });
    expect(share).toBeLessThan(5);
    expect(cost.memoryKib).toBeLessThan(1024);
    for (const { client } of calls) client.destroy();
    await proxy.endsWithNothingLeaked();
  });
});

describe('over the backchannel', () => {
  const GO_AWAY = yamux(3, 0, 0, 1);

  test('a flood of yamux PINGs gets GO AWAY', async () => {
    const attacker = await open(BACKCHANNEL_PREFACE);
    const ping = yamux(2, 1, 0, 1);
    const flood = { name: '', limit: '', stroke: () => ping, allowed: 0, strokes: 50_000 };
    const received = await expectClosedCheaply('yamux PING flood', 'yamux_flood', attacker, () =>
      attack(attacker.client, flood),
    );
    expect(received).toEqual(GO_AWAY);
    expect(attacker.upstream.received.length / ping.length).toBeLessThanOrEqual(11_000);
    await finish(attacker);
  });

  test('more gRPC connections in it than can be followed get GO AWAY', async () => {
    const attacker = await open(BACKCHANNEL_PREFACE);
    const preface = HTTP2_PREFACE.toString('latin1');
    const connection = (streamId: number): Buffer => yamux(0, 1, streamId, Buffer.from(preface, 'latin1'));
    const received = await expectClosedCheaply('gRPC connections', 'too_many_connections', attacker, () => {
      attacker.client.write(
        Buffer.concat(Array.from({ length: 20 }, (_, index) => connection(odd(index + 1)))),
      );
    });
    expect(received).toEqual(GO_AWAY);
    await finish(attacker);
  });

  // Gitaly's yamux ends its session for each of these by itself, with words of its own; they must reach it.
  test.each([
    ['an unknown type', yamux(9, 0, 1, 0)],
    ['data beyond the window', yamux(0, 0, 7, 300 * 1024)],
    ['the id of a stream that is open', yamux(1, 1, 1, 0)],
    ['a stream that only the other end may open', yamux(1, 1, 2, 0)],
    ['a stream that nobody opened', yamux(0, 0, 7, 0)],
  ])('%s, and then no yamux, is passed on, and the connection followed no further', async (what, bytes) => {
    const attacker = await open(BACKCHANNEL_PREFACE);
    const { setup, client, upstream, ending } = attacker;
    const sent = Buffer.concat([BACKCHANNEL_PREFACE, bytes, Buffer.alloc(2 ** 20, 'and more')]);
    await expectCheap(`malformed yamux: ${what}`, attacker, async () => {
      client.write(sent.subarray(BACKCHANNEL_PREFACE.length));
      await upstream.receive(sent.length);
    });
    expect(upstream.received.equals(sent)).toBe(true);
    const scrape = await setup.proxy.scrape();
    expect(scrape.value('gitaly_tls_proxy_inspector_lost_total', { reason: 'yamux_frame' })).toBe(1);
    upstream.socket.end();
    await ending;
    client.destroy();
    await setup.proxy.endsWithNothingLeaked();
  });
});
