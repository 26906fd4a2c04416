/** Compressed flag (0) and the length of a message, big endian (gRPC over HTTP/2, "Length-Prefixed-Message"). */
export const MESSAGE_PREFIX_BYTES = 5;

/**
 * Counts the messages of one direction of a call by their prefixes: a flag and a length of four bytes (gRPC over HTTP/2,
 * "Length-Prefixed-Message"). The messages themselves pass unseen.
 */
export class MessageCounter {
  /** Messages that have begun and whose prefix is whole. */
  messages = 0;
  /** Messages with the compressed flag. */
  compressed = 0;
  /** Bytes of messages that have come, without prefixes. */
  payloadBytes = 0;
  #prefixBytes = 0;
  #flag = 0;
  #length = 0;
  /** Bytes of the current message that are still missing. */
  #left = 0;

  /** Whether the bytes so far end at the end of a message. */
  get atBoundary(): boolean {
    return this.#prefixBytes === 0 && this.#left === 0;
  }

  count(bytes: Uint8Array, start: number, end: number): void {
    let offset = start;
    while (offset < end) {
      if (this.#left > 0) {
        const taken = Math.min(this.#left, end - offset);
        this.#left -= taken;
        this.payloadBytes += taken;
        offset += taken;
        continue;
      }
      const byte = bytes[offset++] ?? 0;
      if (this.#prefixBytes === 0) this.#flag = byte;
      // No shift: a length may use all 32 bits.
      else this.#length = this.#length * 256 + byte;
      if (++this.#prefixBytes < MESSAGE_PREFIX_BYTES) continue;
      this.messages++;
      if (this.#flag === 1) this.compressed++;
      this.#left = this.#length;
      this.#prefixBytes = 0;
      this.#length = 0;
    }
  }
}
