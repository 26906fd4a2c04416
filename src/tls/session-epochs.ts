import { createHash } from 'node:crypto';

import { MAX_SESSION_EPOCH_MS } from '../limits.js';

/** The initial state of a listener's session epochs: plain values, which can be sent to another process. */
export interface SessionStart {
  /** The secret that ticket keys are derived from: processes with the same secret can resume each other's sessions. */
  readonly secret: Uint8Array;
  /** When this secret took effect. */
  readonly sinceMs: number;
}

/**
 * Limits how long TLS sessions can be resumed.
 *
 * A resumed session is not verified again: OpenSSL keeps the verdict of the full handshake, and each resumption gets a new
 * ticket. So the ticket keys change whenever a verdict may change without new files: when a CA or a CRL becomes valid or
 * expires, or when an intermediate that a client presented expires. The next handshake is then a full one.
 *
 * Each secret is derived from the previous one and the time at which that ended. Processes that know the same times derive the
 * same secret without exchanging it.
 */
export class SessionEpochs {
  readonly #dates: readonly number[];
  #secret: Uint8Array;
  #sinceMs: number;
  #endsAtMs: number;

  /** @param dates - the times that are known initially, in ms and any order. */
  constructor({ secret, sinceMs }: SessionStart, dates: readonly number[]) {
    this.#dates = dates;
    this.#secret = secret;
    this.#sinceMs = sinceMs;
    this.#endsAtMs = this.#nextDate(sinceMs);
  }

  /** The secret at this time; the same object for the whole epoch. */
  secretAt(nowMs: number): Uint8Array {
    while (nowMs >= this.#endsAtMs) {
      this.#secret = createHash('sha256').update(this.#secret).update(String(this.#endsAtMs)).digest();
      this.#sinceMs = this.#endsAtMs;
      this.#endsAtMs = this.#nextDate(this.#sinceMs);
    }
    return this.#secret;
  }

  /**
   * Ends the current epoch at `atMs` at the latest.
   * @returns whether that is earlier than previously known
   */
  endBy(atMs: number, nowMs: number): boolean {
    this.secretAt(nowMs);
    // Earlier epochs have already ended.
    if (!(atMs < this.#endsAtMs) || atMs <= this.#sinceMs) return false;
    this.#endsAtMs = atMs;
    return true;
  }

  get endsAtMs(): number {
    return this.#endsAtMs;
  }

  /** The state for a process that starts at this time. */
  startAt(nowMs: number): SessionStart {
    const secret = this.secretAt(nowMs);
    return { secret, sinceMs: this.#sinceMs };
  }

  #nextDate(afterMs: number): number {
    const last = afterMs + MAX_SESSION_EPOCH_MS;
    return this.#dates.reduce((first, date) => (date > afterMs && date < first ? date : first), last);
  }
}
