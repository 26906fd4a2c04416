/** A frame (RFC 9113 section 4.1). */
export interface Frame {
  readonly type: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** The frames that are whole in these bytes. */
export function framesOf(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let offset = 0; offset + 9 <= bytes.length;) {
    const end = offset + 9 + bytes.readUIntBE(offset, 3);
    if (end > bytes.length) break;
    const payload = bytes.subarray(offset + 9, end);
    frames.push({ type: bytes[offset + 3] ?? 0, streamId: bytes.readUInt32BE(offset + 5), payload });
    offset = end;
  }
  return frames;
}
