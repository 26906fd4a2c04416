import { MAX_COLLECTED_FRAME_BYTES } from '../limits.js';

/** The treatment of a frame's payload: skipped, collected until it is complete, or streamed. */
export type PayloadUse = 'skip' | 'collect' | 'stream';

/** Takes the frames of one direction. A sink that cannot follow returns `undefined`, and is not called again. */
export interface FrameSink {
  /** Bytes of the payload of the frame that `header` was called with last. */
  readonly payloadBytes: number;
  /** A frame's header, whole, at this offset. `undefined`: it cannot be followed. */
  header(bytes: Buffer, offset: number): PayloadUse | undefined;
  /** A part of a payload that is streamed; `last` with its last part, which may be empty. */
  part(bytes: Buffer, start: number, end: number, last: boolean): boolean;
  /** A payload that was collected, whole. The bytes are the caller's and change after the call. */
  payload(bytes: Buffer, start: number, end: number): boolean;
}

/** How a protocol's bytes are cut into frames. */
export interface Framing {
  readonly headerBytes: number;
  /** The bytes of a direction before its first frame. */
  readonly preface: Buffer | undefined;
}

const NOTHING = Buffer.alloc(0);

/**
 * Cuts the bytes of one direction into frames, however they are sliced. Nothing of a payload is kept but what a
 * `collect` asked for, and that only where it comes in parts; its length is checked before the first byte is kept.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #preface: Buffer;
  readonly #headerBytes: number;
  #state: 'preface' | 'header' | PayloadUse | 'lost';
  /** Bytes of the preface or of the header that have come, where these came in parts. */
  #have = 0;
  #header: Buffer = NOTHING;
  /** Bytes of the payload that are still to come. */
  #left = 0;
  #collected: Buffer = NOTHING;
  #collectedLength = 0;

  constructor(sink: FrameSink, framing: Framing) {
    this.#sink = sink;
    this.#preface = framing.preface ?? NOTHING;
    this.#headerBytes = framing.headerBytes;
    this.#state = framing.preface ? 'preface' : 'header';
  }

  /** Whether the bytes so far end where a frame ends. */
  get atBoundary(): boolean {
    return this.#state === 'header' && this.#have === 0;
  }

  /** Bytes until the earliest possible next boundary; a reader that never reads more at once misses none. */
  get bytesToBoundary(): number {
    switch (this.#state) {
      case 'header':
        return this.#headerBytes - this.#have;
      case 'preface':
        return this.#preface.length - this.#have;
      case 'lost':
        return Number.POSITIVE_INFINITY;
      default:
        return this.#left;
    }
  }

  /** Reads on; `false` once it cannot be followed, and ever after. */
  read(bytes: Buffer, start: number, end: number): boolean {
    let offset = start;
    while (offset < end) {
      switch (this.#state) {
        case 'header':
          offset = this.#readHeader(bytes, offset, end);
          break;
        case 'skip':
        case 'stream':
        case 'collect':
          offset = this.#readPayload(bytes, offset, end);
          break;
        case 'preface':
          offset = this.#readPreface(bytes, offset, end);
          break;
        case 'lost':
          return false;
      }
    }
    return this.#state !== 'lost';
  }

  #readPreface(bytes: Buffer, start: number, end: number): number {
    const preface = this.#preface;
    let offset = start;
    while (offset < end && this.#have < preface.length) {
      if (bytes[offset] !== preface[this.#have]) {
        this.#state = 'lost';
        return end;
      }
      offset++;
      this.#have++;
    }
    if (this.#have === preface.length) {
      this.#have = 0;
      this.#state = 'header';
    }
    return offset;
  }

  #readHeader(bytes: Buffer, start: number, end: number): number {
    const headerBytes = this.#headerBytes;
    if (this.#have === 0 && end - start >= headerBytes) {
      this.#begin(bytes, start);
      return start + headerBytes;
    }
    if (this.#header.length === 0) this.#header = Buffer.allocUnsafe(headerBytes);
    const taken = Math.min(headerBytes - this.#have, end - start);
    bytes.copy(this.#header, this.#have, start, start + taken);
    this.#have += taken;
    if (this.#have === headerBytes) {
      this.#have = 0;
      this.#begin(this.#header, 0);
    }
    return start + taken;
  }

  #begin(bytes: Buffer, offset: number): void {
    const use = this.#sink.header(bytes, offset);
    const { payloadBytes } = this.#sink;
    if (use === undefined || (use === 'collect' && payloadBytes > MAX_COLLECTED_FRAME_BYTES)) {
      this.#state = 'lost';
      return;
    }
    this.#state = use;
    this.#left = payloadBytes;
    this.#collectedLength = 0;
    if (payloadBytes === 0) this.#end(NOTHING, 0, 0);
  }

  #readPayload(bytes: Buffer, start: number, end: number): number {
    const taken = Math.min(this.#left, end - start);
    const to = start + taken;
    this.#left -= taken;
    if (this.#left === 0) this.#end(bytes, start, to);
    else if (this.#state === 'collect') this.#keep(bytes, start, to);
    else if (this.#state === 'stream' && !this.#sink.part(bytes, start, to, false)) this.#state = 'lost';
    return to;
  }

  #end(bytes: Buffer, start: number, end: number): void {
    const use = this.#state;
    this.#state = 'header';
    let followed = true;
    if (use === 'stream') followed = this.#sink.part(bytes, start, end, true);
    else if (use === 'collect' && this.#collectedLength === 0)
      followed = this.#sink.payload(bytes, start, end);
    else if (use === 'collect') {
      this.#keep(bytes, start, end);
      followed = this.#sink.payload(this.#collected, 0, this.#collectedLength);
      this.#collected = NOTHING;
    }
    if (!followed) this.#state = 'lost';
  }

  #keep(bytes: Buffer, start: number, end: number): void {
    const needed = this.#collectedLength + (end - start);
    if (needed > this.#collected.length) {
      // As bytes come, not as a header announces them: a few bytes of a client must not cost the memory of a frame.
      const larger = Buffer.allocUnsafe(Math.min(2 * needed, needed + this.#left));
      this.#collected.copy(larger, 0, 0, this.#collectedLength);
      this.#collected = larger;
    }
    bytes.copy(this.#collected, this.#collectedLength, start, end);
    this.#collectedLength = needed;
  }
}
