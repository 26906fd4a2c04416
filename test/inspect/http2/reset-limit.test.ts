import { expect, test } from 'vitest';

import { ResetLimit } from '../../../src/inspect/http2/reset-limit.js';
import { ABUSE_LIMITS, OLD_STREAM_MS } from '../../../src/limits.js';

const { resets: YOUNG_RESETS, lateResets: OLD_RESETS } = ABUSE_LIMITS;

/** How many of these streams may be reset one after the other, at one moment. */
function allowed(limit: ResetLimit, from: number, streams: number, nowMs: number): number {
  for (let count = 0; count < streams; count++) if (limit.reset(from + 2 * count, false, nowMs)) return count;
  return streams;
}

function open(limit: ResetLimit, from: number, streams: number, nowMs: number): void {
  for (let count = 0; count < streams; count++) limit.opened(from + 2 * count, nowMs);
}

test('streams that are reset right behind their HEADERS are bounded', () => {
  const limit = new ResetLimit(ABUSE_LIMITS);
  open(limit, 1, 5000, 1000);
  expect(allowed(limit, 1, 5000, 1000 + OLD_STREAM_MS - 1)).toBe(YOUNG_RESETS.burst);
});

test('as many as may be open at once may meet one deadline, once they are old', () => {
  const limit = new ResetLimit(ABUSE_LIMITS);
  open(limit, 1, 10_000, 1000);
  expect(allowed(limit, 1, 10_000, 1000 + OLD_STREAM_MS)).toBe(10_000);
  expect(allowed(limit, 1, 10_000, 1000 + OLD_STREAM_MS)).toBe(0);
});

test('streams that begin meanwhile make no old one young, and no young one old', () => {
  const limit = new ResetLimit(ABUSE_LIMITS);
  open(limit, 1, 3000, 1000);
  // One every 10 ms since.
  for (let count = 0; count < 50; count++) limit.opened(6001 + 2 * count, 1000 + 10 * count);
  expect(allowed(limit, 1, 3000, 1490)).toBe(3000);
  const young = new ResetLimit(ABUSE_LIMITS);
  open(young, 1, 1, 0);
  open(young, 3, 3000, 1000);
  expect(allowed(young, 3, 3000, 1010)).toBe(YOUNG_RESETS.burst);
});

test('those that are opened and reset over and over, each within its first moment, are bounded', () => {
  const limit = new ResetLimit(ABUSE_LIMITS);
  let resets = 0;
  for (let streamId = 1, nowMs = 0; nowMs < 1000; streamId += 2, nowMs += 0.1) {
    limit.opened(streamId, nowMs);
    if (limit.reset(streamId, false, nowMs)) break;
    resets++;
  }
  expect(resets).toBeLessThan(YOUNG_RESETS.burst + YOUNG_RESETS.perSecond);
});

test('old ones are bounded, too; an answer pays for one of each', () => {
  const limit = new ResetLimit(ABUSE_LIMITS);
  let rounds = 0;
  for (let nowMs = 1000; nowMs < 100_000; nowMs += OLD_STREAM_MS, rounds++) {
    open(limit, 1 + 2000 * rounds, 1000, nowMs);
    if (allowed(limit, 1 + 2000 * rounds, 1000, nowMs + OLD_STREAM_MS) < 1000) break;
  }
  expect(rounds).toBeLessThan((2 * OLD_RESETS.burst) / 1000);
  const paid = new ResetLimit(ABUSE_LIMITS);
  for (let streamId = 1; streamId < 50_000; streamId += 2) {
    paid.opened(streamId, 0);
    paid.answered();
    expect(paid.reset(streamId, false, 0)).toBeUndefined();
  }
});

test('a reset that a client provokes is that of a young stream', () => {
  const limit = new ResetLimit(ABUSE_LIMITS);
  let provoked = 0;
  while (!limit.provoked(1000)) provoked++;
  expect(provoked).toBe(YOUNG_RESETS.burst);
});
