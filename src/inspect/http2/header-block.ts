import { MAX_CONTINUATION_FRAMES, MAX_HEADER_BLOCK_BYTES } from '../../limits.js';
import { Flag } from './frame.js';

/** Where the fragment of a header block begins in the payload of HEADERS (RFC 9113 section 6.2). */
export function fragmentStart(flags: number, start: number): number {
  return start + ((flags & Flag.padded) === 0 ? 0 : 1) + ((flags & Flag.priority) === 0 ? 0 : 5);
}

/** Where it ends, in front of the padding; that is before its start if the payload is too short to be one. */
export function fragmentEnd(flags: number, payload: Buffer, start: number, end: number): number {
  return (flags & Flag.padded) === 0 ? end : end - (payload[start] ?? 0);
}

/**
 * Puts together a header block whose HEADERS frame had no END_HEADERS (RFC 9113 section 4.3). Frames and bytes are bounded
 * before they are kept: CONTINUATION without end is an attack (CVE-2024-27316).
 */
export class HeaderBlock {
  readonly streamId: number;
  readonly endStream: boolean;
  /** By the inspector's clock. */
  readonly beganAtMs: number;
  readonly #parts: Buffer[] = [];
  #bytes = 0;

  constructor(streamId: number, endStream: boolean, beganAtMs: number) {
    this.streamId = streamId;
    this.endStream = endStream;
    this.beganAtMs = beganAtMs;
  }

  /** Keeps a copy of a fragment; `false` if the block becomes too large. */
  add(bytes: Buffer, start: number, end: number): boolean {
    this.#bytes += end - start;
    if (this.#bytes > MAX_HEADER_BLOCK_BYTES || this.#parts.length > MAX_CONTINUATION_FRAMES) return false;
    this.#parts.push(Buffer.from(bytes.subarray(start, end)));
    return true;
  }

  whole(): Buffer {
    return Buffer.concat(this.#parts, this.#bytes);
  }
}
