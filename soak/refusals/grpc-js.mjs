#!/usr/bin/env node
// The mix of refused and allowed calls, as test/interop/refusals/mix.go makes it, by grpc-js.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Client, credentials, Metadata, status } from '@grpc/grpc-js';

const CONNECTIONS = 4;
const WORKERS_ON_EACH = 2;
const LARGEST = 64 * 1024 * 1024;
const PIECE = 64 * 1024;
const UPLOADS_AT_ONCE = 5;
const PATIENCE_MS = 600_000;
/** The library's default lets 64 KiB come per turn of its event loop, which takes minutes for the largest body. */
const WINDOW = 4 * 1024 * 1024;
const KINDS = ['Unary', 'Down', 'Up', 'Chat'];

/**
 * @typedef {object} Plan
 * @property {boolean} isAllowed
 * @property {string} kind
 * @property {number} bytes
 * @property {'whole' | 'cancelled' | 'deadline'} ending
 * @property {number} afterMs when it is cancelled, or its deadline
 */

const { values } = parseArgs({
  options: {
    address: { type: 'string', default: '' },
    ca: { type: 'string', default: '' },
    calls: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    uploads: { type: 'string', default: '100' },
    refusal: { type: 'string', default: '' },
  },
});
const body = Buffer.alloc(LARGEST);
const noise = createHash('sha512').update(values.seed).digest();
for (let offset = 0; offset < LARGEST; offset += noise.length) {
  noise.writeUInt32LE(offset / noise.length, 0);
  noise.copy(body, offset);
}
const clients = Array.from(
  { length: CONNECTIONS },
  () =>
    new Client(values.address, credentials.createSsl(readFileSync(values.ca)), {
      'grpc.ssl_target_name_override': 'localhost',
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_receive_message_length': -1,
      'grpc-node.flow_control_window': WINDOW,
    }),
);
const asItIs = (/** @type {Buffer} */ message) => message;
/** @type {{ refused: Record<string, number>, allowed: Record<string, number>, whole: number }} */
const seen = { refused: {}, allowed: {}, whole: 0 };

/**
 * Makes a call; resolves with what came back, or rejects with the status.
 * @param {Client} client
 * @param {string} path
 * @param {Plan} plan
 * @returns {Promise<Buffer>}
 */
function call(client, path, { kind, bytes, ending, afterMs }) {
  const content = body.subarray(0, bytes);
  const options = ending === 'cancelled' ? {} : { deadline: Date.now() + afterMs };
  const metadata = new Metadata();
  return new Promise((resolve, reject) => {
    /** @param {Error | null} error @param {Buffer | undefined} answer */
    const settle = (error, answer) => (error === null ? resolve(answer ?? Buffer.alloc(0)) : reject(error));
    /** @type {import('@grpc/grpc-js').ClientUnaryCall | import('@grpc/grpc-js').ClientReadableStream<Buffer>} */
    let made;
    if (kind === 'Unary')
      made = client.makeUnaryRequest(path, asItIs, asItIs, content, metadata, options, settle);
    else if (kind === 'Up') {
      const stream = client.makeClientStreamRequest(path, asItIs, asItIs, metadata, options, settle);
      send(stream, content);
      made = stream;
    } else if (kind === 'Down') {
      const stream = client.makeServerStreamRequest(path, asItIs, asItIs, content, metadata, options);
      receive(stream, resolve, reject);
      made = stream;
    } else {
      const stream = client.makeBidiStreamRequest(path, asItIs, asItIs, metadata, options);
      if (kind === 'Hold') stream.write(content);
      else send(stream, content);
      receive(stream, resolve, reject);
      made = stream;
    }
    if (ending === 'cancelled') setTimeout(() => made.cancel(), afterMs);
  });
}

/**
 * Receives all messages.
 * @param {import('@grpc/grpc-js').ClientReadableStream<Buffer>} stream
 * @param {(content: Buffer) => void} resolve
 * @param {(error: Error) => void} reject
 */
function receive(stream, resolve, reject) {
  /** @type {Buffer[]} */
  const received = [];
  stream.on('data', (/** @type {Buffer} */ message) => received.push(message));
  stream.on('error', reject);
  stream.on('end', () => resolve(Buffer.concat(received)));
}

/**
 * Sends the content in pieces as the library takes them.
 * @param {import('@grpc/grpc-js').ClientWritableStream<Buffer>} stream
 * @param {Buffer} content
 */
function send(stream, content) {
  let offset = 0;
  const next = () => {
    while (offset < content.length) {
      const piece = content.subarray(offset, (offset += PIECE));
      if (!stream.write(piece)) {
        stream.once('drain', next);
        return;
      }
    }
    stream.end();
  };
  next();
}

