import type { Sender } from '../sender.js';
import { Flag, FRAME_HEADER_BYTES } from './http2-frame.js';
import type { Http2Loss } from './http2-side.js';

/** The facts about a connection that the cutter gets from its inspector. */
export interface CutHttp2 {
  /** Whether what a sender has sent ends where a frame ends, outside of a header block. */
  isBetweenFrames(sender: Sender): boolean;
  /** Bytes that a sender will send before its next boundary, at the least. */
  bytesToBoundary(sender: Sender): number;
  read(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): Http2Loss | undefined;
}

/**
 * How a frame is treated. `hold`: it is kept until `settle` decides. `drop`: it is read by the inspector and not forwarded.
 * `hide`: neither.
 */
export type FrameUse = 'forward' | 'hold' | 'drop' | 'hide';

/**
 * How the held frames are treated. `hold`: the next frame is held too. A buffer: they are forwarded, and END_HEADERS of the last
 * is cleared, because these frames follow and continue their header block.
 */
export type HeldUse = 'forward' | 'drop' | 'hold' | Buffer;

/** Decides on the frames of one end. `undefined` stops the cutter: nothing more is forwarded. */
export interface FrameRule {
  /** A frame begins. `heldBytes`: the length of the frames that are held so far. */
  begin(
    type: number,
    flags: number,
    streamId: number,
    length: number,
    heldBytes: number,
  ): FrameUse | undefined;
  /** A held frame is whole, and the inspector has read it. The range contains all held frames. */
  settle(bytes: Buffer, start: number, end: number): HeldUse | undefined;
  /** Whether frames of the proxy wait for a boundary. */
  readonly hasAdditions: boolean;
  /** The frames of the proxy to insert between two frames, if this is possible here. */
  additions(): Buffer | undefined;
  /** The inspector has read more bytes. Returns whether the cutter continues. */
  hasRead(loss: Http2Loss | undefined): boolean;
}

const NOTHING = Buffer.alloc(0);

/** The ranges that are kept for the next chunk. */
const MAX_KEPT_RANGES = 16;

/** The offset of the flags in a frame (RFC 9113 section 4.1). */
const FLAGS_AT = 4;

/**
 * Cuts the bytes of one end of an HTTP/2 connection into frames and lets a rule decide how each is treated. The inspector reads all
 * bytes as they arrive, except hidden frames, and incomplete headers of frames.
 *
 * It may begin anywhere: the inspector knows the first boundary. Bytes are copied only if they are held, or if something was left
 * out of their chunk or inserted into it.
 */
export class FrameCutter {
  readonly #sender: Sender;
  readonly #connection: CutHttp2;
  readonly #rule: FrameRule;
  #isAligned = false;
  /** The beginning of a frame's header, at the end of the last chunk. */
  #header: Buffer = NOTHING;
  /** The treatment of the current frame, and the part of its payload that is still to come. */
  #use: FrameUse = 'forward';
  #left = 0;

  #isHolding = false;
  /** The announced length of the held frames, and the position of the last one in them. */
  #heldBytes = 0;
  #lastHeldAt = 0;
  /** The held bytes of earlier chunks. */
  #held: Buffer = NOTHING;
  #heldLength = 0;
  /** The offset of the first held byte of this chunk. */
  #holdFrom = 0;

  // The current chunk.
  #chunk: Buffer = NOTHING;
  #nowMs = 0;
  readonly #out = new ForwardedBytes();
  /** Bytes before this one were forwarded or left out. */
  #done = 0;
  /** Bytes before this one were read by the inspector or hidden from it. */
  #read = 0;

  constructor(sender: Sender, connection: CutHttp2, rule: FrameRule) {
    this.#sender = sender;
    this.#connection = connection;
    this.#rule = rule;
  }

  /** Whether the next chunk may pass uncut. */
  get isIdle(): boolean {
    return this.#header.length === 0 && !this.#isHolding && (this.#left === 0 || this.#use === 'forward');
  }

  /** Lets a chunk pass without cutting it. */
  passUncut(bytes: Buffer, nowMs: number): Buffer {
    this.#isAligned = false;
    this.#left = 0;
    this.#rule.hasRead(this.#connection.read(this.#sender, bytes, 0, bytes.length, nowMs));
    return bytes;
  }

