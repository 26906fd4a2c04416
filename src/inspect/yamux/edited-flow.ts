import { YAMUX_REPAID_BYTES } from '../../limits.js';
import { YAMUX_INITIAL_WINDOW_BYTES, YamuxFlag, yamuxHeader, YamuxType } from './yamux-frame.js';

const MAX_INCREMENT = 0xffff_ffff;
const BLOCK_BYTES = 16 * 1024;

/** Bytes in the order in which they were added, in blocks: many small parts cost no more memory than a few large ones. */
class HeldBytes {
  readonly #blocks: Buffer[] = [];
  /** Bytes of the first block that were taken, and bytes of the last one that are in use. */
  #taken = 0;
  #used = BLOCK_BYTES;
  length = 0;

  add(bytes: Buffer): void {
    this.length += bytes.length;
    for (let offset = 0; offset < bytes.length;) {
      if (this.#used === BLOCK_BYTES) {
        this.#blocks.push(Buffer.allocUnsafe(BLOCK_BYTES));
        this.#used = 0;
      }
      const copied = bytes.copy(this.#blocks.at(-1) ?? bytes, this.#used, offset);
      this.#used += copied;
      offset += copied;
    }
  }

  take(length: number): Buffer {
    const taken = Buffer.allocUnsafe(length);
    for (let offset = 0; offset < length;) {
      const [block = taken] = this.#blocks;
      const copied = block.copy(taken, offset, this.#taken, this.#taken + length - offset);
      this.#taken += copied;
      offset += copied;
      if (this.#taken < BLOCK_BYTES) continue;
      this.#blocks.shift();
      this.#taken = 0;
    }
    this.length -= length;
    if (this.length === 0) this.clear();
    return taken;
  }

  clear(): void {
    this.#blocks.length = 0;
    this.#taken = 0;
    this.#used = BLOCK_BYTES;
    this.length = 0;
  }
}

/**
 * One direction of a stream whose data is edited. The window of its sender and that of its receiver differ by the bytes that were
 * dropped or inserted, and this corrects both.
 *
 * The receiver is never sent more than its window has room for; the rest is held. The sender never has more window than the receiver
 * has room for, except for inserted bytes, until they are withheld from a window update. So no more bytes wait for the window than
 * were inserted.
 */
export class EditedFlow {
  readonly #streamId: number;
  /** The window of the receiver, as the receiver counts it. */
  #roomBytes = YAMUX_INITIAL_WINDOW_BYTES;
  /** Dropped bytes less inserted bytes, until the window of the sender is corrected by them. */
  #owedBytes = 0;
  readonly #held = new HeldBytes();
  /** Whether the sender has sent FIN behind bytes that are held. */
  #holdsFin = false;
  #isFinished = false;
  #isReset = false;

  constructor(streamId: number) {
    this.#streamId = streamId;
  }

  get heldBytes(): number {
    return this.#held.length;
  }

  /** `received` bytes of the sender were replaced by `result` others. */
  replaced(received: number, result: number): void {
    if (!this.#isReset) this.#owedBytes += received - result;
  }

  /** Counts data that is forwarded as it is. Returns `false` if it must be sent by `send`, because it has to wait. */
  forward(bytes: number, flags: number): boolean {
    if (this.#held.length > 0 || bytes > this.#roomBytes || this.#isReset) return false;
    this.#roomBytes -= bytes;
    if ((flags & YamuxFlag.fin) !== 0) this.#isFinished = true;
    return true;
  }

  /** Returns the frames for data as far as its receiver has room, and holds a copy of the rest. FIN comes last. */
  send(bytes: Buffer, flags: number): Buffer[] {
    if (this.#isReset) return [];
    const allowed = bytes.subarray(0, this.#held.length > 0 ? 0 : this.#roomBytes);
    this.hold(bytes.subarray(allowed.length));
    this.#roomBytes -= allowed.length;
    const sent = (flags & YamuxFlag.fin) !== 0 && this.holdFin() ? flags & ~YamuxFlag.fin : flags;
    if (allowed.length === 0 && sent === 0) return [];
    return [yamuxHeader(YamuxType.data, sent, this.#streamId, allowed.length), allowed];
  }

  /** Holds a copy of data. */
  hold(bytes: Buffer): void {
    if (!this.#isReset) this.#held.add(bytes);
  }

  /** The sender has sent FIN. Returns whether it has to wait for bytes that are held. */
  holdFin(): boolean {
    this.#isFinished = true;
    this.#holdsFin = this.#held.length > 0;
    return this.#holdsFin;
  }

  /** Removes the held bytes for which there is room, and returns their frames. */
  takeHeld(): Buffer[] {
    const length = Math.min(this.#held.length, this.#roomBytes);
    if (length === 0) return [];
    const bytes = this.#held.take(length);
    this.#roomBytes -= length;
    const isLast = this.#holdsFin && this.#held.length === 0;
    if (isLast) this.#holdsFin = false;
    return [yamuxHeader(YamuxType.data, isLast ? YamuxFlag.fin : 0, this.#streamId, length), bytes];
  }

  /** The receiver has sent a window update. Returns the increment for the sender. */
  grow(bytes: number): number {
    this.#roomBytes += bytes;
    const increment = Math.min(Math.max(bytes + this.#owedBytes, 0), MAX_INCREMENT);
    this.#owedBytes += bytes - increment;
    return increment;
  }

  /** Returns the window update for the sender once enough of its bytes were dropped. */
  takeRepayment(): Buffer | undefined {
    const owed = Math.min(this.#owedBytes, MAX_INCREMENT);
    if (owed < YAMUX_REPAID_BYTES || this.#isFinished || this.#isReset) return undefined;
    this.#owedBytes -= owed;
    return yamuxHeader(YamuxType.windowUpdate, 0, this.#streamId, owed);
  }

  /** The stream was reset: its ends discard its data, and need no window. */
  reset(): void {
    this.#isReset = true;
    this.#owedBytes = 0;
    this.#held.clear();
    this.#holdsFin = false;
  }
}
