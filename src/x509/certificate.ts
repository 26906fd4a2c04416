import { X509Certificate, type KeyObject } from 'node:crypto';
import type { TLSSocket } from 'node:tls';

import { MAX_CLIENT_CERTIFICATES } from '../limits.js';
import { readDer, readOptional, readTime, contextTag, TAG } from './der.js';
import {
  commonNameOf,
  formatDistinguishedName,
  isPrintableName,
  readDistinguishedName,
  type DistinguishedName,
} from './distinguished-name.js';
import { readExtensions, type Extension } from './extensions.js';
import { readGeneralNames, type GeneralName } from './general-names.js';

const SUBJECT_ALTERNATIVE_NAME = '2.5.29.17';

/** The parts of a `TBSCertificate` that the program reads, each as DER. */
interface Parts {
  /** Without tag and length. */
  readonly serialNumber: Buffer;
  readonly issuer: Buffer;
  readonly validity: Buffer;
  readonly subject: Buffer;
  readonly publicKey: Buffer;
  /** The bytes after the public key. */
  readonly rest: Buffer;
}

/**
 * A certificate. The program reads certificates only through this class, and no other file imports Node's `X509Certificate`.
 *
 * Node's text forms are not usable as data: `subject` and `issuer` are `undefined` if a name is empty, names are joined by
 * characters that a name may contain, and a value that OpenSSL cannot print is missing. So names, dates and extensions are read
 * from the DER. Node does what needs OpenSSL: keys, signatures, host names. Getters do not throw unless documented.
 */
export class Certificate {
  readonly #x509: X509Certificate;
  readonly raw: Buffer;
  #parts: Parts | Error | undefined;
  #subject: DistinguishedName | undefined;
  #issuer: DistinguishedName | undefined;
  #alternativeNames: readonly GeneralName[] | undefined;

  /** @throws Error if it cannot be parsed */
  constructor(certificate: X509Certificate | Buffer | string) {
    this.#x509 = certificate instanceof X509Certificate ? certificate : new X509Certificate(certificate);
    this.raw = this.#x509.raw;
  }

  /** SHA-256 in upper-case hexadecimal with colons, as OpenSSL prints it. */
  get fingerprint256(): string {
    return this.#x509.fingerprint256;
  }

  /** Lower-case hexadecimal. */
  get serialNumber(): string {
    // The first byte is 0 if the number would otherwise be negative.
    return (this.#readable?.serialNumber ?? NOTHING).toString('hex').replace(/^00(?=.)/u, '');
  }

  /** Whether basic constraints contain CA:TRUE. */
  get ca(): boolean {
    return this.#x509.ca;
  }

  /** The subject on one printable line, escaped; empty for a certificate without one. */
  get subject(): string {
    return formatDistinguishedName(this.subjectName);
  }

  /** The attributes of the subject; empty for a certificate without a subject. */
  get subjectName(): DistinguishedName {
    this.#subject ??= this.#name('subject');
    return this.#subject;
  }

  /** The issuer on one printable line, escaped; empty if it has no name. */
  get issuer(): string {
    this.#issuer ??= this.#name('issuer');
    return formatDistinguishedName(this.#issuer);
  }

  /** The only Common Name of the subject, unescaped; `undefined` if the subject has none or more than one. */
  get commonName(): string | undefined {
    return commonNameOf(this.subjectName);
  }

  /** Whether the subject consists of printable text. */
  get hasPrintableSubject(): boolean {
    return isPrintableName(this.subjectName);
  }

  /** The subject's DER; empty if the certificate cannot be read. */
  get subjectDer(): Buffer {
    return this.#readable?.subject ?? NOTHING;
  }

  /** The issuer's DER; empty if the certificate cannot be read. */
  get issuerDer(): Buffer {
    return this.#readable?.issuer ?? NOTHING;
  }

  /** The DER of the public key (`SubjectPublicKeyInfo`); empty if the certificate cannot be read. */
  get publicKeyDer(): Buffer {
    return this.#readable?.publicKey ?? NOTHING;
  }

  /** In the order of the certificate, of all kinds. */
  get alternativeNames(): readonly GeneralName[] {
    this.#alternativeNames ??= this.#readAlternativeNames();
    return this.#alternativeNames;
  }

  /** An invalid date if OpenSSL cannot read it. */
  get validFrom(): Date {
    return this.#date(0, this.#x509.validFrom);
  }

  /** An invalid date if OpenSSL cannot read it. */
  get validTo(): Date {
    return this.#date(1, this.#x509.validTo);
  }

  /** @throws Error if a part of the certificate is broken */
  get extensions(): readonly Extension[] {
    return readExtensions(this.#readParts().rest);
  }

  /** @throws Error if OpenSSL does not support the type of the key */
  get publicKey(): KeyObject {
    return this.#x509.publicKey;
  }

  /** Whether the key has signed this certificate; false for a key of another type. */
  isSignedWith(key: KeyObject): boolean {
    try {
      return this.#x509.verify(key);
    } catch {
      return false;
    }
  }

  /** Whether the private key belongs to this certificate. */
  belongsTo(privateKey: KeyObject): boolean {
    try {
      return this.#x509.checkPrivateKey(privateKey);
    } catch {
      return false;
    }
  }

  /**
   * Whether a Subject Alternative Name matches the host name or IP address. The Common Name is ignored, as by Gitaly's clients.
   */
  matchesHost(name: string): boolean {
    try {
      return this.#x509.checkHost(name, { subject: 'never', partialWildcards: false }) !== undefined;
    } catch {
      // OpenSSL throws for strings that cannot be a host name.
      return false;
    }
  }

  /** Whether a Subject Alternative Name is this IP address. */
  matchesIp(address: string): boolean {
    try {
      return this.#x509.checkIP(address) !== undefined;
    } catch {
      // OpenSSL throws for an address with a zone.
      return false;
    }
  }

  #name(part: 'subject' | 'issuer'): DistinguishedName {
    const der = this.#readable?.[part];
    if (der === undefined) return [];
    try {
      return readDistinguishedName(der);
    } catch {
      // The bytes, as a value that is not text: the name must not appear to be empty.
      return [[{ type: 'unreadable', value: undefined, der: readDer(der, TAG.sequence) }]];
    }
  }

  #readAlternativeNames(): readonly GeneralName[] {
    try {
      const [extension, another] = this.extensions.filter(({ id }) => id === SUBJECT_ALTERNATIVE_NAME);
      if (extension === undefined) return [];
      if (another !== undefined) return [UNREADABLE_NAME];
      return readGeneralNames(readDer(extension.value, TAG.sequence).content);
    } catch {
      return [UNREADABLE_NAME];
    }
  }

  #date(index: 0 | 1, text: string | undefined): Date {
    const validity = this.#readable?.validity;
    try {
      if (validity) {
        const from = readDer(validity, TAG.utcTime, TAG.generalizedTime);
        return readTime(index === 0 ? from : readDer(from.rest, TAG.utcTime, TAG.generalizedTime));
      }
    } catch {
      // RFC 5280 does not define this time, but OpenSSL may accept it.
    }
    return new Date(text ?? Number.NaN);
  }

