const UNIT_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 0.001,
  n: 0.000_001,
};

/**
 * Milliseconds of a `grpc-timeout`: "TimeoutValue TimeoutUnit", at most eight digits (gRPC over HTTP/2, "Requests").
 * `undefined` for what is none.
 */
export function timeoutMs(value: string): number | undefined {
  const [, digits, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(value) ?? [];
  const unitMs = UNIT_MS[unit];
  return digits === undefined || unitMs === undefined ? undefined : Number(digits) * unitMs;
}

/** Of a timeout the last tenth, and of a long one the last 50 ms: events are as late as busy ends and wires make them. */
const TOLERANCE = { share: 0.1, ms: 50 } as const;

/**
 * Whether a call that was given up after `elapsedMs` was so because its time was over. The client's time began before
 * its request came by here: its reset comes before its deadline does by the clock of whoever watches, as often as after.
 */
export function isOverdue(elapsedMs: number, allowedMs: number): boolean {
  return elapsedMs >= allowedMs - Math.min(allowedMs * TOLERANCE.share, TOLERANCE.ms);
}
