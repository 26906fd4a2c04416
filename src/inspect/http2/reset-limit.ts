import { OLD_STREAM_MS } from '../../limits.js';
import type { AbuseLimits } from '../abuse-limits.js';
import { RateBucket } from '../rate-bucket.js';

/** `late_reset_flood`: of streams that are old or that the server has begun to answer. */
export type ExceededReset = 'reset_flood' | 'late_reset_flood';

/**
 * Bounds the RST_STREAM frames of a connection. Rapid reset (CVE-2023-44487) consists of resets directly after their HEADERS:
 * each frees a place among the server's streams before the server has done the work. The reset of a call that has been open for
 * a while is caused by a deadline or a cancelled command, and many deadlines may expire at once.
 *
 * Stream ids increase, so two of them suffice to determine which streams are old. No state is kept per stream, and the limit
 * applies to a connection whose streams are not followed.
 */
export class ResetLimit {
  readonly #young: RateBucket;
  readonly #old: RateBucket;
  /** Streams up to this one are old. */
  #oldId = 0;
  /** Streams up to this one were open at `#markedAtMs`, and will be the next old ones. */
  #markedId = 0;
  #markedAtMs = 0;
  #lastId = 0;
  #lastOpenedAtMs = 0;

  constructor({ resets, lateResets }: AbuseLimits) {
    this.#young = new RateBucket(resets);
    this.#old = new RateBucket(lateResets);
  }

  /** A stream begins; its id is higher than all before. */
  opened(streamId: number, nowMs: number): void {
    if (nowMs - this.#markedAtMs >= OLD_STREAM_MS) {
      this.#oldId = nowMs - this.#lastOpenedAtMs >= OLD_STREAM_MS ? this.#lastId : this.#markedId;
      this.#markedId = this.#lastId;
      this.#markedAtMs = nowMs;
    }
    this.#lastId = streamId;
    this.#lastOpenedAtMs = nowMs;
  }

  /**
   * A call was answered, which adds a token for the reset of another one: a busy client cancels more calls than the refill rate
   * allows.
   */
  answered(): void {
    this.#young.give(1);
    this.#old.give(1);
  }

  /** A stream was reset; returns the limit that was exceeded. `isAccepted`: its server has begun to answer. */
  reset(streamId: number, isAccepted: boolean, nowMs: number): ExceededReset | undefined {
    if (!isAccepted && !this.#isOld(streamId, nowMs)) return this.provoked(nowMs);
    return this.#old.take(1, nowMs) ? undefined : 'late_reset_flood';
  }

  /** A stream was reset because of an error of its client (CVE-2025-8671); returns the limit that was exceeded. */
  provoked(nowMs: number): ExceededReset | undefined {
    return this.#young.take(1, nowMs) ? undefined : 'reset_flood';
  }

  #isOld(streamId: number, nowMs: number): boolean {
    if (streamId > this.#lastId) return false;
    if (streamId <= this.#oldId) return true;
    if (streamId <= this.#markedId) return nowMs - this.#markedAtMs >= OLD_STREAM_MS;
    return nowMs - this.#lastOpenedAtMs >= OLD_STREAM_MS;
  }
}
