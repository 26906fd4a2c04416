import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';

import { HpackWriter, type Field, type FieldForm } from '../support/hpack-writer.js';
import {
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  framesOf,
  HEADERS,
  PADDED,
  PING,
  PRIORITY,
  RST_STREAM,
  settings,
  SETTINGS_ACK,
  uint32,
  WINDOW_UPDATE,
  WITH_PRIORITY,
} from '../support/http2-frames.js';
import { ALLOWED, JudgedConnection, REFUSED } from '../support/judged-connection.js';
import { randomOf } from '../support/seeded-random.js';

/** Judged header blocks in all: what CI has time for, unless more are asked for. */
const BLOCKS = Number(process.env['JUDGED_BLOCKS'] ?? 50_000);
const SEED = Number(process.env['JUDGED_SEED'] ?? 1);
/** Connections that are served one after the other by one program before its answers are looked at. */
const AT_ONCE = 64;
const BLOCKS_PER_CONNECTION = 25;

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

type Random = (below: number) => number;

/** A result of the Go program: the methods that grpc-go accepted, and what it sent. */
const resultSchema = z.object({ methods: z.array(z.base64()), sent: z.base64() });

let directory: string;
let program: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gitaly-tls-proxy-blocks-'));
  program = join(directory, 'blocks');
  await promisify(execFile)('go', ['build', '-o', program, './blocks'], {
    cwd: fileURLToPath(new URL('.', import.meta.url)),
  });
});

afterAll(() => rm(directory, { recursive: true, force: true }));

/** Whether the judge allows a call. */
function isAllowed(path: string): boolean {
  return path.startsWith('/ok.');
}

let paths = 0;

/** A path that no other block has. */
function newPath(random: Random): string {
  return `/${random(2) === 0 ? 'ok' : 'no'}.Service/Method${++paths}`;
}

/** Ways to write a path that a server may read as another. */
const PATHS: readonly ((path: string) => string)[] = [
  (path) => `${path}?a=/ok.S/M`,
  (path) => `${path}#/ok.S/M`,
  (path) => path.replace('/M', '%2FM'),
  (path) => `/${path}`,
  (path) => path.replace('/M', '//M'),
  (path) => path.toUpperCase(),
  (path) => `http://localhost${path}`,
  (path) => path.slice(1),
  (path) => `${path}/`,
  (path) => `/ok.S/..${path}`,
  (path) => `${path}\0`,
  (path) => `${path} `,
  (path) => ` ${path}`,
  (path) => `${path}\xe9`,
  (path) => `/ok.S/${'a'.repeat(1100)}${path}`,
  (path) => `/ok.S/${'a'.repeat(1024 - 6)}`.slice(0, 1024) + path,
  () => '/',
  () => '',
  () => '*',
];

/** Changes to the fields of a request. */
const FIELDS: readonly ((fields: Field[], random: Random) => void)[] = [
  (fields, random) => void fields.splice(random(fields.length + 1), 0, [':path', newPath(random)]),
  (fields, random) => {
    const at = fields.findIndex(([name]) => name === ':path');
    const change = PATHS[random(PATHS.length)];
    const path = fields[at]?.[1] ?? '';
    if (change && at >= 0) fields[at] = [':path', change(path)];
  },
  (fields, random) => void fields.splice(random(fields.length), 1),
  (fields, random) => void fields.push(...fields.splice(random(fields.length), 1)),
  (fields, random) => {
    const odd: readonly Field[] = [
      ['connection', 'close'],
      ['te', 'gzip'],
      ['transfer-encoding', 'chunked'],
      ['X-Upper', 'a'],
      [':refused', 'a'],
      [':status', '200'],
      [':authority', 'other'],
      ['host', 'other'],
      [':method', 'GET'],
      ['content-type', 'text/plain'],
      ['content-length', '7'],
      ['grpc-timeout', '1x'],
      ['grpc-timeout', '10S'],
      ['', 'a'],
      ['a b', 'a'],
      ['x\r\ny', 'a'],
      ['x', 'a\r\n:path: /ok.S/M'],
      [':path ', '/ok.S/M'],
      ['path', '/ok.S/M'],
      [':Path', '/ok.S/M'],
      ['authorization', 'Bearer a'],
    ];
    fields.splice(random(fields.length + 1), 0, odd[random(odd.length)] ?? ['a', 'a']);
  },
];

const FORMS: readonly FieldForm[] = ['indexed', 'indexed', 'into_table', 'literal', 'never_indexed'];

/** One client: what it sends, and whether all of it is as gRPC requires. */
class FuzzedClient {
  readonly bytes: readonly Buffer[];
  isRegular = true;
  readonly #random: Random;
  /** One block in this number has something odd about it, which may end the connection. */
  readonly #oddness: number;
  readonly #writer = new HpackWriter();
  #streamId = -1;

