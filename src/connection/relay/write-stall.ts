/** Detects a peer that does not read. It is polled, so that a write needs no timer. */
export class WriteStall {
  #takenBytes = -1;
  #sinceMs = 0;

  /**
   * Returns the milliseconds for which bytes have been waiting and none was taken, measured by the calls of this method.
   * `waitingBytes`: bytes that wait now; `takenBytes`: bytes taken since the beginning.
   */
  stalledMs(nowMs: number, waitingBytes: number, takenBytes: number): number {
    if (waitingBytes === 0 || takenBytes !== this.#takenBytes) {
      this.#takenBytes = takenBytes;
      this.#sinceMs = nowMs;
    }
    return nowMs - this.#sinceMs;
  }
}
