import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';

import fc from 'fast-check';

import { noise } from '../support/noise.js';

/** The SHA-256 of bytes. */
export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** A stream of bytes, how it is cut into writes, and how its reader takes it. */
export interface Transfer {
  readonly bytes: number;
  readonly seed: number;
  /** Lengths of the writes, over and over again. */
  readonly slices: readonly number[];
  /** Whether each write waits for the one before to have left. */
  readonly oneByOne: boolean;
  /** Lengths of the reads, over and over again; empty: as they come. */
  readonly reads: readonly number[];
}

const slice = fc.oneof(
  fc.integer({ min: 1, max: 20 }),
  fc.integer({ min: 1, max: 20_000 }),
  fc.integer({ min: 60_000, max: 200_000 }),
);

/** Any transfer of up to this many bytes. */
export function transfers(bytesMax: number): fc.Arbitrary<Transfer> {
  return fc.record({
    bytes: fc.nat(bytesMax),
    seed: fc.nat(1000),
    slices: fc.array(slice, { minLength: 1, maxLength: 8 }),
    oneByOne: fc.boolean(),
    reads: fc.oneof(
      fc.constant([]),
      fc.constant([1]),
      fc.array(fc.integer({ min: 1, max: 50_000 }), { minLength: 1, maxLength: 4 }),
    ),
  });
}

/** At most this many writes or reads are as short as the transfer says; the rest goes in long ones. */
const SHORT_STEPS_MAX = 300;

function lengthOf(lengths: readonly number[], step: number): number {
  return step < SHORT_STEPS_MAX ? (lengths[step % lengths.length] ?? 65_536) : 65_536;
}

/** Sends a transfer's bytes and then ends the stream; gives their hash. */
export async function send(stream: Socket, transfer: Transfer): Promise<string> {
  const bytes = noise(transfer.bytes, transfer.seed);
  for (let offset = 0, step = 0; offset < bytes.length; step++) {
    const part = bytes.subarray(offset, offset + lengthOf(transfer.slices, step));
    offset += part.length;
    if (transfer.oneByOne) await new Promise<void>((resolve) => stream.write(part, () => resolve()));
    else if (!stream.write(part)) await once(stream, 'drain');
  }
  stream.end();
  return sha256(bytes);
}

/** Reads a stream to its end (or to where it was cut) as slowly as the transfer says; gives the hash of what came. */
export async function receive(stream: Socket, transfer: Transfer): Promise<string> {
  const hash = createHash('sha256');
  const state = { over: false, wake: (): void => undefined };
  const over = (): void => {
    state.over = true;
    state.wake();
  };
  stream.once('end', over).once('close', over);
  stream.on('readable', () => state.wake());
  for (let step = 0; !state.over;) {
    const wanted = transfer.reads.length === 0 ? undefined : lengthOf(transfer.reads, step);
    // Node gives nothing when more is asked for than is there.
    const chunk: unknown =
      wanted === undefined
        ? stream.read()
        : stream.read(Math.min(wanted, Math.max(stream.readableLength, 1)));
    if (Buffer.isBuffer(chunk)) {
      hash.update(chunk);
      step++;
      if (wanted !== undefined) await turn();
    } else {
      await new Promise<void>((resolve) => (state.wake = resolve));
    }
  }
  return hash.digest('hex');
}

/** One turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Writes without end, until the stream is destroyed. */
export function flood(stream: Socket): void {
  const bytes = noise(65_536);
  const more = (): void => {
    while (!stream.destroyed && stream.write(bytes));
  };
  stream.on('drain', more);
  more();
}

/** Turns of the event loop after which nothing more is expected to move: the loopback device delivers at once. */
const QUIET_TURNS = 200;

/** Waits until a measure has stopped to change; `look` sees every turn. */
export async function untilQuiet(measure: () => number, look: () => void = () => undefined): Promise<void> {
  let before = measure();
  for (let quiet = 0; quiet < QUIET_TURNS; quiet++) {
    await turn();
    look();
    const now = measure();
    if (now !== before) quiet = 0;
    before = now;
  }
}
