import { BYTE_QUEUE_BLOCK_BYTES, BYTE_QUEUE_ENTRY_BYTES, BYTE_QUEUE_FEW_ENTRIES } from '../../limits.js';

/** Chunks shorter than this are copied into a block once the queue has more than a few entries. */
const SMALL_BYTES = BYTE_QUEUE_BLOCK_BYTES / 2;

/**
 * A queue of bytes that accounts for their cost in memory: a chunk of one byte can occupy about a thousand bytes. The first few
 * chunks are queued without a copy; small chunks after them are joined. A small view of a large read is joined immediately.
 */
export class ByteQueue {
  #chunks: Buffer[] = [];
  /** The last block of the queue, which small chunks are copied into. */
  #block: Buffer | undefined;
  #blockBytes = 0;
  #cost = 0;
  #bytes = 0;

  /** The memory that the queue occupies. */
  get cost(): number {
    return this.#cost;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isEmpty(): boolean {
    return this.#chunks.length === 0 && !this.#block;
  }

  /** `chunk` must not be changed while it is queued. */
  add(chunk: Buffer): void {
    this.#bytes += chunk.length;
    // A view keeps the entire underlying buffer in memory.
    const isMany =
      this.#chunks.length >= BYTE_QUEUE_FEW_ENTRIES || chunk.buffer.byteLength > BYTE_QUEUE_BLOCK_BYTES * 2;
    if (chunk.length < SMALL_BYTES && isMany) {
      this.#join(chunk);
      return;
    }
    this.#closeBlock();
    this.#chunks.push(chunk);
    this.#cost += BYTE_QUEUE_ENTRY_BYTES + chunk.length;
  }

  /** Returns the queued bytes and empties the queue. */
  take(): Buffer[] {
    this.#closeBlock();
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#cost = 0;
    this.#bytes = 0;
    return chunks;
  }

  #join(chunk: Buffer): void {
    if (this.#block && this.#blockBytes + chunk.length > this.#block.length) this.#closeBlock();
    if (!this.#block) {
      this.#block = Buffer.allocUnsafeSlow(BYTE_QUEUE_BLOCK_BYTES);
      this.#cost += BYTE_QUEUE_ENTRY_BYTES + BYTE_QUEUE_BLOCK_BYTES;
    }
    this.#blockBytes += chunk.copy(this.#block, this.#blockBytes);
  }

  #closeBlock(): void {
    if (!this.#block) return;
    this.#chunks.push(this.#block.subarray(0, this.#blockBytes));
    this.#block = undefined;
    this.#blockBytes = 0;
  }
}
