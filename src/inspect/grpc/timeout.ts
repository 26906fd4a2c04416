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
 * `undefined` for what is none.
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
 * Of a timeout the last tenth, and of a long one the last 200 ms: events are as late as busy ends and wires make them. On two
 * busy cores one call of 10 000 came by more than 50 ms after its client had begun to count.
 */
const TOLERANCE = { share: 0.1, ms: 200 } as const;

/**
 * Whether a call that was given up after `elapsedMs` was so because its time was over. The client's time began before
 * its request came by here: its reset comes before its deadline does by the clock of whoever watches, as often as after.
 */
export function isOverdue(elapsedMs: number, allowedMs: number): boolean {
  return elapsedMs >= allowedMs - Math.min(allowedMs * TOLERANCE.share, TOLERANCE.ms);
}
