import type { RelayEnd } from './relay.js';

/** Watches whether the peer at one end of a relay takes what waits for it. Asked now and then, so that a write needs no timer. */
export class WriteStall {
  readonly #end: RelayEnd;
  #writtenBytes = -1;
  #sinceMs = 0;

  constructor(end: RelayEnd) {
    this.#end = end;
  }

  /** Milliseconds for which bytes have been waiting and none was taken, as far as the calls so far can tell. */
  stalledMs(nowMs: number): number {
    const { stream, raw } = this.#end;
    if (stream.writableLength === 0 || raw.bytesWritten !== this.#writtenBytes) {
      this.#writtenBytes = raw.bytesWritten;
      this.#sinceMs = nowMs;
    }
    return nowMs - this.#sinceMs;
  }
}
