import type { Socket } from 'node:net';
import { createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';

import type { ApplicationProtocol } from '../config/model.js';
import { normalServerName } from '../config/server-name.js';
import { guarded } from '../guarded.js';
import {
  certificateNames,
  describeIssuer,
  describeNames,
  describeSubject,
  holdsName,
} from '../x509/certificate-names.js';
import { peerCertificate, type Certificate } from '../x509/certificate.js';
import { isoDate } from '../x509/iso-date.js';
import type { UpstreamParts } from '../tls/material.js';
import { ALPN_H2, contextParameters } from '../tls/parameters.js';
import { startTls } from '../tls/start-tls.js';
import { failedVerification, type Verification } from '../tls/verification.js';
import { UpstreamFailure } from './failure.js';

/** Does TLS towards the upstreams of a listener with one set of trust and client certificate; never changes, a reload makes another. */
export class TlsClient {
  readonly #context: SecureContext;
  readonly #serverName: string | undefined;
  readonly #protocol: ApplicationProtocol;

  /** @throws if the TLS library does not accept the parts */
  constructor({ settings, pair, ca }: UpstreamParts) {
    this.#serverName = settings.serverName;
    this.#protocol = settings.protocol;
    this.#context = createSecureContext({
      ...contextParameters(settings.minVersion, 'client'),
      ca: [...ca],
      // As in Gitaly's own clients, which are written in Go: an intermediate or the server's own certificate may be trusted,
      // too.
      allowPartialTrustChain: true,
      ...(pair && { cert: pair.certificatePem, key: pair.keyPem }),
    });
  }

  /**
   * Does the client's side of a handshake on a socket that is connected to `host`. The certificate must contain that
   * name, or the one in the settings.
   * The promise rejects with an `UpstreamFailure` (with the content of the certificate, if that is the reason) or with the
   * TLS library's error; it does not settle by itself if `raw` is destroyed without an error.
   */
  handshake(raw: Socket, host: string): Promise<TLSSocket> {
    // The root dot of a fully qualified name is for the resolver; certificates and SNI have none.
    const serverName = this.#serverName ?? normalServerName(host);
    return new Promise((resolve, reject) => {
      const socket = startTls(raw, { context: this.#context, serverName, protocols: [this.#protocol] });
      const onError = (error: Error): void => reject(error);
      const onClose = (): void =>
        reject(new UpstreamFailure('reset', 'the upstream closed the connection within the TLS handshake'));
      socket.once('error', onError);
      socket.once('close', onClose);
      const onSecure = (): void => {
        socket.off('error', onError);
        socket.off('close', onClose);
        // An alert or a forged record does not destroy the socket by itself, and may come before another listener is added.
        socket.on('error', (error: Error) => raw.destroy(error));
        const failure = this.#judge(socket, serverName);
        if (failure) reject(failure);
        else resolve(socket);
      };
      socket.once('secureConnect', guarded(reject, onSecure));
    });
  }

  #judge(socket: TLSSocket, serverName: string): UpstreamFailure | undefined {
    // Asked for once: on the client's side Node takes it out of the chain, and a second call has the next one or none.
    const certificate = peerCertificate(socket);
    if (certificate === undefined) return new UpstreamFailure('tls', 'the upstream presented no certificate');
    // Our own checkServerIdentity never objects, so what is left is the chain.
    const failure = failedVerification(socket);
    if (failure) {
      return new UpstreamFailure(
        `certificate_${failure.fault}`,
        `the certificate of ${describeSubject(certificate)} ${explain(failure, certificate)} (${failure.code})`,
      );
    }
    if (!holdsName(certificate, serverName)) {
      return new UpstreamFailure(
        'certificate_name_mismatch',
        `the certificate is not valid for ${serverName}; the names that it has: ${describeNames(certificateNames(certificate))}`,
      );
    }
    if (this.#protocol === ALPN_H2 && socket.alpnProtocol !== ALPN_H2) {
      return new UpstreamFailure(
        'no_alpn',
        'the upstream did not select ALPN h2: something that terminates TLS without ALPN stands there',
      );
    }
    return undefined;
  }
}

/** A predicate about an upstream's certificate. */
function explain({ fault }: Verification, certificate: Certificate): string {
  switch (fault) {
    case 'unknown_authority':
      return `is signed by an unknown authority, its issuer is ${describeIssuer(certificate)}: add that CA to upstream_tls.ca_path`;
    case 'expired':
      return `expired on ${isoDate(certificate.validTo)}`;
    case 'not_yet_valid':
      return `is not valid before ${isoDate(certificate.validFrom)}`;
    case 'name_constraints':
      return 'has a name that an authority above it may not issue for';
    case 'critical_extension':
      return 'or that of an authority above it has a critical extension that OpenSSL does not know';
    case 'weak_signature':
      return 'or that of an authority above it is signed with SHA-1 or MD5: have it issued again';
    case 'weak_key':
      return 'or that of an authority above it has a key that is too weak or not on a named curve';
    case 'invalid_authority':
      return 'has an issuer that may not issue it';
    case 'invalid_purpose':
      return 'is not meant for a server';
    case 'revoked':
    case 'crl':
    case 'name_mismatch':
    case 'other':
      return 'is not accepted';
  }
}
