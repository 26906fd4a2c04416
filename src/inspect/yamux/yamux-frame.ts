/**
 * The frames of hashicorp/yamux, version 0 (spec.md of its repository): a header of 12 bytes (version, type, flags of 16
 * bits, stream id and length of 32 bits each, big endian), and behind it, in data frames only, `length` bytes.
 */
export const YAMUX_HEADER_BYTES = 12;

export const YamuxType = { data: 0, windowUpdate: 1, ping: 2, goAway: 3 } as const;

export const YamuxFlag = { syn: 1, ack: 2, fin: 4, rst: 8 } as const;

/** "initialStreamWindow" of hashicorp/yamux: 256 KiB each way. */
export const YAMUX_INITIAL_WINDOW_BYTES = 256 * 1024;

/** A header. `value` is the length of a data frame, the increment of a window, or the id of a ping. */
export function yamuxHeader(type: number, flags: number, streamId: number, value: number): Buffer {
  const bytes = Buffer.alloc(YAMUX_HEADER_BYTES);
  bytes.writeUInt8(type, 1);
  bytes.writeUInt16BE(flags, 2);
  bytes.writeUInt32BE(streamId, 4);
  bytes.writeUInt32BE(value, 8);
  return bytes;
}
