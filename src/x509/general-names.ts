import { printable } from '../printable.js';
import { readAll, type DerElement } from './der.js';
import {
  formatDistinguishedName,
  readDistinguishedName,
  type DistinguishedName,
} from './distinguished-name.js';

/** A name in an extension (RFC 5280 section 4.2.1.6). */
export type GeneralName =
  /** `value` is ASCII; otherwise the name would be `malformed`. */
  | { readonly kind: 'dns' | 'uri' | 'email'; readonly value: string }
  /** 4 or 16 bytes of an address; in name constraints twice as many, followed by the mask. */
  | { readonly kind: 'ip'; readonly value: Buffer }
  | { readonly kind: 'directory'; readonly value: DistinguishedName }
  /** A kind that is not used here, such as `otherName`. */
  | { readonly kind: 'other'; readonly value: Buffer }
  /** A DNS name, URI or mail address with bytes that are not ASCII; as text, one character per byte. */
  | { readonly kind: 'malformed'; readonly of: 'dns' | 'uri' | 'email'; readonly value: string };

/** Context tags of the kinds that are text. */
const TEXT_KINDS: Readonly<Record<number, 'dns' | 'uri' | 'email'>> = {
  0x81: 'email',
  0x82: 'dns',
  0x86: 'uri',
};

/**
 * The names in the content of a `GeneralNames`, in its order.
 * @throws Error if it is malformed
 */
export function readGeneralNames(content: Buffer): GeneralName[] {
  return readAll(content).map(readGeneralName);
}

/** @throws Error if it is malformed */
export function readGeneralName({ tag, content }: DerElement): GeneralName {
  const kind = TEXT_KINDS[tag];
  if (kind !== undefined) {
    const value = content.toString('latin1');
    return content.every((byte) => byte < 0x80) ? { kind, value } : { kind: 'malformed', of: kind, value };
  }
  if (tag === 0x87) return { kind: 'ip', value: content };
  // `Name` is a choice, so its tag is explicit.
  if (tag === 0xa4) return { kind: 'directory', value: readDistinguishedName(content) };
  return { kind: 'other', value: content };
}

/** A name for a message, on one printable line. */
export function describeGeneralName(name: GeneralName): string {
  switch (name.kind) {
    case 'dns':
    case 'uri':
    case 'email':
    case 'malformed':
      return printable(name.value);
    case 'ip':
      return formatIpAddress(name.value) ?? 'an invalid IP address';
    case 'directory':
      return formatDistinguishedName(name.value);
    case 'other':
      return 'a name of another kind';
  }
}

/** Formats an address, such as `10.0.0.1` or `2001:db8::1`; `undefined` unless it has 4 or 16 bytes. */
export function formatIpAddress(bytes: Buffer): string | undefined {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) return undefined;
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(2 * index).toString(16)).join(
    ':',
  );
  // The URL parser formats an address as in RFC 5952.
  return new URL(`http://[${groups}]`).hostname.slice(1, -1);
}
