import { Flag, FRAME_HEADER_BYTES, FrameType } from './http2-frame.js';

/** RFC 9113 section 6.8: "the last stream identifier set to 2^31-1", from a server that has not yet sent its real last one. */
export const MAX_STREAM_ID = 0x7fff_ffff;

/** RFC 9113 section 6.9.1: "a flow-control window ... MUST NOT exceed 2^31-1 octets". */
export const MAX_WINDOW_BYTES = 0x7fff_ffff;

/** RFC 9113 section 6.5.2: the initial SETTINGS_MAX_FRAME_SIZE, which every end accepts. */
export const MAX_FRAME_BYTES = 16_384;

const NOTHING = Buffer.alloc(0);

/** A frame, whole (RFC 9113 section 4.1). */
export function frame(type: number, flags: number, streamId: number, payload: Uint8Array = NOTHING): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  // The methods of Buffer for integers cost more than the rest.
  bytes[0] = payload.length >>> 16;
  bytes[1] = payload.length >>> 8;
  bytes[2] = payload.length;
  bytes[3] = type;
  bytes[4] = flags;
  bytes[5] = streamId >>> 24;
  bytes[6] = streamId >>> 16;
  bytes[7] = streamId >>> 8;
  bytes[8] = streamId;
  bytes.set(payload, FRAME_HEADER_BYTES);
  return bytes;
}

/** Section 6.8: no stream above the last was or will be processed. */
export function goAwayFrame(lastStreamId: number, errorCode: number): Buffer {
  return frame(FrameType.goAway, 0, 0, uint32(lastStreamId, errorCode));
}

/** Section 6.4. */
export function resetFrame(streamId: number, errorCode: number): Buffer {
  return frame(FrameType.rstStream, 0, streamId, uint32(errorCode));
}

/** Section 6.9; `streamId` 0: the connection. */
export function windowUpdateFrame(streamId: number, increment: number): Buffer {
  return frame(FrameType.windowUpdate, 0, streamId, uint32(increment));
}

/** Section 6.10: the rest of a header block. */
export function continuationFrames(streamId: number, fragment: Buffer): Buffer {
  if (fragment.length <= MAX_FRAME_BYTES)
    return frame(FrameType.continuation, Flag.endHeaders, streamId, fragment);
  const frames: Buffer[] = [];
  for (let start = 0; start < fragment.length; start += MAX_FRAME_BYTES) {
    const end = start + MAX_FRAME_BYTES;
    const flags = end >= fragment.length ? Flag.endHeaders : 0;
    frames.push(frame(FrameType.continuation, flags, streamId, fragment.subarray(start, end)));
  }
  return Buffer.concat(frames);
}

/** Section 6.7; `payload` is 8 bytes. */
export function pingFrame(payload: Uint8Array, kind: 'ping' | 'ack'): Buffer {
  return frame(FrameType.ping, kind === 'ack' ? Flag.ack : 0, 0, payload);
}

/** Section 6.5: no setting, or the acknowledgement of the other end's. */
export function settingsFrame(kind: 'settings' | 'ack'): Buffer {
  return frame(FrameType.settings, kind === 'ack' ? Flag.ack : 0, 0);
}

function uint32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => bytes.writeUInt32BE(value, 4 * index));
  return bytes;
}
