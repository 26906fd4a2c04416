import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { CallEnd } from '../../../src/inspect/grpc/call.js';
import { STATUS_CODES } from '../../../src/inspect/grpc/grpc-status.js';
import { CAPTURES, readCapture, type RecordedCalls } from './capture-files.js';
import { expected, follow } from './follow-capture.js';

/** Who may have ended a call that ended so. At a deadline both ends' timers run, and either may be first. */
const ENDED_BY: Readonly<Record<RecordedCalls['calls'][number]['end'], readonly CallEnd['by'][]>> = {
  '': ['server'],
  cancel: ['client'],
  deadline: ['client', 'server'],
  reset: ['server'],
  kill: ['connection'],
};

describe.each(CAPTURES)('a recorded connection of grpc-go, %s', (name) => {
  const capture = readCapture(name);
  const { recorded } = capture;

  const expectEveryCall = (sliceBytes: () => number): void => {
    const { calls, sidechannels, endedBy, trouble } = follow(capture, sliceBytes);
    expect(trouble).toEqual([]);
    expect({ calls, sidechannels }).toEqual(expected(recorded));
    for (const { id, end } of recorded.calls) expect(ENDED_BY[end], id).toContain(endedBy.get(id));
  };

  test('is decoded to exactly the calls that were made', () => {
    expectEveryCall(() => Infinity);
  });

  test('one byte at a time', () => {
    expectEveryCall(() => 1);
  });

  test('in random slices', () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 20_000 })), {
      minLength: 1,
      maxLength: 50,
    });
    fc.assert(
      fc.property(sizes, (slices) => {
        let next = 0;
        expectEveryCall(() => slices[next++ % slices.length] ?? 1);
      }),
      { seed: 20_240_722, numRuns: 15 },
    );
  });
});

test('the captures hold every code, both directions, sidechannels, compression and every way to end', () => {
  const all = CAPTURES.map((name) => readCapture(name).recorded);
  const calls = all.flatMap((recorded) => recorded.calls);
  expect(new Set(calls.map(({ client }) => client.code))).toEqual(new Set(STATUS_CODES));
  expect(new Set(calls.map(({ end }) => end))).toEqual(new Set(Object.keys(ENDED_BY)));
  expect(new Set(calls.map(({ direction }) => direction))).toEqual(new Set(['to_upstream', 'to_client']));
  expect(calls.some(({ client }) => client.sent.compressed > 0 && client.received.compressed > 0)).toBe(true);
  expect(all.flatMap(({ sidechannels }) => sidechannels)).toHaveLength(3);
  const endedAtDeadline = CAPTURES.flatMap((name) => {
    const { endedBy } = follow(readCapture(name), () => Infinity);
    return calls.filter(({ end }) => end === 'deadline').map(({ id }) => endedBy.get(id));
  });
  expect(endedAtDeadline).toContain('client');
  expect(endedAtDeadline).toContain('server');
});
