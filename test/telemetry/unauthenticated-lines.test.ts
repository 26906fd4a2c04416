import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import {
  LEFT_OUT_SUMMARY_MS,
  MAX_LEFT_OUT_SOURCES,
  UNAUTHENTICATED_CALL_LINES,
  UNAUTHENTICATED_LINES,
} from '../../src/limits.js';
import { createLogger } from '../../src/telemetry/logger.js';
import { UnauthenticatedLines } from '../../src/telemetry/unauthenticated-lines.js';
import { CollectingSink } from './collecting-sink.js';

const { burst, perSecond } = UNAUTHENTICATED_LINES;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

type Subject = 'call' | 'request' | 'connection';
const DETAILS = { call: 'Unauthenticated', request: 'path', connection: 'reset' };

interface Started {
  readonly sink: CollectingSink;
  /** The number of admitted lines, of `count`. */
  readonly admitted: (count: number, subject?: Subject, addressOf?: (index: number) => string) => number;
}

function start(): Started {
  const sink = new CollectingSink();
  const lines = new UnauthenticatedLines(createLogger(sink, { level: 'info', format: 'json' }), Date.now);
  return {
    sink,
    admitted: (count, subject = 'connection', addressOf = () => '10.0.0.1:5000') =>
      Array.from({ length: count }, (_, index) =>
        lines.admits(subject, DETAILS[subject], addressOf(index)),
      ).filter(Boolean).length,
  };
}

test('a burst is admitted, then a fraction', () => {
  const { admitted } = start();
  expect(admitted(10 * burst)).toBe(burst);
  vi.advanceTimersByTime(5000);
  expect(admitted(10 * burst)).toBe(5 * perSecond);
});

test.each(['call', 'request'] as const)(
  'a flood of %s lines leaves room for those of connections',
  (subject) => {
    const { admitted } = start();
    expect(admitted(10 * burst, subject)).toBe(UNAUTHENTICATED_CALL_LINES.burst);
    expect(admitted(10 * burst)).toBe(burst - UNAUTHENTICATED_CALL_LINES.burst);
    vi.advanceTimersByTime(5000);
    expect(admitted(10 * burst, subject)).toBe(5 * UNAUTHENTICATED_CALL_LINES.perSecond);
    expect(admitted(10 * burst)).toBe(5 * (perSecond - UNAUTHENTICATED_CALL_LINES.perSecond));
  },
);

test('a periodic line counts the lines that were left out by reason, and the distinct sources', () => {
  const { sink, admitted } = start();
  expect(admitted(burst)).toBe(burst);
  expect(admitted(3, 'connection', (index) => `10.0.0.${index % 2}:${index}`)).toBe(0);
  expect(admitted(5, 'call', (index) => `[::1]:${index}`)).toBe(0);
  expect(sink.parsed).toEqual([]);
  vi.advanceTimersByTime(LEFT_OUT_SUMMARY_MS);
  expect(sink.parsed).toMatchObject([
    {
      level: 'warning',
      lines: 8,
      reasons: 'call Unauthenticated: 5, connection reset: 3',
      sources: 3,
      'peer.address': '10.0.0.0:0',
    },
  ]);
  vi.advanceTimersByTime(10 * LEFT_OUT_SUMMARY_MS);
  expect(sink.lines).toHaveLength(1);
});

test('each period has a line of its own; its size and that of what is kept do not depend on the flood', () => {
  const { sink, admitted } = start();
  for (const period of [1, 2]) {
    admitted(
      burst + MAX_LEFT_OUT_SOURCES * 3,
      'connection',
      (index) => `10.0.${index >> 8}.${index & 255}:1`,
    );
    vi.advanceTimersByTime(LEFT_OUT_SUMMARY_MS);
    expect(sink.parsed).toHaveLength(period);
    expect(sink.parsed.at(-1)).toMatchObject({ sources: MAX_LEFT_OUT_SOURCES });
  }
  expect(sink.lines.join('').length).toBeLessThan(2000);
});
