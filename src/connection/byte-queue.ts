import { BYTE_QUEUE_BLOCK_BYTES, BYTE_QUEUE_ENTRY_BYTES, BYTE_QUEUE_FEW_ENTRIES } from '../limits.js';

/** Chunks shorter than this are copied into a block once there are more than a few. */
const SMALL_BYTES = BYTE_QUEUE_BLOCK_BYTES / 2;

/**
 * Bytes that wait, in their order, and what they cost. A chunk of one byte takes a thousand: a few chunks wait as they came,
 * which copies nothing, and small ones behind them are joined. A small view of a large read is joined at once.
 */
export class ByteQueue {
  #chunks: Buffer[] = [];
  /** The end of the queue, where it is being joined. */
  #block: Buffer | undefined;
  #blockBytes = 0;
  #cost = 0;
  #bytes = 0;

  /** What the queue takes in memory. */
  get cost(): number {
    return this.#cost;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isEmpty(): boolean {
    return this.#chunks.length === 0 && !this.#block;
  }

  /** `chunk` must stay as it is while it waits. */
  add(chunk: Buffer): void {
    this.#bytes += chunk.length;
    // A view keeps all of the memory that it is a view of.
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

  /** What waits; the queue is empty then. */
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