/**
 * Makes a call and checks that it ends as it must.
 * @param {Client} client
 * @param {Plan} plan
 */
async function make(client, plan) {
  const service = plan.isAllowed ? 'interop.Allowed' : 'interop.Refused';
  const rpc = `${service}/${plan.kind}`;
  const content = body.subarray(0, plan.bytes);
  /** @type {{ code: status, details: string }} */
  let end = { code: status.OK, details: '' };
  const answer = await call(client, `/${rpc}`, plan).catch((/** @type {unknown} */ error) => {
    end = /** @type {import('@grpc/grpc-js').ServiceError} */ (error);
  });
  const name = status[end.code];
  const counted = plan.isAllowed ? seen.allowed : seen.refused;
  counted[name] = (counted[name] ?? 0) + 1;
  const expected = plan.kind === 'Up' ? createHash('sha256').update(content).digest() : content;
  const isEqual = answer !== undefined && answer.equals(expected);
  // At the deadline of a call, grpc-go resets the stream, and this library does not compare the reset with its own deadline.
  const isReset = plan.isAllowed && plan.ending === 'deadline' && end.code === status.CANCELLED;
  const isCut =
    (plan.ending === 'cancelled' && end.code === status.CANCELLED) ||
    (plan.ending === 'deadline' && end.code === status.DEADLINE_EXCEEDED) ||
    isReset;
  const isRefused =
    end.code === status.PERMISSION_DENIED && end.details === values.refusal.replaceAll('{rpc}', rpc);
  if (plan.isAllowed && plan.kind !== 'Hold' && isEqual) seen.whole += 1;
  else if (!(plan.isAllowed ? plan.kind === 'Hold' && isCut : isCut || isRefused))
    throw new Error(`${JSON.stringify(plan)} ended with ${name}: ${end.details}`);
}

/**
 * Random numbers that a seed determines (mulberry32).
 * @param {number} seed
 * @returns {(below: number) => number}
 */
function randomOf(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/**
 * @param {(below: number) => number} random
 * @returns {Plan}
 */
function draw(random) {
  /** @type {Plan} */
  const plan = {
    isAllowed: random(5) === 0,
    kind: KINDS[random(KINDS.length)] ?? 'Unary',
    bytes: 0,
    ending: 'whole',
    afterMs: PATIENCE_MS,
  };
  const size = random(1000);
  if (size < 200) plan.bytes = 0;
  else if (size < 700) plan.bytes = 1 + random(1024);
  else if (size < 920) plan.bytes = 1 + random(65_536);
  else if (size < 990) plan.bytes = 1 + random(1024 * 1024);
  else if (!plan.isAllowed || size === 999) plan.bytes = LARGEST;
  const ends = random(10);
  if (ends < 2) {
    plan.ending = ends === 0 ? 'cancelled' : 'deadline';
    plan.afterMs = random(5);
    if (plan.isAllowed) {
      plan.kind = 'Hold';
      plan.bytes %= PIECE;
      plan.afterMs += 20;
    }
  }
  return plan;
}

const [first] = clients;
if (first === undefined) throw new Error('no client');
const begun = performance.now();
const upload = { kind: 'Up', bytes: LARGEST, ending: /** @type {const} */ ('whole'), afterMs: PATIENCE_MS };
await Promise.all(
  Array.from({ length: UPLOADS_AT_ONCE }, async () => {
    for (let index = 0; index < Number(values.uploads) / UPLOADS_AT_ONCE; index += 1)
      await make(first, { ...upload, isAllowed: false });
  }),
);
await make(first, { ...upload, isAllowed: true });
const uploadsSeconds = (performance.now() - begun) / 1000;
// Calls of all kinds, each refused and then allowed: the next call of a connection is not disturbed.
for (const kind of KINDS) {
  for (const bytes of [0, 1000, 1024 * 1024, LARGEST]) {
    await make(first, { ...upload, isAllowed: false, kind, bytes });
    await make(first, { ...upload, isAllowed: true, kind, bytes: bytes % LARGEST });
  }
}
let left = Number(values.calls);
await Promise.all(
  clients
    .flatMap((client) => Array.from({ length: WORKERS_ON_EACH }, () => client))
    .map(async (client, worker) => {
      const random = randomOf(Number(values.seed) * 1000 + worker);
      for (;;) {
        const plan = draw(random);
        if (!plan.isAllowed && left-- <= 0) return;
        await make(client, plan);
      }
    }),
);
const result = { ...seen, connections: CONNECTIONS, uploads_seconds: uploadsSeconds };
console.log(JSON.stringify({ event: 'done', result }));
for (const client of clients) client.close();
