import type { Sender } from './sender.js';

/**
 * How much one end may still send, on a connection or on one of its streams, and for how long it could not. An end whose
 * window is used up may have nothing more to send: the time says that it could not have.
 */
export class SendWindow {
  #bytes: number;
  #emptySinceMs = -1;
  #stalledMs = 0;

  constructor(bytes: number) {
    this.#bytes = bytes;
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
    if (this.#bytes <= 0 && this.#emptySinceMs < 0) this.#emptySinceMs = nowMs;
  }

  /** `bytes` is negative where the initial size became smaller. */
  give(bytes: number, nowMs: number): void {
    this.#bytes += bytes;
    if (this.#bytes <= 0) {
      if (this.#emptySinceMs < 0) this.#emptySinceMs = nowMs;
    } else this.#endStall(nowMs);
  }

  /** The end has said that it sends no more: whatever its window is, it waits for none. */
  close(nowMs: number): void {
    this.#endStall(nowMs);
    this.#bytes = Number.POSITIVE_INFINITY;
  }

  #endStall(nowMs: number): void {
    if (this.#emptySinceMs < 0) return;
    this.#stalledMs += nowMs - this.#emptySinceMs;
    this.#emptySinceMs = -1;
  }
}

/** The windows of a stream or a connection, by who sends. */
export type SendWindows = Readonly<Record<Sender, SendWindow>>;