  constructor(random: Random) {
    this.#random = random;
    this.#oddness = 1 + random(12);
    const isOdd = random(4) > 0;
    const parts = [PREFACE, settings(), SETTINGS_ACK];
    for (let block = 0; block < BLOCKS_PER_CONNECTION; block++) parts.push(...this.#call(isOdd));
    this.bytes = parts;
  }

  /** `true` once in this number of times. */
  #isOneIn(times: number): boolean {
    return this.#random(times) === 0;
  }

  #call(isOdd: boolean): Buffer[] {
    const random = this.#random;
    const mayChange = isOdd && this.#isOneIn(this.#oddness);
    if (mayChange) this.isRegular = false;
    let block = this.#block(mayChange);
    if (mayChange && this.#isOneIn(12)) block = this.#damaged(block);
    this.#streamId += 2;
    let id = this.#streamId;
    if (mayChange && this.#isOneIn(20))
      id = [id - 1, Math.max(id - 2 * (1 + random(3)), 0), 0, id + 20, 1][random(5)] ?? id;
    if (id > this.#streamId) this.#streamId = id;
    const endStream = this.#isOneIn(2) ? END_STREAM : 0;
    const frames = this.#frames(id, block, endStream, mayChange);
    // A second block on the stream, with or without data before it.
    if (mayChange && this.#isOneIn(10)) {
      if (this.#isOneIn(2)) frames.push(frame(DATA, 0, id, Buffer.alloc(5)));
      frames.push(...this.#frames(id, this.#block(this.#isOneIn(2)), END_STREAM, false));
    }
    const others = [
      frame(DATA, endStream ? 0 : END_STREAM, id, Buffer.alloc(5)),
      frame(RST_STREAM, 0, id, uint32(8)),
      frame(WINDOW_UPDATE, 0, id, uint32(10)),
      frame(PING, 0, 0, Buffer.alloc(8)),
      frame(PRIORITY, 0, id, Buffer.alloc(5)),
    ];
    const isClean = this.isRegular || this.#isOneIn(2);
    if (isClean) {
      if (endStream === 0) frames.push(frame(DATA, END_STREAM, id, Buffer.alloc(5)));
    } else frames.push(others[random(others.length)] ?? Buffer.alloc(0));
    return frames;
  }

  #block(mayChange: boolean): Buffer {
    const random = this.#random;
    const fields: Field[] = [
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', newPath(random)],
      [':authority', 'gitaly'],
      ['content-type', 'application/grpc'],
      ['te', 'trailers'],
      ['x-gitlab-correlation-id', String(random(3))],
    ];
    if (mayChange)
      for (let changes = 1 + random(2); changes > 0 && fields.length > 0; changes--)
        FIELDS[random(FIELDS.length)]?.(fields, random);
    // Go accepts a change of the table's size at the beginning of a block only.
    const sizes = [0, 64, 200, 4096];
    const resized = this.#isOneIn(6) ? [this.#writer.resize(sizes[random(sizes.length)] ?? 0)] : [];
    const encoded = fields.map((field) =>
      this.#writer.field(field, FORMS[random(FORMS.length)] ?? 'literal', this.#isOneIn(2)),
    );
    if (mayChange && this.#isOneIn(30)) encoded.push(Buffer.of(0x20 | random(31)));
    return Buffer.concat([...resized, ...encoded]);
  }

  #damaged(block: Buffer): Buffer {
    const random = this.#random;
    if (this.#isOneIn(2)) return block.subarray(0, random(block.length + 1));
    const damaged = Buffer.from(block);
    if (damaged.length > 0) damaged[random(damaged.length)] = random(256);
    return damaged;
  }

  /** HEADERS, padded or with a priority or neither, and CONTINUATION. */
  #frames(id: number, block: Buffer, endStream: number, mayChange: boolean): Buffer[] {
    const random = this.#random;
    const cuts = Array.from({ length: this.#isOneIn(2) ? 0 : 1 + random(4) }, () => random(block.length + 1));
    const ends = [...cuts.sort((a, b) => a - b), block.length];
    const parts = ends.map((end, index) => block.subarray(ends[index - 1] ?? 0, end));
    const [first = Buffer.alloc(0), ...rest] = parts;
    const isPadded = this.#isOneIn(4);
    const hasPriority = this.#isOneIn(4);
    const padding = isPadded ? random(20) : 0;
    const tooLong = isPadded && mayChange && this.#isOneIn(8);
    const payload = Buffer.concat([
      ...(isPadded ? [Buffer.of(tooLong ? 255 : padding)] : []),
      ...(hasPriority ? [Buffer.alloc(5)] : []),
      first,
      Buffer.alloc(padding),
    ]);
    const flags =
      endStream |
      (isPadded ? PADDED : 0) |
      (hasPriority ? WITH_PRIORITY : 0) |
      (rest.length === 0 ? END_HEADERS : 0);
    const frames = [frame(HEADERS, flags, id, payload)];
    rest.forEach((part, index) => {
      if (mayChange && this.#isOneIn(40)) frames.push(frame(PING, 0, 0, Buffer.alloc(8)));
      frames.push(frame(CONTINUATION, index === rest.length - 1 ? END_HEADERS : 0, id, part));
    });
    return frames;
  }
}

/** A connection after the proxy has had all that its client sent. */
interface Passed {
  readonly client: FuzzedClient;
  readonly connection: JudgedConnection;
  /** The paths of the calls that were allowed and refused. */
  readonly allowed: readonly string[];
  readonly refused: readonly string[];
  readonly forwarded: Buffer;
}

function pass(random: Random): Passed {
  const client = new FuzzedClient(random);
  const [allowed, refused]: [string[], string[]] = [[], []];
  const connection = new JudgedConnection(({ path }) => {
    (isAllowed(path) ? allowed : refused).push(path);
    return isAllowed(path) ? ALLOWED : REFUSED;
  });
  // Bytes one by one are slow.
  const slice = random(20) === 0 ? 1 : ([7, 50, 1000, 100_000][random(4)] ?? 1);
  connection.send('client', Buffer.concat(client.bytes), slice);
  return { client, connection, allowed, refused, forwarded: connection.received('server') };
}

/** The input of the Go program for a client: its forwarded bytes, and whether they may end within a frame. */
function lineOf({ connection, forwarded }: Passed): string {
  return `${connection.editor.failure === undefined ? '' : '!'}${forwarded.toString('base64')}\n`;
}

test(
  'grpc-go calls no method but those that were allowed, whatever header blocks a client sends',
  async () => {
    const random: Random = randomOf(SEED);
    const server = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] });
    const exited = once(server, 'exit');
    const results = createInterface({ input: server.stdout })[Symbol.asyncIterator]();
    const counts = { blocks: 0, allowed: 0, refused: 0, seen: 0, failed: 0 };
    /** Has more clients served, while the proxy's side of the next ones is computed. */
    const serveMore = (): Passed[] => {
      const passed = Array.from({ length: AT_ONCE }, () => pass(random));
      server.stdin.write(passed.map(lineOf).join(''));
      return passed;
    };
    let serving = serveMore();
    while (counts.blocks < BLOCKS) {
      const served = serving;
      serving = serveMore();
      for (const { client, connection, allowed, refused, forwarded } of served) {
        const line = await results.next();
        const { methods, sent } = resultSchema.parse(JSON.parse(String(line.value)));
        const seen = methods.map((method) => Buffer.from(method, 'base64').toString('latin1'));
        const unjudged = seen.filter((method) => !allowed.includes(method));
        expect(unjudged, forwarded.toString('base64')).toEqual([]);
        expect(new Set(seen).size, forwarded.toString('base64')).toBe(seen.length);
        if (client.isRegular) {
          expect(connection.editor.failure).toBeUndefined();
          expect(seen.sort()).toEqual([...allowed].sort());
          expect(allowed.length + refused.length).toBe(BLOCKS_PER_CONNECTION);
          checkAnswers(connection, Buffer.from(sent, 'base64'), refused.length, random);
        }
        counts.blocks += allowed.length + refused.length;
        counts.allowed += allowed.length;
        counts.refused += refused.length;
        counts.seen += seen.length;
        if (connection.editor.failure !== undefined) counts.failed++;
      }
    }
    server.stdin.end();
    await exited;
    process.stdout.write(`${JSON.stringify(counts)}\n`);
    expect(counts.seen).toBeGreaterThan(BLOCKS / 5);
    expect(counts.refused).toBeGreaterThan(BLOCKS / 5);
  },
  Math.max(300_000, 2 * BLOCKS),
);

/** The client gets one answer for each refused call, and no reset of Gitaly's. */
function checkAnswers(connection: JudgedConnection, sent: Buffer, refused: number, random: Random): void {
  connection.send('server', sent, 1 + random(200));
  expect(connection.editor.failure).toBeUndefined();
  const frames = framesOf(connection.received('client'));
  const answers = frames.filter(({ payload }) => payload.includes('not allowed'));
  expect(answers).toHaveLength(refused);
  const resets = frames.filter(({ type, payload }) => type === RST_STREAM && payload.readUInt32BE(0) !== 0);
  expect(resets).toEqual([]);
  const ends = [...connection.ends.values()];
  expect(ends.filter((end) => end === 'PermissionDenied proxy not allowed')).toHaveLength(refused);
}
