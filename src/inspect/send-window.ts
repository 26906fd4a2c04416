import type { Sender } from './sender.js';

/**
 * The total time for which the windows of a group were empty. Reading it does not visit the windows, so the cost of a scrape
 * does not grow with the number of open calls.
 */
export class StallTally {
  #endedMs = 0;
  #stalled = 0;
  /** Sum of the start times of the current stalls. */
  #sinceMs = 0;
  #reportedMs = 0;

  began(nowMs: number): void {
    this.#stalled++;
    this.#sinceMs += nowMs;
  }

  ended(sinceMs: number, nowMs: number): void {
    this.#endedMs += nowMs - sinceMs;
    this.#stalled--;
    this.#sinceMs = this.#stalled === 0 ? 0 : this.#sinceMs - sinceMs;
  }

  /** Milliseconds so far. Rounding must not make it smaller, because it is exported as a counter. */
  totalMs(nowMs: number): number {
    const totalMs = this.#endedMs + this.#stalled * nowMs - this.#sinceMs;
    this.#reportedMs = Math.max(this.#reportedMs, totalMs);
    return this.#reportedMs;
  }
}

/** The tallies of a group, by sender. */
export type StallTallies = Readonly<Record<Sender, StallTally>>;

/**
 * How much one end may still send, on a connection or on one of its streams, and for how long it could not. An end whose
 * window is used up may have nothing more to send: the time shows only that it could not.
 */
export class SendWindow {
  #bytes: number;
  #emptySinceMs = -1;
  #stalledMs = 0;
  #tally: StallTally | undefined;

  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  /** From now on its stalls are counted there too; the window must be closed at the end. */
  countIn(tally: StallTally | undefined): void {
    this.#tally = tally;
    if (this.#emptySinceMs >= 0) tally?.began(this.#emptySinceMs);
  }

  /** May be negative where a window can be taken back (RFC 9113 section 6.9.2). */
  get bytes(): number {
    return this.#bytes;
  }

  /** Milliseconds without window so far. */
  stalledMs(nowMs: number): number {
    return this.#emptySinceMs < 0 ? this.#stalledMs : this.#stalledMs + nowMs - this.#emptySinceMs;
  }

  use(bytes: number, nowMs: number): void {
    this.#bytes -= bytes;
    if (this.#bytes <= 0 && this.#emptySinceMs < 0) this.#beginStall(nowMs);
  }

  /** `bytes` is negative where the initial size became smaller. */
  give(bytes: number, nowMs: number): void {
    this.#bytes += bytes;
    if (this.#bytes > 0) this.#endStall(nowMs);
    else if (this.#emptySinceMs < 0) this.#beginStall(nowMs);
  }

  /** Its sender sends no more, or its stream has ended: an empty window is no longer a stall. */
  close(nowMs: number): void {
    this.#endStall(nowMs);
    this.#bytes = Number.POSITIVE_INFINITY;
  }

  #beginStall(nowMs: number): void {
    this.#emptySinceMs = nowMs;
    this.#tally?.began(nowMs);
  }

  #endStall(nowMs: number): void {
    const sinceMs = this.#emptySinceMs;
    if (sinceMs < 0) return;
    this.#stalledMs += nowMs - sinceMs;
    this.#emptySinceMs = -1;
    this.#tally?.ended(sinceMs, nowMs);
  }
}

/** The windows of a stream or a connection, by who sends. */
export type SendWindows = Readonly<Record<Sender, SendWindow>>;
