import { Reader } from 'protobufjs/minimal.js';

/** Wire types (protobuf.dev, "Encoding"). */
export const WIRE_TYPE = { varint: 0, lengthDelimited: 2 } as const;

/** The wire type and the reader of each known field, by field number. */
export type FieldReaders = Readonly<
  Record<number, readonly [wireType: number, read: (reader: Reader) => unknown]>
>;

/**
 * Reads a message and skips unknown fields.
 *
 * @returns `false` if the bytes are not a valid message; some fields may have been read even then.
 */
export function readMessage(message: Uint8Array, fields: FieldReaders): boolean {
  const reader = Reader.create(message);
  try {
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      const [wireType, read] = fields[tag >>> 3] ?? [];
      if (read !== undefined && wireType === (tag & 7)) read(reader);
      else reader.skipType(tag & 7);
    }
    return true;
  } catch {
    // Truncated, or not protobuf.
    return false;
  }
}

/** Reads a string. `Reader.string` accepts a truncated string if the message is a `Buffer`; this function does not. */
export function readString(reader: Reader): string {
  return Buffer.from(reader.bytes()).toString('utf8');
}
