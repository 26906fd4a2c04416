import { verify, type KeyObject } from 'node:crypto';

import { formatDistinguishedName, nameKey, readDistinguishedName } from './distinguished-name.js';
import {
  contextTag,
  readAll,
  readDer,
  readObjectIdentifier,
  readOptional,
  readTime,
  TAG,
  type DerElement,
} from './der.js';
import { readExtensionList, type Extension } from './extensions.js';

/** A certificate revocation list (RFC 5280 section 5). */
export interface RevocationList {
  /** The name of the CA on one line, and a key that is equal for equal names. */
  readonly issuer: { readonly text: string; readonly key: string };
  readonly thisUpdate: Date;
  /** `undefined` if the list does not contain it. */
  readonly nextUpdate: Date | undefined;
  readonly number: bigint | undefined;
  /** Lower-case hexadecimal. */
  readonly authorityKeyId: string | undefined;
  /** The distribution point that it is limited to, as hexadecimal DER; empty for a list of all certificates of its issuer. */
  readonly scope: string;
  /** The reason why OpenSSL would misapply this list or refuse every client, as a predicate of "the CRL". */
  readonly objection: string | undefined;
  /** Whether the key has signed it; `undefined` for an unknown signature algorithm. */
  isSignedBy(key: KeyObject): boolean | undefined;
}

const EXTENSION = {
  crlNumber: '2.5.29.20',
  deltaCrlIndicator: '2.5.29.27',
  issuingDistributionPoint: '2.5.29.28',
  certificateIssuer: '2.5.29.29',
  authorityKeyIdentifier: '2.5.29.35',
} as const;

/** Digests of signature algorithms (RFC 8017, RFC 5758, RFC 8410). */
const DIGESTS: Readonly<Record<string, string | null>> = {
  '1.2.840.113549.1.1.5': 'sha1',
  '1.2.840.113549.1.1.11': 'sha256',
  '1.2.840.113549.1.1.12': 'sha384',
  '1.2.840.113549.1.1.13': 'sha512',
  '1.2.840.10045.4.1': 'sha1',
  '1.2.840.10045.4.3.2': 'sha256',
  '1.2.840.10045.4.3.3': 'sha384',
  '1.2.840.10045.4.3.4': 'sha512',
  '1.3.101.112': null,
  '1.3.101.113': null,
};

/**
 * Reads a `CertificateList`.
 * @throws Error if it is malformed
 */
export function readRevocationList(der: Buffer): RevocationList {
  const list = readDer(der, TAG.sequence);
  const tbs = readDer(list.content, TAG.sequence);
  const version = readOptional(tbs.content, TAG.integer);
  const innerAlgorithm = readDer(version?.rest ?? tbs.content, TAG.sequence);
  const issuer = readDer(innerAlgorithm.rest, TAG.sequence);
  const issuerName = readDistinguishedName(innerAlgorithm.rest);
  const thisUpdate = readDer(issuer.rest, TAG.utcTime, TAG.generalizedTime);
  const nextUpdate = readOptionalTime(thisUpdate.rest);
  const revoked = readOptional(nextUpdate?.rest ?? thisUpdate.rest, TAG.sequence);
  const rest = revoked?.rest ?? nextUpdate?.rest ?? thisUpdate.rest;
  const tagged = readOptional(rest, contextTag(0));
  const extensions = tagged ? readExtensionList(readDer(tagged.content, TAG.sequence).content) : [];
  const value = (id: string): Buffer | undefined => extensions.find((each) => each.id === id)?.value;
  const number = value(EXTENSION.crlNumber);
  const keyId = value(EXTENSION.authorityKeyIdentifier);
  const algorithm = readDer(tbs.rest, TAG.sequence);
  const signature = readDer(algorithm.rest, TAG.bitString).content.subarray(1);
  const digest = DIGESTS[readObjectIdentifier(readDer(algorithm.content, TAG.objectIdentifier).content)];
  const signed = list.content.subarray(0, list.content.length - tbs.rest.length);
  return {
    issuer: { text: formatDistinguishedName(issuerName), key: nameKey(issuerName) },
    thisUpdate: readTime(thisUpdate),
    nextUpdate: nextUpdate && readTime(nextUpdate),
    number: number && readInteger(readDer(number, TAG.integer).content),
    authorityKeyId:
      keyId && readOptional(readDer(keyId, TAG.sequence).content, 0x80)?.content.toString('hex'),
    scope: value(EXTENSION.issuingDistributionPoint)?.toString('hex') ?? '',
    objection: objectionTo(extensions) ?? objectionToEntries(revoked?.content ?? Buffer.alloc(0)),
    isSignedBy: (key) => (digest === undefined ? undefined : isSignedBy(digest, signed, key, signature)),
  };
}

