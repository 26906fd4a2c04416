import { TIMEOUT_TOLERANCE } from '../../limits.js';

/** Milliseconds of each unit, by its character. */
const UNIT_MS = new Map(
  Object.entries({ H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 0.001, n: 0.000_001 }).map(([unit, ms]) => [
    unit.charCodeAt(0),
    ms,
  ]),
);

const MAX_DIGITS = 8;
const ZERO = '0'.charCodeAt(0);

/**
 * Milliseconds of a `grpc-timeout`: "TimeoutValue TimeoutUnit", at most eight digits (gRPC over HTTP/2, "Requests").
 * `undefined` if it is malformed.
 */
export function timeoutMs(value: string): number | undefined {
  const digits = value.length - 1;
  const unitMs = UNIT_MS.get(value.charCodeAt(digits));
  if (unitMs === undefined || digits < 1 || digits > MAX_DIGITS) return undefined;
  let units = 0;
  // Every call has one of its own: a regular expression would cost as much as the rest of its headers.
  for (let index = 0; index < digits; index++) {
    const digit = value.charCodeAt(index) - ZERO;
    if (digit < 0 || digit > 9) return undefined;
    units = units * 10 + digit;
  }
  return units * unitMs;
}

/**
 * Whether a call that was cancelled after `elapsedMs` had reached its deadline. The client's clock started before its
 * request was seen here, so its reset comes about as often before the deadline by this clock as after it.
 */
export function isOverdue(elapsedMs: number, allowedMs: number): boolean {
  return elapsedMs >= allowedMs - Math.min(allowedMs * TIMEOUT_TOLERANCE.share, TIMEOUT_TOLERANCE.ms);
}
