import { MAX_CONTINUATION_FRAMES, MIN_CONTINUATION_BYTES } from '../../limits.js';
import { Flag } from './http2-frame.js';

/** The start of the header block fragment in the payload of HEADERS (RFC 9113 section 6.2). */
export function fragmentStart(flags: number, start: number): number {
  return start + ((flags & Flag.padded) === 0 ? 0 : 1) + ((flags & Flag.priority) === 0 ? 0 : 5);
}

/** Its end, before the padding; smaller than its start if the payload is too short. */
export function fragmentEnd(flags: number, payload: Buffer, start: number, end: number): number {
  return (flags & Flag.padded) === 0 ? end : end - (payload[start] ?? 0);
}

/**
 * Bounds a header block whose HEADERS frame had no END_HEADERS (RFC 9113 section 4.3): endless CONTINUATION frames are an
 * attack (CVE-2024-27316). A library that sends large headers fills its frames; therefore the many small
 * frames of an attack differ from a long block.
 */
export class HeaderBlock {
  readonly streamId: number;
  readonly endStream: boolean;
  /** By the inspector's clock. */
  readonly beganAtMs: number;
  #frames = 0;
  #bytes = 0;

  constructor(streamId: number, endStream: boolean, beganAtMs: number) {
    this.streamId = streamId;
    this.endStream = endStream;
    this.beganAtMs = beganAtMs;
  }

  /** The total length of its fragments so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Adds a fragment, that of HEADERS first; `false` if there are too many small ones. */
  add(bytes: number): boolean {
    this.#bytes += bytes;
    this.#frames++;
    const allowed = 1 + MAX_CONTINUATION_FRAMES + this.#bytes / MIN_CONTINUATION_BYTES;
    return this.#frames <= allowed;
  }
}
