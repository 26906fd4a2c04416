import { RateBucket } from '../inspect/rate-bucket.js';
import {
  LEFT_OUT_SUMMARY_MS,
  MAX_LEFT_OUT_SOURCES,
  UNAUTHENTICATED_CALL_LINES,
  UNAUTHENTICATED_LINES,
} from '../limits.js';
import type { Logger } from './logger.js';

/** The subject of a line; the first word of its reason. */
type Subject = 'call' | 'request' | 'connection' | 'inspection';

/**
 * Limits the log lines of this process about unauthenticated clients, over all listeners. Lines beyond the limit are counted and
 * reported periodically in one line. Calls and requests may use only a part of the limit, so that the connections that carry
 * them are still logged.
 */
export class UnauthenticatedLines {
  readonly #logger: Logger;
  readonly #now: () => number;
  readonly #all = new RateBucket(UNAUTHENTICATED_LINES);
  readonly #calls = new RateBucket(UNAUTHENTICATED_CALL_LINES);
  /** The number of suppressed lines by reason: a closed set, so that clients cannot make it grow. */
  #byReason = new Map<string, number>();
  #sources = new Set<string>();
  #example = '';

  constructor(logger: Logger, now: () => number = () => performance.now()) {
    this.#logger = logger;
    this.#now = now;
  }

  /** Whether a line may be written. If not, it is counted by `detail`, which must be from a closed set. */
  admits(subject: Subject, detail: string, peerAddress: string): boolean {
    const isOfCall = subject === 'call' || subject === 'request';
    if (this.#take(isOfCall ? [this.#calls, this.#all] : [this.#all])) return true;
    const reason = `${subject} ${detail}`;
    if (this.#byReason.size === 0) {
      this.#example = peerAddress;
      setTimeout(() => this.#report(), LEFT_OUT_SUMMARY_MS).unref();
    }
    this.#byReason.set(reason, (this.#byReason.get(reason) ?? 0) + 1);
    if (this.#sources.size < MAX_LEFT_OUT_SOURCES) this.#sources.add(peerAddress.replace(/:\d+$/u, ''));
    return false;
  }

  #take(buckets: readonly RateBucket[]): boolean {
    const nowMs = this.#now();
    const isAdmitted = buckets.map((bucket) => bucket.take(1, nowMs)).every(Boolean);
    // A suppressed line does not use up a token for later lines.
    if (!isAdmitted) for (const bucket of buckets) bucket.give(1);
    return isAdmitted;
  }

  #report(): void {
    const reasons = [...this.#byReason].sort(([, one], [, other]) => other - one);
    const fields = {
      lines: reasons.reduce((sum, [, lines]) => sum + lines, 0),
      reasons: reasons.map(([reason, lines]) => `${reason}: ${lines}`).join(', '),
      sources: this.#sources.size,
      'peer.address': this.#example,
    };
    this.#byReason = new Map();
    this.#sources = new Set();
    this.#logger.log('unauthenticated_lines_suppressed', fields);
  }
}
