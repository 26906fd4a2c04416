import { printable } from '../printable.js';
import type { Certificate } from './certificate.js';
import { readAll, readDer, readObjectIdentifier, TAG, type DerElement } from './der.js';

/** The usual attributes of CA names, by OpenSSL's short names; other attributes are shown by their OID. */
const ATTRIBUTES: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '0.9.2342.19200300.100.1.25': 'DC',
  '1.2.840.113549.1.9.1': 'emailAddress',
};

/** The name of a CA. */
export interface IssuerName {
  /** On one line, for messages. */
  readonly text: string;
  /** Equal for names that OpenSSL considers equal: it ignores case, repeated spaces and the type of string. */
  readonly key: string;
}

/**
 * Reads the content of a `Name` (RFC 5280 section 4.1.2.4).
 * @throws Error if it is malformed
 */
export function readIssuerName(content: Buffer): IssuerName {
  const attributes = readAll(content).map((relative) =>
    readAll(relative.content).map(({ content: attribute }) => {
      const id = readDer(attribute, TAG.objectIdentifier);
      const [tag = 0] = id.rest;
      return [readObjectIdentifier(id.content), readText(readDer(id.rest, tag))] as const;
    }),
  );
  const text = attributes
    .flat()
    .map(([type, value]) => `${ATTRIBUTES[type] ?? type}=${value}`)
    .join(', ');
  const normalized = attributes.map((relative) =>
    relative.map(([type, value]) => [type, value.trim().replace(/\s+/gu, ' ').toLowerCase()]),
  );
  return { text: printable(text), key: JSON.stringify(normalized) };
}

/**
 * The name of a CA in its own certificate.
 * @throws Error if it is malformed
 */
export function subjectName({ subjectDer }: Pick<Certificate, 'subjectDer'>): IssuerName {
  return readIssuerName(readDer(subjectDer, TAG.sequence).content);
}

function readText({ tag, content }: DerElement): string {
  switch (tag) {
    case TAG.bmpString:
      return content.length % 2 === 0
        ? Buffer.from(content).swap16().toString('utf16le')
        : content.toString('hex');
    case TAG.teletexString:
      return content.toString('latin1');
    default:
      return content.toString('utf8');
  }
}
