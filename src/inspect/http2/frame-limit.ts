import { DATA_BYTES_PER_SMALL_FRAME } from '../../limits.js';
import type { AbuseLimits } from '../abuse-limits.js';
import { RateBucket } from '../rate-bucket.js';

/** A frame of which only a limited number is accepted; `control`: its receiver must answer it. */
export type LimitedFrame = 'control' | 'small';

/** The limit that too many of them exceed. */
export type FrameFlood = 'control_flood' | 'frame_flood';

/** Limits the frames of one end that carry nothing. */
export class FrameLimit {
  readonly #control: RateBucket;
  readonly #small: RateBucket;

  constructor({ controlFrames, smallFrames }: Pick<AbuseLimits, 'controlFrames' | 'smallFrames'>) {
    this.#control = new RateBucket(controlFrames);
    this.#small = new RateBucket(smallFrames);
  }

  /** Counts a frame. Returns the limit that it exceeds, if it does. */
  take(kind: LimitedFrame, nowMs: number, tokens = 1): FrameFlood | undefined {
    if (kind === 'small') return this.#small.take(tokens, nowMs) ? undefined : 'frame_flood';
    return this.#control.take(tokens, nowMs) ? undefined : 'control_flood';
  }

  give(kind: LimitedFrame, tokens: number): void {
    (kind === 'small' ? this.#small : this.#control).give(tokens);
  }

  /**
   * Adds the tokens for bytes of the other end, because libraries measure and open windows while data arrives. A client that
   * keeps its window small gets few bytes, and thereby few tokens.
   */
  payFor(bytes: number): void {
    const tokens = bytes / DATA_BYTES_PER_SMALL_FRAME;
    this.#control.give(tokens);
    this.#small.give(tokens);
  }
}
