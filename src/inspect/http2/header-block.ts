import { MAX_CONTINUATION_FRAMES, MIN_CONTINUATION_BYTES } from '../../limits.js';
import type { FieldSink, HpackDecoder, HpackFailure } from '../hpack/decoder.js';
import { Flag } from './http2-frame.js';

/**
 * The state after a frame of a header block: `open` until END_HEADERS, then `whole`. `too_short`: the payload ends before the
 * fragment. `only_padding`: the padding is longer than the rest of the payload. `small_frames`: too many small fragments.
 * `too_large`: the caller has refused a longer block.
 */
export type BlockStep = 'open' | 'whole' | 'too_short' | 'only_padding' | 'small_frames' | 'too_large';

/**
 * Assembles header blocks from HEADERS and CONTINUATION (RFC 9113 section 4.3) and decodes them as they arrive.
 *
 * Endless CONTINUATION frames are an attack (CVE-2024-27316). A library that sends large headers fills its frames; therefore the
 * many small frames of an attack differ from a long block.
 */
export class HeaderBlockReader {
  readonly #fields: FieldSink;
  readonly #maxBytes: number;
  readonly #onExcess: () => boolean;
  #decoder: HpackDecoder | undefined;
  #streamId = 0;
  #endStream = false;
  #beganAtMs = 0;
  #frames = 0;
  #bytes = 0;
  #failure: HpackFailure | undefined;

  /** @param onExcess - called each time that an open block grows beyond a multiple of `maxBytes`; returns whether to read on. */
  constructor(decoder: HpackDecoder, fields: FieldSink, maxBytes: number, onExcess: () => boolean) {
    this.#decoder = decoder;
    this.#fields = fields;
    this.#maxBytes = maxBytes;
    this.#onExcess = onExcess;
  }

  /** `undefined` after `stopDecoding`. */
  get decoder(): HpackDecoder | undefined {
    return this.#decoder;
  }

  /** The stream whose block is open; 0 if none is. Only its CONTINUATION may follow. */
  get streamId(): number {
    return this.#streamId;
  }

  /** Whether HEADERS of the last block had END_STREAM. */
  get endStream(): boolean {
    return this.#endStream;
  }

  /** The time when the open block began. */
  get beganAtMs(): number {
    return this.#beganAtMs;
  }

  /** The total length of the fragments of the last block. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The reason for which the last frame could not be decoded. */
  get failure(): HpackFailure | undefined {
    return this.#failure;
  }

  /** Discards the tables: later blocks are assembled only. */
  stopDecoding(): void {
    this.#decoder = undefined;
  }

  /** Forgets the open block. */
  abandon(): void {
    this.#streamId = 0;
  }

  /** Reads the payload of HEADERS (section 6.2). */
  headers(
    flags: number,
    streamId: number,
    payload: Buffer,
    start: number,
    end: number,
    nowMs: number,
  ): BlockStep {
    const isPadded = (flags & Flag.padded) !== 0;
    const from = start + (isPadded ? 1 : 0) + ((flags & Flag.priority) === 0 ? 0 : 5);
    const to = isPadded ? end - (payload[start] ?? 0) : end;
    if (from > end) return 'too_short';
    if (from > to) return 'only_padding';
    this.#endStream = (flags & Flag.endStream) !== 0;
    if ((flags & Flag.endHeaders) !== 0) {
      this.#bytes = to - from;
      this.#failure = this.#decoder?.decode(payload, from, to, this.#fields);
      return 'whole';
    }
    this.#streamId = streamId;
    this.#beganAtMs = nowMs;
    this.#frames = 0;
    this.#bytes = 0;
    this.#decoder?.begin();
    return this.#add(payload, from, to);
  }

  /** Reads the payload of CONTINUATION, within an open block. */
  continuation(flags: number, payload: Buffer, start: number, end: number): BlockStep {
    const step = this.#add(payload, start, end);
    if (step !== 'open' || (flags & Flag.endHeaders) === 0) return step;
    this.#streamId = 0;
    this.#failure ??= this.#decoder?.finish();
    return 'whole';
  }

  #add(payload: Buffer, start: number, end: number): BlockStep {
    const excess = Math.floor(this.#bytes / this.#maxBytes);
    this.#bytes += end - start;
    this.#frames++;
    const allowedFrames = 1 + MAX_CONTINUATION_FRAMES + this.#bytes / MIN_CONTINUATION_BYTES;
    if (this.#frames > allowedFrames) {
      this.#streamId = 0;
      return 'small_frames';
    }
    if (Math.floor(this.#bytes / this.#maxBytes) > excess && !this.#onExcess()) return 'too_large';
    this.#failure = this.#decoder?.part(payload, start, end, this.#fields);
    return 'open';
  }
}
