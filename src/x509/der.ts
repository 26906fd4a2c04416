/** Tags of DER (ITU-T X.690, section 8) that are read here. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  numericString: 0x12,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  visibleString: 0x1a,
  universalString: 0x1c,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

/** `[number]`, constructed: the tag that RFC 5280 gives to optional fields. */
export function contextTag(number: number): number {
  return 0xa0 | number;
}

/** One value, and the bytes that follow it. */
export interface DerElement {
  readonly tag: number;
  readonly content: Buffer;
  readonly rest: Buffer;
}

/**
 * Reads the value at the start of the bytes.
 * @throws Error if it has none of the tags, or is truncated
 */
export function readDer(bytes: Buffer, ...tags: readonly number[]): DerElement {
  const [tag, first] = bytes;
  if (tag === undefined || first === undefined || !tags.includes(tag))
    throw new Error('not the DER expected');
  // X.690 section 8.1.3: a length up to 127 takes one byte. For longer ones, the first byte is the number of length bytes.
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  const start = 2 + lengthBytes;
  if (first === 0x80 || lengthBytes > 4 || bytes.length < start) throw new Error('not a length of DER');
  const length = lengthBytes === 0 ? first : bytes.readUIntBE(2, lengthBytes);
  if (bytes.length < start + length) throw new Error('truncated');
  return { tag, content: bytes.subarray(start, start + length), rest: bytes.subarray(start + length) };
}

/** Reads the value at the start of the bytes if it has this tag. */
export function readOptional(bytes: Buffer, tag: number): DerElement | undefined {
  return bytes[0] === tag ? readDer(bytes, tag) : undefined;
}

/**
 * The consecutive values in these bytes, with any tags.
 * @throws Error if the last one is truncated
 */
export function readAll(bytes: Buffer): DerElement[] {
  const elements: DerElement[] = [];
  for (let rest = bytes; rest.length > 0;) {
    const [tag = 0] = rest;
    const element = readDer(rest, tag);
    elements.push(element);
    ({ rest } = element);
  }
  return elements;
}

/** RFC 5280 sections 4.1.2.5 and 5.1.2.4: UTC with seconds in both forms; two digits mean 1950 to 2049. */
export function readTime({ tag, content }: DerElement): Date {
  const text = content.toString('latin1');
  const match = /^(\d{2}|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  const [, year = '', month, day, hour, minute, second] = match ?? [];
  if (!match || year.length !== (tag === TAG.utcTime ? 2 : 4)) throw new Error('not a time of RFC 5280');
  const century = tag === TAG.utcTime ? (Number(year) < 50 ? '20' : '19') : '';
  const date = new Date(`${century}${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(date.getTime())) throw new Error('not a date');
  return date;
}

/** X.690 section 8.19, as `1.2.840.113549.1.1.11`. */
export function readObjectIdentifier(content: Buffer): string {
  const arcs: number[] = [];
  let arc = 0;
  for (const byte of content) {
    arc = arc * 128 + (byte & 0x7f);
    if (byte >= 0x80) continue;
    if (arcs.length === 0)
      arcs.push(Math.min(2, Math.floor(arc / 40)), arc - 40 * Math.min(2, Math.floor(arc / 40)));
    else arcs.push(arc);
    arc = 0;
  }
  return arcs.join('.');
}
