import 'reflect-metadata';

import { webcrypto } from 'node:crypto';

import * as x509 from '@peculiar/x509';

import { Certificate } from '../../../src/x509/certificate.js';

x509.cryptoProvider.set(webcrypto);

/** Algorithms of keys, each with what a certificate is signed with by default. */
export const KEYS = {
  p256: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  p521: { name: 'ECDSA', namedCurve: 'P-521', hash: 'SHA-256' },
  ed25519: { name: 'Ed25519' },
  rsa2048: rsa(2048),
  rsa1024: rsa(1024),
} as const;

function rsa(modulusLength: number) {
  return {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    modulusLength,
    publicExponent: new Uint8Array([1, 0, 1]),
  };
}

/** The content of a certificate; without an issuer it is self-signed. A missing property has no extension. */
export interface Issue {
  readonly subject: string;
  readonly by?: HandIssued;
  readonly key?: keyof typeof KEYS;
  /** Instead of keys of its own: of an authority that is renewed, or signed by another one too. */
  readonly keysOf?: HandIssued;
  /** The hash of the signature. */
  readonly hash?: string;
  readonly ca?: boolean;
  readonly pathLength?: number;
  readonly keyUsage?: x509.KeyUsagesExtension;
  readonly usages?: readonly ('serverAuth' | 'clientAuth' | 'codeSigning')[];
  readonly dns?: readonly string[];
  readonly ip?: readonly string[];
  readonly from?: Date;
  readonly to?: Date;
  /** Whether it has identifiers of its own and its issuer's key. */
  readonly ids?: boolean;
  /** Others, as they are. */
  readonly extensions?: readonly x509.Extension[];
}

export interface HandIssued {
  readonly certificate: Certificate;
  readonly pem: string;
  readonly keys: webcrypto.CryptoKeyPair;
  readonly subject: string;
}

/** The time at which the tests of judgement take place; certificates hold for 90 days from then, unless asked. */
export const NOW = new Date('2026-06-01T00:00:00Z');
export const days = (count: number): Date => new Date(NOW.getTime() + count * 86_400_000);

/** Issues a certificate with exactly this content, valid or not. */
export async function issue(asked: Issue): Promise<HandIssued> {
  const algorithm = KEYS[asked.key ?? 'p256'];
  const keys = asked.keysOf?.keys ?? (await generate(algorithm));
  const signer = asked.by?.keys ?? keys;
  const extensions: x509.Extension[] = [...(asked.extensions ?? [])];
  if (asked.ca !== undefined)
    extensions.push(new x509.BasicConstraintsExtension(asked.ca, asked.pathLength, true));
  if (asked.keyUsage !== undefined) extensions.push(asked.keyUsage);
  if (asked.usages)
    extensions.push(
      new x509.ExtendedKeyUsageExtension(asked.usages.map((usage) => x509.ExtendedKeyUsage[usage])),
    );
  const names = [
    ...(asked.dns ?? []).map((name) => new x509.GeneralName('dns', name)),
    ...(asked.ip ?? []).map((name) => new x509.GeneralName('ip', name)),
  ];
  if (names.length > 0) extensions.push(new x509.SubjectAlternativeNameExtension(names));
  if (asked.ids === true) {
    extensions.push(await x509.SubjectKeyIdentifierExtension.create(keys.publicKey));
    extensions.push(await x509.AuthorityKeyIdentifierExtension.create(signer.publicKey));
  }
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: Buffer.from(webcrypto.getRandomValues(new Uint8Array(8))).toString('hex'),
    subject: asked.subject,
    issuer: asked.by?.subject ?? asked.subject,
    notBefore: asked.from ?? days(-1),
    notAfter: asked.to ?? days(90),
    signingAlgorithm: { ...signer.privateKey.algorithm, hash: asked.hash ?? 'SHA-256' },
    publicKey: keys.publicKey,
    signingKey: signer.privateKey,
    extensions,
  });
  const pem = `${certificate.toString('pem')}\n`;
  return { certificate: new Certificate(pem), pem, keys, subject: asked.subject };
}

async function generate(algorithm: (typeof KEYS)[keyof typeof KEYS]): Promise<webcrypto.CryptoKeyPair> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  if (!('privateKey' in keys)) throw new Error('not a pair of keys');
  return keys;
}

const { keyCertSign, cRLSign, digitalSignature, keyEncipherment } = x509.KeyUsageFlags;

export const SIGN_CERTIFICATES = new x509.KeyUsagesExtension(keyCertSign | cRLSign, true);
export const SIGN = new x509.KeyUsagesExtension(digitalSignature, true);
export const SIGN_BOTH = new x509.KeyUsagesExtension(digitalSignature | keyCertSign, true);
export const ENCIPHER = new x509.KeyUsagesExtension(keyEncipherment, true);

/** A root as it should be. */
export function issueRoot(more: Partial<Issue> = {}): Promise<HandIssued> {
  return issue({ subject: 'CN=root', ca: true, keyUsage: SIGN_CERTIFICATES, ids: true, ...more });
}

/** A server's certificate as Gitaly needs it. */
export function issueLeaf(by: HandIssued, more: Partial<Issue> = {}): Promise<HandIssued> {
  return issue({
    subject: 'CN=gitaly-a.internal',
    by,
    ca: false,
    keyUsage: SIGN,
    usages: ['serverAuth', 'clientAuth'],
    dns: ['gitaly-a.internal'],
    ids: true,
    ...more,
  });
}

/** Name constraints, critical; each is a DNS name or an IPv4 network such as `10.0.0.0/8`. */
export function nameConstraints(
  permitted: readonly string[],
  excluded: readonly string[] = [],
): x509.Extension {
  const subtrees = (tag: number, names: readonly string[]): Buffer =>
    names.length === 0 ? Buffer.alloc(0) : der(tag, ...names.map((name) => der(0x30, constraint(name))));
  return new x509.Extension(
    '2.5.29.30',
    true,
    der(0x30, subtrees(0xa0, permitted), subtrees(0xa1, excluded)),
  );
}

function constraint(name: string): Buffer {
  const [, address, bits] = /^([\d.]+)\/(\d+)$/u.exec(name) ?? [];
  if (address === undefined) return der(0x82, Buffer.from(name, 'latin1'));
  const mask = Buffer.alloc(4);
  mask.writeUInt32BE((0xffff_ffff << (32 - Number(bits))) >>> 0);
  return der(0x87, Buffer.from(address.split('.').map(Number)), mask);
}

/** One value of up to 127 bytes. */
function der(tag: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  return Buffer.concat([Buffer.from([tag, content.length]), content]);
}
