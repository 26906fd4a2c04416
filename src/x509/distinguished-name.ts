import { isPrintable, UNPRINTABLE_CLASS } from '../printable.js';
import { readAll, readDer, readObjectIdentifier, TAG, type DerElement } from './der.js';

/** OpenSSL's short names of the attributes that RFC 5280 and Active Directory use; other attributes are shown by their OID. */
const ATTRIBUTES: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.4': 'SN',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.9': 'street',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '2.5.4.12': 'title',
  '2.5.4.13': 'description',
  '2.5.4.17': 'postalCode',
  '2.5.4.41': 'name',
  '2.5.4.42': 'GN',
  '2.5.4.43': 'initials',
  '2.5.4.44': 'generationQualifier',
  '2.5.4.46': 'dnQualifier',
  '2.5.4.65': 'pseudonym',
  '2.5.4.97': 'organizationIdentifier',
  '0.9.2342.19200300.100.1.1': 'UID',
  '0.9.2342.19200300.100.1.25': 'DC',
  '1.2.840.113549.1.9.1': 'emailAddress',
};

/** One attribute of a name: `CN=value`. */
interface Attribute {
  /** The short name if the attribute has one, otherwise the object identifier. */
  readonly type: string;
  /** Exactly as in the certificate; `undefined` if the value is not valid text. */
  readonly value: string | undefined;
  readonly der: DerElement;
}

/** A subject or an issuer: its relative distinguished names, most of which have one attribute. */
export type DistinguishedName = readonly (readonly Attribute[])[];

/**
 * Reads a `Name` (RFC 5280 section 4.1.2.4).
 * @throws Error if it is malformed
 */
export function readDistinguishedName(der: Buffer): DistinguishedName {
  return readAll(readDer(der, TAG.sequence).content).map((relative) => {
    if (relative.tag !== TAG.set) throw new Error('not the DER expected');
    return readAll(relative.content).map(({ content }) => {
      const id = readDer(content, TAG.objectIdentifier);
      const identifier = readObjectIdentifier(id.content);
      const [tag = 0] = id.rest;
      const value = readDer(id.rest, tag);
      const type = Object.hasOwn(ATTRIBUTES, identifier) ? ATTRIBUTES[identifier] : undefined;
      return { type: type ?? identifier, value: readValue(value), der: value };
    });
  });
}

/**
 * The Common Name; `undefined` if the name has none or more than one. With several, OpenSSL uses the first and Go the last, so
 * the intended holder is unknown.
 */
export function commonNameOf(name: DistinguishedName): string | undefined {
  const [first, ...others] = name.flat().filter(({ type }) => type === 'CN');
  return others.length === 0 ? first?.value : undefined;
}

/** Whether all values are printable text. */
export function isPrintableName(name: DistinguishedName): boolean {
  return name.flat().every(({ value }) => value !== undefined && isPrintable(value));
}

/**
 * Formats a name on one line in the order of the certificate: `O=GitLab, CN=rails`. Attributes of one relative distinguished
 * name are joined by ` + `. Values are escaped (RFC 4514 section 2.4), so that no value can imitate another attribute.
 */
export function formatDistinguishedName(name: DistinguishedName): string {
  return name
    .map((attributes) =>
      attributes.map(({ type, value, der }) => `${type}=${format(value, der)}`).join(' + '),
    )
    .join(', ');
}

/**
 * A key that is equal for names that OpenSSL considers equal: it ignores case, repeated spaces and the type of string.
 */
export function nameKey(name: DistinguishedName): string {
  return JSON.stringify(
    name.map((attributes) =>
      attributes.map(({ type, value, der }) => [
        type,
        value === undefined ? format(value, der) : folded(value),
      ]),
    ),
  );
}

function folded(value: string): string {
  return value.trim().replace(/\s+/gu, ' ').toLowerCase();
}

const ESCAPED = new RegExp(`^[ #]|[",+;<>\\\\]| $|${UNPRINTABLE_CLASS}`, 'gu');

function format(value: string | undefined, { tag, content }: DerElement): string {
  // RFC 4514 section 2.4: the DER in hexadecimal, here without its length octets.
  if (value === undefined) return `#${tag.toString(16).padStart(2, '0')}${content.toString('hex')}`;
  return value.replace(ESCAPED, (character) =>
    isPrintable(character)
      ? `\\${character}`
      : [...Buffer.from(character)]
          .map((byte) => `\\${byte.toString(16).padStart(2, '0').toUpperCase()}`)
          .join(''),
  );
}

/** The text of a value of one of the string types; `undefined` for other types, and for bytes that are invalid for the type. */
function readValue({ tag, content }: DerElement): string | undefined {
  switch (tag) {
    case TAG.utf8String:
      return decode(content, 'utf-8');
    case TAG.numericString:
    case TAG.printableString:
    case TAG.ia5String:
    case TAG.visibleString:
      return content.every((byte) => byte < 0x80) ? content.toString('latin1') : undefined;
    case TAG.teletexString:
      // As in OpenSSL and Go, regardless of the standard.
      return content.toString('latin1');
    case TAG.bmpString:
      return content.length % 2 === 0 ? decode(Buffer.from(content).swap16(), 'utf-16le') : undefined;
    case TAG.universalString:
      return readUniversal(content);
    default:
      return undefined;
  }
}

function decode(content: Buffer, encoding: 'utf-8' | 'utf-16le'): string | undefined {
  try {
    // A byte order mark is a part of the name.
    return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(content);
  } catch {
    return undefined;
  }
}

function readUniversal(content: Buffer): string | undefined {
  if (content.length % 4 !== 0) return undefined;
  let text = '';
  for (let at = 0; at < content.length; at += 4) {
    const point = content.readUInt32BE(at);
    if (point > 0x10_ffff || (point >= 0xd800 && point <= 0xdfff)) return undefined;
    text += String.fromCodePoint(point);
  }
  return text;
}
