// Numbers of RFC 9113 section 6, independent of the program's own.
export const [DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE] = [0, 1, 2, 3, 4, 5] as const;
export const [PING, GOAWAY, WINDOW_UPDATE, CONTINUATION] = [6, 7, 8, 9] as const;
export const [END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY] = [0x1, 0x1, 0x4, 0x8, 0x20] as const;

/** A frame (RFC 9113 section 4.1). `length`: the one in its header, if it is not that of the payload. */
export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array | readonly number[] = [],
  length = payload.length,
): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, Buffer.from(payload)]);
}

export function uint32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => bytes.writeUInt32BE(value, 4 * index));
  return bytes;
}

/** SETTINGS of these values by identifier. */
export function settings(...values: readonly (readonly [identifier: number, value: number])[]): Buffer {
  return frame(
    SETTINGS,
    0,
    0,
    Buffer.concat(values.map(([id, value]) => Buffer.concat([Buffer.of(0, id), uint32(value)]))),
  );
}

export const SETTINGS_ACK = frame(SETTINGS, ACK, 0);

/** A header block of literals that leave the table alone (RFC 7541 section 6.2.2). */
export function block(fields: Readonly<Record<string, string>>): Buffer {
  const literals = Object.entries(fields).map(([name, value]) =>
    Buffer.concat([
      Buffer.of(0, name.length),
      Buffer.from(name, 'latin1'),
      Buffer.of(value.length),
      Buffer.from(value, 'latin1'),
    ]),
  );
  return Buffer.concat(literals);
}

/** HEADERS, whole, with these fields. */
export function headers(streamId: number, fields: Readonly<Record<string, string>>, flags = 0): Buffer {
  return frame(HEADERS, END_HEADERS | flags, streamId, block(fields));
}

/** A frame (RFC 9113 section 4.1). */
export interface Frame {
  readonly type: number;
  readonly flags: number;
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
    frames.push({
      type: bytes.readUInt8(offset + 3),
      flags: bytes.readUInt8(offset + 4),
      streamId: bytes.readUInt32BE(offset + 5),
      payload,
    });
    offset = end;
  }
  return frames;
}
