import { once } from 'node:events';
import {
  connect as connectHttp2,
  createServer as createHttp2Server,
  type ClientHttp2Session,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';

import { expect, onTestFinished, test } from 'vitest';

import { HpackDecoder, type HpackFailure } from '../../../src/inspect/hpack/decoder.js';
import { FieldNames } from '../../../src/inspect/hpack/field-names.js';
import { FrameReader, type FrameSink, type PayloadUse } from '../../../src/inspect/frame-reader.js';
import {
  CLIENT_PREFACE,
  Flag,
  FRAME_HEADER_BYTES,
  FrameType,
} from '../../../src/inspect/http2/http2-frame.js';
import { readSettings } from '../../../src/inspect/http2/http2-settings.js';
import { randomOf } from '../../support/seeded-random.js';

/** Header blocks of both directions, all runs together. */
const BLOCKS = 100_000;
const SEEDS = [1, 2, 3, 4];

const PSEUDO = [':method', ':scheme', ':authority', ':path', ':status'];
const NAMES = [
  'grpc-status',
  'grpc-message',
  'user-agent',
  'a',
  ...Array.from({ length: 40 }, (_, n) => `x-name-${n * n}`),
];
/** What Node's server adds by itself. */
const VOCABULARY = [...PSEUDO, ...NAMES, 'date'];

/** The blocks of one direction, as our decoder reads them off the wire. */
class Tap implements FrameSink {
  readonly blocks: string[][] = [];
  readonly failures: HpackFailure[] = [];
  readonly decoder = new HpackDecoder(new FieldNames(VOCABULARY));
  readonly reader: FrameReader;
  other: Tap | undefined;
  payloadBytes = 0;
  readonly #sizes: (number | undefined)[] = [];
  #parts: Buffer[] = [];
  #type = 0;
  #flags = 0;

  constructor(preface: Buffer | undefined) {
    this.reader = new FrameReader(this, { headerBytes: FRAME_HEADER_BYTES, preface });
  }

  header(bytes: Buffer, offset: number): PayloadUse {
    const type = bytes.readUInt8(offset + 3);
    this.payloadBytes = bytes.readUIntBE(offset, 3);
    this.#type = type;
    this.#flags = bytes.readUInt8(offset + 4);
    const { headers, continuation, settings } = FrameType;
    return type === headers || type === continuation || type === settings ? 'collect' : 'skip';
  }

  part(): boolean {
    return false;
  }

  payload(bytes: Buffer, start: number, end: number): boolean {
    if (this.#type === FrameType.settings) {
      if ((this.#flags & Flag.ack) === 0) this.#sizes.push(readSettings(bytes, start, end)?.headerTableBytes);
      else this.#acknowledge(this.other?.acknowledged());
      return true;
    }
    const from = start + ((this.#flags & Flag.priority) !== 0 && this.#type === FrameType.headers ? 5 : 0);
    this.#parts.push(Buffer.from(bytes.subarray(from, end)));
    if ((this.#flags & Flag.endHeaders) === 0) return true;
    const block = Buffer.concat(this.#parts);
    this.#parts = [];
    const fields: string[] = [];
    const failure = this.decoder.decode(block, 0, block.length, {
      field: (id, value) => fields.push(VOCABULARY[id - 1] ?? '?', value),
    });
    if (failure) this.failures.push(failure);
    this.blocks.push(fields);
    return true;
  }

  acknowledged(): number | undefined {
    return this.#sizes.shift();
  }

  #acknowledge(size: number | undefined): void {
    if (size !== undefined) this.decoder.acknowledgeTableSize(size);
  }
}

function randomHeaders(random: (below: number) => number): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let count = random(12); count > 0; count--) {
    const name = NAMES[random(NAMES.length)] ?? 'a';
    // Some values repeat, some are long, some are better off without Huffman.
    const kind = random(4);
    if (kind === 0) headers[name] = `value-${random(30)}`;
    else if (kind === 1) headers[name] = 'lorem ipsum '.repeat(random(30)).trim();
    else if (kind === 2) headers[name] = String(random(1e9));
    else
      headers[name] = Array.from({ length: random(60) }, () => String.fromCharCode(33 + random(94))).join('');
  }
  return headers;
}

/** Makes calls on one connection through a tap, and says what nghttp2 has read on either side. */
async function exchange(
  seed: number,
  calls: number,
): Promise<{ up: Tap; down: Tap; sent: string[][]; received: string[][] }> {
  const random = randomOf(seed);
  const sizes = [0, 64, 300, 4096, 20_000];
  const tableSize = (): number => sizes[random(sizes.length)] ?? 4096;
  const [up, down] = [new Tap(CLIENT_PREFACE), new Tap(undefined)];
  up.other = down;
  down.other = up;
  const sent: string[][] = [];
  const received: string[][] = [];

  const server = createHttp2Server({ settings: { headerTableSize: tableSize() } });
  server.on(
    'stream',
    (stream: ServerHttp2Stream, _headers: IncomingHttpHeaders, _flags: number, raw: string[]) => {
      sent.push(raw);
      stream.respond({ ':status': 200, ...randomHeaders(random) }, { endStream: true });
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const tap = createServer((client) => {
    const upstream = connect(portOf(server.address()), '127.0.0.1');
    pass(client, upstream, up);
    pass(upstream, client, down);
  });
  tap.listen(0, '127.0.0.1');
  await once(tap, 'listening');
  const session = connectHttp2(`http://127.0.0.1:${portOf(tap.address())}`, {
    settings: { headerTableSize: tableSize() },
  });
  onTestFinished(() => {
    session.destroy();
    server.close();
    tap.close();
  });
  await once(session, 'connect');
  for (let made = 0; made < calls;) {
    const batch = Math.min(100, calls - made);
    await Promise.all(Array.from({ length: batch }, () => call(session, randomHeaders(random), received)));
    made += batch;
    // Both ends change the size of their table now and then; the blocks that follow depend on who has acknowledged what.
    if (random(3) === 0) session.settings({ headerTableSize: tableSize() });
  }
  session.close();
  await once(session, 'close');
  return { up, down, sent, received };
}

function portOf(address: ReturnType<ReturnType<typeof createServer>['address']>): number {
  return typeof address === 'object' && address ? address.port : 0;
}

function pass(from: Socket, to: Socket, tap: Tap): void {
  from.on('data', (chunk: Buffer) => {
    tap.reader.read(chunk, 0, chunk.length);
    to.write(chunk);
  });
  from.on('end', () => to.end());
  from.on('error', () => to.destroy());
}

async function call(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  received: string[][],
): Promise<void> {
  const stream = session.request({ ':path': '/package.Service/Method', ...headers });
  stream.on('response', (_headers: IncomingHttpHeaders, _flags: number, raw: unknown) => {
    received.push(Array.isArray(raw) ? raw.map(String) : []);
  });
  stream.resume();
  await once(stream, 'close');
}

test.each(SEEDS)(
  'what Node and nghttp2 write is read as nghttp2 reads it, whatever fields and table sizes (seed %i)',
  async (seed) => {
    const calls = BLOCKS / 2 / SEEDS.length;
    const { up, down, sent, received } = await exchange(seed, calls);
    expect([...up.failures, ...down.failures]).toEqual([]);
    expect(sent).toHaveLength(calls);
    expect(received).toHaveLength(calls);
    expect(up.blocks).toEqual(sent);
    expect(down.blocks).toEqual(received);
  },
  60_000,
);
