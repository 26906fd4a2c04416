/** The direction of bytes; label `direction`. */
export type Direction = 'to_upstream' | 'to_client';

/**
 * Receives the bytes of both directions in order, as they were read, and returns the bytes to write in their place.
 *
 * A tap may hold bytes back, drop them or insert others, at frame boundaries only. It is responsible for the flow-control
 * credit of the bytes that it drops or inserts.
 */
export interface Tap {
  /**
   * Returns `bytes` itself if they are unchanged, so that they are written without a copy; otherwise a buffer of its own, or
   * `undefined` to write nothing. `bytes` is a view whose memory is reused: a tap that holds bytes back must copy them.
   */
  pass(direction: Direction, bytes: Buffer): Buffer | undefined;
}

/** Combines taps. The first receives the bytes that were read; the last returns the bytes to write. */
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
