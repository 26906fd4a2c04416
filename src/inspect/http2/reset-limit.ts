import { OLD_RESETS, OLD_STREAM_MS, YOUNG_RESETS } from '../../limits.js';
import { RateBucket } from '../rate-bucket.js';

/**
 * Bounds the RST_STREAM of a connection. A reset right behind its HEADERS is what rapid reset is made of (CVE-2023-44487): it
 * frees a place among the server's streams before the server has done the work. One of a call that has been open for a
 * while is the end of a deadline or a person who gave up, and many deadlines may end at once.
 *
 * The ids of streams rise, so two of them tell which streams are old: nothing is kept for each stream, and the limit holds for
 * a connection whose streams are not followed.
 */
export class ResetLimit {
  readonly #young = new RateBucket(YOUNG_RESETS);
  readonly #old = new RateBucket(OLD_RESETS);
  /** Streams up to this one are old. */
  #oldId = 0;
  /** Streams up to this one were open at `#markedAtMs`, and will be old next. */
  #markedId = 0;
  #markedAtMs = 0;
  #lastId = 0;
  #lastOpenedAtMs = 0;

  /** A stream begins, with a higher id than all before. */
  opened(streamId: number, nowMs: number): void {
    if (nowMs - this.#markedAtMs >= OLD_STREAM_MS) {
      this.#oldId = nowMs - this.#lastOpenedAtMs >= OLD_STREAM_MS ? this.#lastId : this.#markedId;
      this.#markedId = this.#lastId;
      this.#markedAtMs = nowMs;
    }
    this.#lastId = streamId;
    this.#lastOpenedAtMs = nowMs;
  }

  /** A call was answered, which pays for another one's reset: a busy client cancels more than the buckets allow. */
  answered(): void {
    this.#young.give(1);
    this.#old.give(1);
  }

  /** A stream was reset; `false` if there were too many. `isAccepted`: its server has begun to answer. */
  reset(streamId: number, isAccepted: boolean, nowMs: number): boolean {
    return (isAccepted || this.#isOld(streamId, nowMs) ? this.#old : this.#young).take(1, nowMs);
  }

  /** A stream was reset through its client's fault (CVE-2025-8671); `false` if there were too many. */
  provoked(nowMs: number): boolean {
    return this.#young.take(1, nowMs);
  }

  #isOld(streamId: number, nowMs: number): boolean {
    if (streamId > this.#lastId) return false;
    if (streamId <= this.#oldId) return true;
    if (streamId <= this.#markedId) return nowMs - this.#markedAtMs >= OLD_STREAM_MS;
    return nowMs - this.#lastOpenedAtMs >= OLD_STREAM_MS;
  }
}
