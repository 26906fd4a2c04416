import { describe, expect, test } from 'vitest';

import { inspectConnection } from '../../src/inspect/connection-inspector.js';
import { isLimit } from '../../src/inspect/limit.js';
import { CAPTURES, readCapture, type Capture } from './captures/capture-files.js';
import { randomOf } from '../support/seeded-random.js';

const RUNS = 400;

type Mutation = (bytes: Buffer, at: number, random: (below: number) => number) => Buffer;

const MUTATIONS: readonly Mutation[] = [
  (bytes, at, random) => {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ (1 << random(8));
    return changed;
  },
  (bytes, at, random) => {
    const changed = Buffer.from(bytes);
    changed[at] = random(256);
    return changed;
  },
  (bytes, at, random) => Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random(20))]),
  (bytes, at, random) =>
    Buffer.concat([
      bytes.subarray(0, at),
      Buffer.from(Array.from({ length: 1 + random(20) }, () => random(256))),
      bytes.subarray(at),
    ]),
  (bytes, at) => bytes.subarray(0, at),
];

/** Shows an inspector a capture some of whose chunks are changed; what it told of is checked on the way. */
function followChanged({ recorded, chunks }: Capture, seed: number): string | undefined {
  const random = randomOf(seed);
  const count = { started: 0, over: 0 };
  const over = (): void => {
    count.over++;
  };
  const inspector = inspectConnection(recorded.protocol, {
    started: (call) => {
      count.started++;
      return { moved: () => call.messages, ended: over, lost: over };
    },
    sidechannelOpened: () => ({ moved: () => undefined, ended: () => undefined }),
  });
  // Most of what follows a lost byte is lost: few changes reach deeper than many.
  const changes = new Set(Array.from({ length: 1 + random(3) }, () => random(chunks.length)));
  let failure: string | undefined;
  for (const [index, { from, at, bytes }] of chunks.entries()) {
    const mutate = MUTATIONS[random(MUTATIONS.length)];
    const shown = changes.has(index) && mutate ? mutate(bytes, random(bytes.length), random) : bytes;
    const split = random(shown.length + 1);
    for (const [start, end] of [
      [0, split],
      [split, shown.length],
    ] as const) {
      const result = inspector.read(from, shown, start, end, at);
      // Sticky: once lost, for good and for the same reason, unless a limit is exceeded.
      if (failure !== undefined && !(result !== undefined && isLimit(result))) expect(result).toBe(failure);
      failure = result;
    }
    if (index % 50 === 0) {
      for (const connection of inspector.connections)
        for (const call of connection.calls()) expect(call.isRunning).toBe(true);
    }
  }
  inspector.end(chunks.at(-1)?.at ?? 0);
  expect(count.over).toBe(count.started);
  return failure;
}

describe.each(CAPTURES)('%s, changed at random', (name) => {
  test(`${RUNS} times: it is followed or lost with a reason, each call that started is over once, nothing is thrown`, () => {
    const capture = readCapture(name);
    const outcomes = new Map<string, number>();
    for (let seed = 1; seed <= RUNS; seed++) {
      try {
        const outcome = followChanged(capture, seed) ?? 'followed';
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
    }
    // Both ends of the scale occur, so that the changes are neither harmless nor all the same.
    expect(outcomes.get('followed')).toBeGreaterThan(0);
    expect(outcomes.size).toBeGreaterThan(3);
    for (const outcome of outcomes.keys()) expect(outcome).toMatch(/^[a-z_]+$/);
  });
});
