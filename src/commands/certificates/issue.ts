import 'reflect-metadata';

import { webcrypto } from 'node:crypto';

import * as x509 from '@peculiar/x509';

import { CERTIFICATE_BACKDATE_MS } from '../../limits.js';
import { exportKey, generateKeys, type KeyType } from './keys.js';
import { MAX_COMMON_NAME_LENGTH, type SubjectName } from './subject-name.js';

x509.cryptoProvider.set(webcrypto);

/** An authority that issues certificates. */
export interface Issuer {
  readonly certificate: x509.X509Certificate;
  readonly signingKey: webcrypto.CryptoKey;
  /** PEM texts of the intermediates to send after an issued certificate; empty for a root. */
  readonly chain: readonly string[];
}

/** A certificate and its key, in PEM. */
export interface IssuedPair {
  /** The leaf, then the intermediates. */
  readonly certificatePem: string;
  readonly keyPem: string;
}

/**
 * The use of a certificate. A server certificate can also be presented by a client: Gitaly presents its own to GitLab's
 * internal API.
 */
export type LeafRole = 'server' | 'client';

const USAGES = {
  server: [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth],
  client: [x509.ExtendedKeyUsage.clientAuth],
};

/** Creates an authority that can issue leaf certificates, but no further authorities. */
export async function createAuthority(
  name: string,
  keyType: KeyType,
  notAfter: Date,
): Promise<{ readonly issuer: Issuer; readonly pair: IssuedPair }> {
  const keys = await generateKeys(keyType);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [name] }],
    notBefore: new Date(Date.now() - CERTIFICATE_BACKDATE_MS),
    notAfter,
    signingAlgorithm: signingAlgorithm(keys.privateKey),
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return {
    issuer: { certificate, signingKey: keys.privateKey, chain: [] },
    pair: { certificatePem: pemOf(certificate), keyPem: await exportKey(keys) },
  };
}

/** Builds the issuer of an existing authority; see {@link Issuer}. */
export function existingIssuer(
  certificatePem: string,
  signingKey: webcrypto.CryptoKey,
  chain: readonly string[],
): Issuer {
  return { certificate: new x509.X509Certificate(certificatePem), signingKey, chain };
}

/** A certificate to issue. The first name is also the Common Name, for people to read. */
export interface LeafRequest {
  readonly role: LeafRole;
  readonly names: readonly [SubjectName, ...SubjectName[]];
  readonly keyType: KeyType;
  readonly notAfter: Date;
}

/** Issues a certificate with a new key. */
export async function issueLeaf(issuer: Issuer, request: LeafRequest): Promise<IssuedPair> {
  const { role, names, keyType, notAfter } = request;
  const keys = await generateKeys(keyType);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [names[0].value.slice(0, MAX_COMMON_NAME_LENGTH)] }],
    issuer: issuer.certificate.subjectName.toJSON(),
    notBefore: new Date(Date.now() - CERTIFICATE_BACKDATE_MS),
    notAfter,
    signingAlgorithm: signingAlgorithm(issuer.signingKey),
    publicKey: keys.publicKey,
    signingKey: issuer.signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(USAGES[role]),
      new x509.SubjectAlternativeNameExtension(
        names.map(({ kind, value }) => new x509.GeneralName(kind, value)),
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.certificate.publicKey),
    ],
  });
  return {
    certificatePem: [pemOf(certificate), ...issuer.chain].join(''),
    keyPem: await exportKey(keys),
  };
}

function pemOf(certificate: x509.X509Certificate): string {
  return `${certificate.toString('pem')}\n`;
}

function signingAlgorithm({ algorithm }: webcrypto.CryptoKey): { name: string; hash: string } {
  return { ...algorithm, hash: 'SHA-256' };
}

/** RFC 5280 section 4.1.2.2: positive, at most 20 octets. More than 128 of its bits are random. */
function serialNumber(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(20));
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return Buffer.from(bytes).toString('hex');
}
