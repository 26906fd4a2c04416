/** Watches whether a peer takes what waits for it. Asked now and then, so that a write needs no timer. */
export class WriteStall {
  #takenBytes = -1;
  #sinceMs = 0;

  /**
   * Milliseconds for which bytes have been waiting and none was taken, as far as the calls so far can tell.
   * `waitingBytes`: what waits now; `takenBytes`: what was taken since the beginning.
   */
  stalledMs(nowMs: number, waitingBytes: number, takenBytes: number): number {
    if (waitingBytes === 0 || takenBytes !== this.#takenBytes) {
      this.#takenBytes = takenBytes;
      this.#sinceMs = nowMs;
    }
    return nowMs - this.#sinceMs;
  }
}
