import { expect, test } from 'vitest';

import { ByteQueue } from '../../src/connection/relay/byte-queue.js';
import { TurnWriter } from '../../src/connection/relay/turn-writer.js';
import { noise } from '../support/noise.js';
import { randomOf } from '../support/seeded-random.js';
import { socketPair } from '../support/socket-pair.js';
import { readBytes } from './relay-ends.js';

const KIB = 1024;

/** Slices of all sizes from one byte on, mostly tiny. */
function sliced(bytes: Buffer): Buffer[] {
  const random = randomOf(7);
  const slices: Buffer[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const length = random(10) > 0 ? 1 + random(8) : 1 + random(20 * KIB);
    slices.push(bytes.subarray(offset, offset + length));
    offset += length;
  }
  return slices;
}

test('a queue gives back what it was given, in its order', () => {
  const bytes = noise(512 * KIB);
  const queue = new ByteQueue();
  for (const slice of sliced(bytes)) queue.add(slice);
  expect(queue.bytes).toBe(bytes.length);
  expect(Buffer.concat(queue.take()).equals(bytes)).toBe(true);
  expect(queue).toMatchObject({ bytes: 0, cost: 0, isEmpty: true });
});

test('a queue of single bytes is joined, and a queue of small and large ones in turn costs what it takes', () => {
  const singles = new ByteQueue();
  for (let count = 0; count < 256 * KIB; count++) singles.add(Buffer.alloc(1));
  expect(singles.cost).toBeLessThan(400 * KIB);
  expect(singles.take().length).toBeLessThan(100);

  const mixed = new ByteQueue();
  for (let count = 0; count < 100; count++) {
    mixed.add(Buffer.alloc(1));
    mixed.add(Buffer.alloc(3000));
  }
  // Each single byte holds a block.
  expect(mixed.cost).toBeGreaterThan(100 * 7 * KIB);
});

test('a writer holds back what a sink does not take, joined, and writes it in its order when it does', async () => {
  const { client: near, accepted: far } = await socketPair();
  const writer = new TurnWriter(near, {
    onProgress: () => undefined,
    onFault: (error) => expect.fail(String(error)),
  });
  const first = noise(16 * KIB * KIB);
  writer.add(first);
  writer.flush();
  expect(near.writableLength).toBeGreaterThan(0);
  const tiny = noise(64 * KIB);
  for (const byte of tiny) writer.add(Buffer.from([byte]));
  await new Promise((resolve) => setImmediate(resolve));
  // Not in the sink, where each would be an entry of its own.
  expect(writer.queuedBytes).toBe(near.writableLength + tiny.length);
  expect(writer.cost - near.writableLength).toBeLessThan(256 * KIB);
  const received = await readBytes(far, first.length + tiny.length);
  expect(received.equals(Buffer.concat([first, tiny]))).toBe(true);
  expect(writer).toMatchObject({ isEmpty: true, queuedBytes: 0 });
});

test('a small view of a large read waits as a copy of its own', () => {
  const queue = new ByteQueue();
  const read = Buffer.alloc(16_384, 'x');
  queue.add(read.subarray(5, 6));
  expect(queue.isEmpty).toBe(false);
  const [waiting] = queue.take();
  expect(waiting?.toString()).toBe('x');
  expect(waiting?.buffer).not.toBe(read.buffer);
  expect(queue.isEmpty).toBe(true);
});