function isSignedBy(digest: string | null, signed: Buffer, key: KeyObject, signature: Buffer): boolean {
  try {
    return verify(digest, signed, key, signature);
  } catch {
    // The key has another type.
    return false;
  }
}

function readOptionalTime(bytes: Buffer): DerElement | undefined {
  return readOptional(bytes, TAG.utcTime) ?? readOptional(bytes, TAG.generalizedTime);
}

function readInteger(content: Buffer): bigint {
  return content.length === 0 ? 0n : BigInt(`0x${content.toString('hex')}`);
}

function isTrue(boolean: DerElement): boolean {
  return boolean.content[0] !== 0;
}

function objectionTo(extensions: readonly Extension[]): string | undefined {
  // OpenSSL before 3.0.20 treats a delta CRL as the complete list, whether its indicator is critical or not.
  if (extensions.some(({ id }) => id === EXTENSION.deltaCrlIndicator))
    return 'is a delta CRL (deltaCRLIndicator), which lists only the changes since another one';
  for (const { id, critical, value } of extensions) {
    const objection =
      id === EXTENSION.issuingDistributionPoint
        ? objectionToScope(value)
        : critical && id !== EXTENSION.authorityKeyIdentifier
          ? `has a critical extension that is not supported (${id})`
          : undefined;
    if (objection !== undefined) return objection;
  }
  return undefined;
}

/** The possible limits of an issuing distribution point (RFC 5280 section 5.2.5), by tag. */
const LIMITS: Readonly<Record<number, string>> = {
  0x81: 'covers only certificates of servers and clients (onlyContainsUserCerts), not those of CAs',
  0x82: 'covers only certificates of CAs (onlyContainsCACerts)',
  0x83: 'covers only some reasons for a revocation (onlySomeReasons)',
  0x84: 'is an indirect CRL (indirectCRL), which lists certificates of other issuers',
  0x85: 'covers only attribute certificates (onlyContainsAttributeCerts)',
};

/** A list for one distribution point is accepted: OpenSSL uses it for certificates that name this point and refuses all others. */
function objectionToScope(value: Buffer): string | undefined {
  for (const element of readAll(readDer(value, TAG.sequence).content)) {
    if (element.tag === contextTag(0) || (element.tag !== 0x83 && !isTrue(element))) continue;
    const limit = LIMITS[element.tag] ?? 'has an issuing distribution point of an unknown form';
    return `${limit} (issuingDistributionPoint)`;
  }
  return undefined;
}

function objectionToEntries(content: Buffer): string | undefined {
  for (let rest = content; rest.length > 0;) {
    const entry = readDer(rest, TAG.sequence);
    ({ rest } = entry);
    const serialNumber = readDer(entry.content, TAG.integer);
    const date = readDer(serialNumber.rest, TAG.utcTime, TAG.generalizedTime);
    const extensions = readOptional(date.rest, TAG.sequence);
    for (const { id, critical } of extensions ? readExtensionList(extensions.content) : []) {
      if (id === EXTENSION.certificateIssuer)
        return 'is an indirect CRL: an entry has another issuer (certificateIssuer)';
      if (critical)
        return `has an entry (serial number ${serialNumber.content.toString('hex')}) with a critical extension that is not supported (${id})`;
    }
  }
  return undefined;
}