  /** Returns the bytes to forward in place of a chunk: the chunk itself if it is unchanged. */
  pass(bytes: Buffer, nowMs: number): Buffer {
    this.#chunk = this.#header.length === 0 ? bytes : Buffer.concat([this.#header, bytes]);
    this.#header = NOTHING;
    this.#nowMs = nowMs;
    this.#done = 0;
    this.#read = 0;
    this.#holdFrom = 0;
    const passed = this.#cut(this.#chunk);
    this.#chunk = NOTHING;
    this.#out.clear();
    return passed;
  }

  #cut(chunk: Buffer): Buffer {
    const { length } = chunk;
    let offset = this.#align(length);
    // The first boundary is not in this chunk, or the bytes are not frames.
    if (!this.#isAligned) return chunk;
    for (;;) {
      if (this.#left > 0) {
        if (offset === length) break;
        const taken = Math.min(this.#left, length - offset);
        offset += taken;
        this.#left -= taken;
        if (!this.#advance(offset)) return NOTHING;
        continue;
      }
      if (this.#rule.hasAdditions && !this.#insertAt(offset)) return NOTHING;
      if (length - offset < FRAME_HEADER_BYTES) break;
      if (!this.#begin(offset)) return NOTHING;
      offset += FRAME_HEADER_BYTES;
      if (!this.#advance(offset)) return NOTHING;
    }
    return this.#finish(this.#left > 0 ? length : offset);
  }

  /** Returns the first boundary in the chunk, or its end. */
  #align(length: number): number {
    let offset = 0;
    while (!this.#isAligned) {
      this.#isAligned = this.#connection.isBetweenFrames(this.#sender);
      if (this.#isAligned || offset === length) break;
      offset += Math.min(this.#connection.bytesToBoundary(this.#sender), length - offset);
      if (!this.#readTo(offset)) break;
    }
    return offset;
  }

  /** Begins the frame whose header is at this offset. Returns whether to continue. */
  #begin(offset: number): boolean {
    const chunk = this.#chunk;
    const length = readUint24(chunk, offset);
    const streamId = (((chunk[offset + 5] ?? 0) & 0x7f) << 24) | readUint24(chunk, offset + 6);
    const [type, flags] = [chunk[offset + 3] ?? 0, chunk[offset + 4] ?? 0];
    const decided = this.#rule.begin(type, flags, streamId, length, this.#isHolding ? this.#heldBytes : 0);
    if (decided === undefined) return false;
    // Nothing may overtake held frames. The inspector reads this one too, and fails if it interrupts a header block.
    const use = this.#isHolding ? 'hold' : decided;
    this.#use = use;
    this.#left = length;
    if (use === 'hold') {
      if (!this.#isHolding) {
        this.#isHolding = true;
        this.#holdFrom = offset;
        this.#heldBytes = 0;
      }
      this.#lastHeldAt = this.#heldBytes;
      this.#heldBytes += FRAME_HEADER_BYTES + length;
    } else if (use !== 'forward') {
      this.#forwardTo(offset);
      if (use === 'hide' && !this.#readTo(offset)) return false;
    }
    return true;
  }

  /** The current frame has come up to this offset. Returns whether to continue. */
  #advance(offset: number): boolean {
    if (this.#use === 'forward') return true;
    if (this.#use === 'hold') return this.#left > 0 || this.#settle(offset);
    this.#done = offset;
    if (this.#use === 'hide') this.#read = offset;
    return true;
  }

  #settle(offset: number): boolean {
    if (!this.#readTo(offset)) return false;
    if (this.#heldLength > 0) this.#keepTo(offset);
    const hasKept = this.#heldLength > 0;
    const [bytes, start] = hasKept ? [this.#held, 0] : [this.#chunk, this.#holdFrom];
    const end = start + this.#heldBytes;
    const use = this.#rule.settle(bytes, start, end);
    if (use === undefined) return false;
    if (use === 'hold') return true;
    this.#isHolding = false;
    if (use === 'forward' && !hasKept) return true;
    if (!hasKept) this.#forwardTo(this.#holdFrom);
    if (use !== 'drop') this.#out.add(bytes, start, end);
    if (typeof use === 'object') {
      this.#out.clearBits(end - start - this.#lastHeldAt - FLAGS_AT, Flag.endHeaders);
      this.#out.add(use, 0, use.length);
    }
    this.#done = offset;
    this.#held = NOTHING;
    this.#heldLength = 0;
    return true;
  }

  #insertAt(offset: number): boolean {
    if (!this.#readTo(offset)) return false;
    const frames = this.#rule.additions();
    if (frames) {
      this.#forwardTo(offset);
      this.#out.add(frames, 0, frames.length);
    }
    return true;
  }

  /** Ends the chunk; after `end` it has an incomplete header only. */
  #finish(end: number): Buffer {
    const chunk = this.#chunk;
    if (!this.#readTo(end)) return NOTHING;
    if (end < chunk.length) this.#header = Buffer.from(chunk.subarray(end));
    if (this.#isHolding) {
      this.#forwardTo(this.#holdFrom);
      this.#keepTo(end);
    } else if (this.#out.length === 0 && this.#done === 0 && end === chunk.length) return chunk;
    else this.#forwardTo(end);
    return this.#out.take();
  }

  #forwardTo(offset: number): void {
    if (offset <= this.#done) return;
    this.#out.add(this.#chunk, this.#done, offset);
    this.#done = offset;
  }

  /** Keeps the held bytes of the chunk up to this offset. */
  #keepTo(offset: number): void {
    const needed = this.#heldLength + (offset - this.#holdFrom);
    if (needed > this.#held.length) {
      // As bytes come, not as a header announces them: a few bytes of a client must not cost the memory of a frame.
      const larger = Buffer.allocUnsafe(Math.min(2 * needed, Math.max(needed, this.#heldBytes)));
      this.#held.copy(larger, 0, 0, this.#heldLength);
      this.#held = larger;
    }
    this.#chunk.copy(this.#held, this.#heldLength, this.#holdFrom, offset);
    this.#heldLength = needed;
    this.#holdFrom = offset;
    this.#done = offset;
  }

  #readTo(offset: number): boolean {
    if (offset <= this.#read) return true;
    const start = this.#read;
    this.#read = offset;
    return this.#rule.hasRead(this.#connection.read(this.#sender, this.#chunk, start, offset, this.#nowMs));
  }
}

/** A range of bytes to forward. Ranges are reused, because most chunks need the same few. */
interface Range {
  bytes: Buffer;
  start: number;
  end: number;
  /** Bits to clear in the byte at `clearAt`. */
  clearAt: number;
  clearBits: number;
}

/** The bytes to forward in place of a chunk, as ranges of buffers. A view of each range would cost more than to copy it. */
class ForwardedBytes {
  length = 0;
  readonly #ranges: Range[] = [];
  #count = 0;

  add(bytes: Buffer, start: number, end: number): void {
    this.length += end - start;
    const last = this.#count === 0 ? undefined : this.#ranges[this.#count - 1];
    if (last?.bytes === bytes && last.end === start && last.clearBits === 0) {
      last.end = end;
      return;
    }
    const range = this.#ranges[this.#count++];
    if (!range) {
      this.#ranges.push({ bytes, start, end, clearAt: 0, clearBits: 0 });
      return;
    }
    range.bytes = bytes;
    range.start = start;
    range.end = end;
  }

  /** Clears bits of a byte of the last range; `fromEnd` is 1 for its last byte. */
  clearBits(fromEnd: number, bits: number): void {
    const range = this.#ranges[this.#count - 1];
    if (!range) return;
    range.clearAt = range.end - fromEnd;
    range.clearBits = bits;
  }

  /** Returns a copy of the bytes. */
  take(): Buffer {
    if (this.length === 0) return NOTHING;
    const taken = Buffer.allocUnsafe(this.length);
    let offset = 0;
    for (let index = 0; index < this.#count; index++) {
      const range = this.#ranges[index];
      if (!range) break;
      const { bytes, start, end, clearAt, clearBits } = range;
      bytes.copy(taken, offset, start, end);
      const cleared = offset + clearAt - start;
      if (clearBits !== 0) taken[cleared] = (taken[cleared] ?? 0) & ~clearBits;
      offset += end - start;
    }
    return taken;
  }

  clear(): void {
    for (let index = 0; index < this.#count; index++) {
      const range = this.#ranges[index];
      if (!range) break;
      range.bytes = NOTHING;
      range.clearBits = 0;
    }
    if (this.#count > MAX_KEPT_RANGES) this.#ranges.length = MAX_KEPT_RANGES;
    this.#count = 0;
    this.length = 0;
  }
}

function readUint24(bytes: Buffer, offset: number): number {
  return ((bytes[offset] ?? 0) << 16) | ((bytes[offset + 1] ?? 0) << 8) | (bytes[offset + 2] ?? 0);
}
