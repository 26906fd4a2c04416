/** One field of a message in protobuf's wire format. */
export interface ProtobufField {
  readonly number: number;
  /** A varint, or the bytes of a length-delimited field (a text, a message). */
  readonly value: number | Buffer;
}

/** Wire types (protobuf.dev, "Encoding"). */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

/**
 * The fields of a message, in the order of the wire; those of fixed width, which none of our messages has, are left out.
 *
 * @returns `undefined` if the bytes are no message.
 */
export function readFields(message: Buffer): ProtobufField[] | undefined {
  const fields: ProtobufField[] = [];
  let offset = 0;
  const varint = (): number | undefined => {
    // Numbers of ours fit 53 bits; what is larger loses its precision and nothing else.
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = message[offset++];
      if (byte === undefined) return undefined;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    return undefined;
  };
  while (offset < message.length) {
    const tag = varint();
    if (tag === undefined) return undefined;
    const number = Math.floor(tag / 8);
    switch (tag % 8) {
      case VARINT: {
        const value = varint();
        if (value === undefined) return undefined;
        fields.push({ number, value });
        break;
      }
      case LENGTH_DELIMITED: {
        const length = varint();
        if (length === undefined || offset + length > message.length) return undefined;
        fields.push({ number, value: message.subarray(offset, offset + length) });
        offset += length;
        break;
      }
      case FIXED64:
        offset += 8;
        break;
      case FIXED32:
        offset += 4;
        break;
      default:
        return undefined;
    }
  }
  return offset === message.length ? fields : undefined;
}
