/** DER tags (ITU-T X.690) that stand at the start of a certificate revocation list. */
const TAG_INTEGER = 0x02;
const TAG_UTC_TIME = 0x17;
const TAG_GENERALIZED_TIME = 0x18;
const TAG_SEQUENCE = 0x30;

interface Element {
  readonly tag: number;
  readonly content: Buffer;
  readonly rest: Buffer;
}

/**
 * When a certificate revocation list must have been replaced (RFC 5280 section 5.1): `undefined` if it does not say.
 * Reads as far as that date and no further; whether the rest is sound is the TLS library's to judge.
 *
 * @param der - a `CertificateList`.
 * @throws Error if it is none.
 */
export function crlNextUpdate(der: Buffer): Date | undefined {
  const list = read(der, TAG_SEQUENCE);
  // tbsCertList: version (optional), signature, issuer, thisUpdate, nextUpdate (optional), …
  let rest = read(list.content, TAG_SEQUENCE).content;
  if (rest[0] === TAG_INTEGER) rest = read(rest, TAG_INTEGER).rest;
  rest = read(rest, TAG_SEQUENCE).rest;
  rest = read(rest, TAG_SEQUENCE).rest;
  const thisUpdate = read(rest, TAG_UTC_TIME, TAG_GENERALIZED_TIME);
  readTime(thisUpdate);
  const [tag] = thisUpdate.rest;
  if (tag !== TAG_UTC_TIME && tag !== TAG_GENERALIZED_TIME) return undefined;
  return readTime(read(thisUpdate.rest, tag));
}

function read(bytes: Buffer, ...tags: readonly number[]): Element {
  const [tag, first] = bytes;
  if (tag === undefined || first === undefined || !tags.includes(tag))
    throw new Error('not the DER expected');
  // X.690 section 8.1.3: up to 127 the length stands in one byte, above that in as many bytes as the first one says.
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  const start = 2 + lengthBytes;
  if (first === 0x80 || lengthBytes > 4 || bytes.length < start) throw new Error('not a length of DER');
  const length = lengthBytes === 0 ? first : bytes.readUIntBE(2, lengthBytes);
  if (bytes.length < start + length) throw new Error('truncated');
  return { tag, content: bytes.subarray(start, start + length), rest: bytes.subarray(start + length) };
}

/** RFC 5280 section 5.1.2.4: UTC with seconds in both forms; two digits mean 1950 to 2049. */
function readTime({ tag, content }: Element): Date {
  const text = content.toString('latin1');
  const match = /^(\d{2}|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  const [, year = '', month, day, hour, minute, second] = match ?? [];
  if (!match || year.length !== (tag === TAG_UTC_TIME ? 2 : 4)) throw new Error('not a time of RFC 5280');
  const century = tag === TAG_UTC_TIME ? (Number(year) < 50 ? '20' : '19') : '';
  const date = new Date(`${century}${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(date.getTime())) throw new Error('not a date');
  return date;
}
