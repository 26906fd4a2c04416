import { createHash } from 'node:crypto';
import type { TLSSocket } from 'node:tls';

import { MAX_REMEMBERED_ISSUERS } from '../limits.js';
import type { ObservedAuthority } from '../policy/observed-traffic.js';
import { describeIssuer, describeSubject } from '../x509/certificate-names.js';
import { Certificate } from '../x509/certificate.js';

/** Finds the CAs that may verify a client: those that it sent, and the configured one that issued the last of them. */
export class ClientAuthorities {
  readonly #configured: readonly Certificate[];
  readonly #bySocket = new WeakMap<TLSSocket, readonly ObservedAuthority[]>();
  /** By the issuer of a client's certificate: in a resumed session, the client sends no certificates. */
  readonly #byIssuer = new Map<string, readonly ObservedAuthority[]>();

  /** @param configured - the CAs of `client_ca_path`, as PEM */
  constructor(configured: readonly string[]) {
    this.#configured = configured.map((pem) => new Certificate(pem));
  }

  /** A client has sent a chain in a full handshake, its own certificate first. */
  note(socket: TLSSocket, chain: readonly Certificate[]): void {
    const [own] = chain;
    const last = chain.at(-1);
    if (!own || !last) return;
    const found = [...chain.slice(1), ...this.#issuersOf(last)].map(describeAuthority);
    const authorities = found.length > 0 ? found : [unknownIssuer(own)];
    this.#bySocket.set(socket, authorities);
    const issuer = own.issuerDer.toString('latin1');
    const [oldest] = this.#byIssuer.keys();
    if (oldest !== undefined && !this.#byIssuer.has(issuer) && this.#byIssuer.size >= MAX_REMEMBERED_ISSUERS)
      this.#byIssuer.delete(oldest);
    this.#byIssuer.set(issuer, authorities);
  }

  /** @param own - the certificate of the client */
  of(socket: TLSSocket, own: Certificate): readonly ObservedAuthority[] {
    const known = this.#bySocket.get(socket) ?? this.#byIssuer.get(own.issuerDer.toString('latin1'));
    if (known) return known;
    // The session began in another process.
    const issuers = this.#issuersOf(own).map(describeAuthority);
    return issuers.length > 0 ? issuers : [unknownIssuer(own)];
  }

  /** A CA may have several certificates with one name. */
  #issuersOf(certificate: Certificate): Certificate[] {
    const named = this.#configured.filter(({ subjectDer }) => subjectDer.equals(certificate.issuerDer));
    return named.length <= 1 ? named : named.filter((one) => certificate.isSignedWith(one.publicKey));
  }
}

/** Describes a CA by its subject and the hash of its public key, which a renewed certificate keeps. */
export function describeAuthority(certificate: Certificate): ObservedAuthority {
  const key = createHash('sha256').update(certificate.publicKeyDer).digest('hex');
  return { name: describeSubject(certificate), key_sha256: key };
}

function unknownIssuer(own: Certificate): ObservedAuthority {
  return { name: describeIssuer(own), key_sha256: null };
}