  get #readable(): Parts | undefined {
    try {
      return this.#readParts();
    } catch {
      return undefined;
    }
  }

  /** RFC 5280 section 4.1. */
  #readParts(): Parts {
    if (this.#parts instanceof Error) throw this.#parts;
    try {
      this.#parts ??= readParts(this.raw);
      return this.#parts;
    } catch (error) {
      this.#parts = error instanceof Error ? error : new Error(String(error));
      throw this.#parts;
    }
  }
}

const NOTHING = Buffer.alloc(0);

/** A placeholder for unreadable names, so that the list does not appear to be empty. */
const UNREADABLE_NAME: GeneralName = { kind: 'malformed', of: 'uri', value: 'unreadable' };

function readParts(raw: Buffer): Parts {
  const certificate = readDer(raw, TAG.sequence).content;
  const tbs = readDer(certificate, TAG.sequence).content;
  const version = readOptional(tbs, contextTag(0));
  const serialNumber = readDer(version?.rest ?? tbs, TAG.integer);
  const signature = readDer(serialNumber.rest, TAG.sequence);
  const issuer = readDer(signature.rest, TAG.sequence);
  const validity = readDer(issuer.rest, TAG.sequence);
  const subject = readDer(validity.rest, TAG.sequence);
  const publicKey = readDer(subject.rest, TAG.sequence);
  return {
    serialNumber: serialNumber.content,
    issuer: before(signature.rest, issuer.rest),
    validity: validity.content,
    subject: before(validity.rest, subject.rest),
    publicKey: before(subject.rest, publicKey.rest),
    rest: publicKey.rest,
  };
}

/** An element with its tag and length: the prefix of its rest. */
function before(bytes: Buffer, rest: Buffer): Buffer {
  return bytes.subarray(0, bytes.length - rest.length);
}

/**
 * The certificate that the peer of a TLS connection presented; `undefined` if it presented none, which Node's types do not
 * allow for. On the client's side it can be read once only, because Node removes it from the chain.
 */
export function peerCertificate(socket: TLSSocket): Certificate | undefined {
  const certificate: X509Certificate | undefined = socket.getPeerX509Certificate();
  return certificate && new Certificate(certificate);
}

/**
 * The certificates that a client presented in a full handshake, in the order in which it sent them, its own first; at most one
 * more than the limit. They can be read once only, because Node removes the issuers from the session.
 */
export function presentedChain(socket: TLSSocket): readonly Certificate[] {
  const chain: Certificate[] = [];
  let next: X509Certificate | undefined = socket.getPeerX509Certificate();
  for (; next && chain.length <= MAX_CLIENT_CERTIFICATES; next = next.issuerCertificate)
    chain.push(new Certificate(next));
  return chain;
}
