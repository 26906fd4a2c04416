/** The header of a yamux frame (hashicorp's spec.md). */
export function yamuxHeader(
  version: number,
  type: number,
  flags: number,
  streamId: number,
  length: number,
): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt8(version, 0);
  header.writeUInt8(type, 1);
  header.writeUInt16BE(flags, 2);
  header.writeUInt32BE(streamId, 4);
  header.writeUInt32BE(length, 8);
  return header;
}

/** A yamux frame with its content, or, if `carried` is a number, a header with that length or value. */
export function yamux(type: number, flags: number, streamId: number, carried: Uint8Array | number): Buffer {
  return typeof carried === 'number'
    ? yamuxHeader(0, type, flags, streamId, carried)
    : Buffer.concat([yamuxHeader(0, type, flags, streamId, carried.length), carried]);
}
