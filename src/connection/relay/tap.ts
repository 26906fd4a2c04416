/** Which way bytes go; label `direction`. */
export type Direction = 'to_upstream' | 'to_client';

/**
 * Sees the bytes of both directions in their order, as they were read, and returns what is written in their place.
 *
 * A tap may hold bytes back, drop them or insert others, at frame boundaries only. It is responsible for the flow-control
 * credit of the bytes that it drops or inserts.
 */
export interface Tap {
  /**
   * Returns `bytes` itself where nothing is edited, so that they pass without a copy; otherwise a buffer of its own, or
   * `undefined` if nothing passes. `bytes` is a view whose memory is used again: a tap that holds bytes back copies them.
   */
  pass(direction: Direction, bytes: Buffer): Buffer | undefined;
}

/** One tap that applies several in turn. The first sees what was read, the last returns what is written. */
export function chainOf(taps: readonly Tap[]): Tap {
  const [only] = taps;
  if (only && taps.length === 1) return only;
  return {
    pass: (direction, bytes) => {
      let passed: Buffer | undefined = bytes;
      for (const tap of taps) {
        passed = tap.pass(direction, passed);
        if (!passed) return undefined;
      }
      return passed;
    },
  };
}
