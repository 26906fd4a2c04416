import type { Certificate } from './certificate.js';
import { readDer, readObjectIdentifier, readOptional, TAG } from './der.js';
import { readNameConstraints, type NameConstraints } from './name-constraints.js';

/** The key usages by their names in RFC 5280 section 4.2.1.3, in the order of their bits. */
const KEY_USAGES = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const;

export type KeyUsage = (typeof KEY_USAGES)[number];

/** RFC 5280 section 4.2.1.12. Usages without a name in this list are shown by their OID. */
const EXTENDED_KEY_USAGES: Readonly<Record<string, string>> = {
  '1.3.6.1.5.5.7.3.1': 'serverAuth',
  '1.3.6.1.5.5.7.3.2': 'clientAuth',
  '1.3.6.1.5.5.7.3.3': 'codeSigning',
  '1.3.6.1.5.5.7.3.4': 'emailProtection',
  '1.3.6.1.5.5.7.3.8': 'timeStamping',
  '1.3.6.1.5.5.7.3.9': 'OCSPSigning',
  '2.5.29.37.0': 'anyExtendedKeyUsage',
};

/** RFC 8017 appendix C, RFC 5758, RFC 8410. Algorithms without a name in this list are shown by their OID. */
const SIGNATURE_ALGORITHMS: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.2': 'md2WithRSAEncryption',
  '1.2.840.113549.1.1.4': 'md5WithRSAEncryption',
  '1.2.840.113549.1.1.5': 'sha1WithRSAEncryption',
  '1.2.840.113549.1.1.10': 'rsassaPss',
  '1.2.840.113549.1.1.11': 'sha256WithRSAEncryption',
  '1.2.840.113549.1.1.12': 'sha384WithRSAEncryption',
  '1.2.840.113549.1.1.13': 'sha512WithRSAEncryption',
  '1.2.840.113549.1.1.14': 'sha224WithRSAEncryption',
  '1.2.840.10040.4.3': 'dsa-with-sha1',
  '1.2.840.10045.4.1': 'ecdsa-with-SHA1',
  '1.2.840.10045.4.3.1': 'ecdsa-with-SHA224',
  '1.2.840.10045.4.3.2': 'ecdsa-with-SHA256',
  '1.2.840.10045.4.3.3': 'ecdsa-with-SHA384',
  '1.2.840.10045.4.3.4': 'ecdsa-with-SHA512',
  '1.3.101.112': 'Ed25519',
  '1.3.101.113': 'Ed448',
};

const EXTENSION = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
} as const;

/** The fields of a certificate except its names and dates. */
export interface CertificateFacts {
  /** Its name in this file, or its OID. */
  readonly signatureAlgorithm: string;
  /** `undefined`: the certificate does not limit the use of its key. */
  readonly keyUsage: readonly KeyUsage[] | undefined;
  /** `undefined`: the certificate does not limit its purpose. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly authority: boolean;
  /** The number of intermediates allowed below an authority; `undefined`: any number. */
  readonly pathLength: number | undefined;
  /** Lower-case hexadecimal. */
  readonly subjectKeyId: string | undefined;
  readonly authorityKeyId: string | undefined;
  readonly nameConstraints: NameConstraints | undefined;
  /** Object identifiers of the critical extensions: a verifier that does not know one of them must refuse the certificate. */
  readonly criticalExtensions: readonly string[];
  /** Whether its key has explicit curve parameters instead of a named curve. */
  readonly explicitCurve: boolean;
}

/**
 * Reads a certificate's DER (RFC 5280 section 4.1).
 * @throws Error if a part that is read here is malformed, although OpenSSL has parsed the certificate
 */
export function certificateFacts(certificate: Certificate): CertificateFacts {
  const { extensions } = certificate;
  const value = (id: string): Buffer | undefined => extensions.find((each) => each.id === id)?.value;
  const basic = value(EXTENSION.basicConstraints);
  const usage = value(EXTENSION.keyUsage);
  const extended = value(EXTENSION.extendedKeyUsage);
  const own = value(EXTENSION.subjectKeyIdentifier);
  const issuer = value(EXTENSION.authorityKeyIdentifier);
  const constraints = value(EXTENSION.nameConstraints);
  return {
    signatureAlgorithm: nameOf(SIGNATURE_ALGORITHMS, readSignatureAlgorithm(certificate.raw)),
    keyUsage: usage && readKeyUsage(usage),
    extendedKeyUsage: extended && readUsages(extended),
    ...(basic ? readBasicConstraints(basic) : { authority: false, pathLength: undefined }),
    subjectKeyId: own && readDer(own, TAG.octetString).content.toString('hex'),
    authorityKeyId: issuer && readAuthorityKeyId(issuer),
    nameConstraints: constraints && readNameConstraints(constraints),
    criticalExtensions: extensions.filter(({ critical }) => critical).map(({ id }) => id),
    explicitCurve: hasExplicitCurve(certificate.publicKeyDer),
  };
}

function readSignatureAlgorithm(raw: Buffer): string {
  const tbs = readDer(readDer(raw, TAG.sequence).content, TAG.sequence);
  const algorithm = readDer(tbs.rest, TAG.sequence).content;
  return readObjectIdentifier(readDer(algorithm, TAG.objectIdentifier).content);
}

const EC_PUBLIC_KEY = '1.2.840.10045.2.1';

/** RFC 5480 section 2.1.1: the parameters of an EC key are the name of its curve. X9.62 also allows explicit parameters. */
function hasExplicitCurve(publicKey: Buffer): boolean {
  const algorithm = readDer(readDer(publicKey, TAG.sequence).content, TAG.sequence).content;
  const id = readDer(algorithm, TAG.objectIdentifier);
  return readObjectIdentifier(id.content) === EC_PUBLIC_KEY && id.rest[0] === TAG.sequence;
}

/** A bit string: the first byte is the number of unused bits in the last one. */
function readKeyUsage(value: Buffer): KeyUsage[] {
  const bits = readDer(value, TAG.bitString).content.subarray(1);
  return KEY_USAGES.filter((_usage, bit) => ((bits[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0);
}

function readUsages(value: Buffer): string[] {
  const usages: string[] = [];
  let list = readDer(value, TAG.sequence).content;
  while (list.length > 0) {
    const usage = readDer(list, TAG.objectIdentifier);
    usages.push(nameOf(EXTENDED_KEY_USAGES, readObjectIdentifier(usage.content)));
    list = usage.rest;
  }
  return usages;
}

function readBasicConstraints(value: Buffer): Pick<CertificateFacts, 'authority' | 'pathLength'> {
  const { content } = readDer(value, TAG.sequence);
  const authority = readOptional(content, TAG.boolean);
  const length = readOptional(authority?.rest ?? content, TAG.integer);
  return {
    authority: authority !== undefined && authority.content[0] !== 0,
    pathLength:
      length && length.content.length <= 4 ? length.content.readUIntBE(0, length.content.length) : undefined,
  };
}

/** Reads the key identifier, `[0]` primitive, which is the only part that is used. */
function readAuthorityKeyId(value: Buffer): string | undefined {
  return readOptional(readDer(value, TAG.sequence).content, 0x80)?.content.toString('hex');
}

function nameOf(names: Readonly<Record<string, string>>, identifier: string): string {
  return Object.hasOwn(names, identifier) ? (names[identifier] ?? identifier) : identifier;
}
