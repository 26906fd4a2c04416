import { isIP, type Socket } from 'node:net';
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';

import type { ApplicationProtocol } from '../config/model.js';
import { normalServerName } from '../config/server-name.js';
import { certificateNames, describeNames, holdsName } from '../tls/certificate-names.js';
import { isoDate } from '../tls/iso-date.js';
import type { UpstreamParts } from '../tls/material.js';
import { ALPN_H2, contextParameters } from '../tls/parameters.js';
import { oneLineName } from '../tls/pem-files.js';
import { certificateFault, verificationCode } from '../tls/verification.js';
import { UpstreamFailure } from './failure.js';

/** Does TLS towards the upstreams of a listener with one set of trust and client certificate; never changes, a reload makes another. */
export class TlsClient {
  readonly #context: SecureContext;
  readonly #serverName: string | undefined;
  readonly #protocol: ApplicationProtocol;

  /** @throws if the TLS library does not take the parts */
  constructor({ settings, pair, ca }: UpstreamParts) {
    this.#serverName = settings.serverName;
    this.#protocol = settings.protocol;
    this.#context = createSecureContext({
      ...contextParameters(settings.minVersion, 'client'),
      ca: [...ca],
      // As Gitaly's clients, which are written in Go: an intermediate or the server's own certificate may be trusted, too.
      allowPartialTrustChain: true,
      ...(pair && { cert: pair.certificatePem, key: pair.keyPem }),
    });
  }

  /**
   * Does the client's side of a handshake on a socket that is connected to `host`, whose name the certificate must hold
   * unless the settings say another.
   * The promise rejects with an `UpstreamFailure` (what the certificate says, where that is the reason) or with the
   * TLS library's error; it does not settle by itself if `raw` is destroyed without an error.
   */
  handshake(raw: Socket, host: string): Promise<TLSSocket> {
    // The root dot of a fully qualified name is for the resolver; certificates and SNI have none.
    const serverName = this.#serverName ?? normalServerName(host);
    return new Promise((resolve, reject) => {
      const socket = connect({
        socket: raw,
        secureContext: this.#context,
        ALPNProtocols: [this.#protocol],
        // Judged below, before the first byte is written: with Node's own judgement no certificate is left to name.
        rejectUnauthorized: false,
        checkServerIdentity: () => undefined,
        ...(isIP(serverName) === 0 && { servername: serverName }),
      });
      const onError = (error: Error): void => reject(error);
      const onClose = (): void =>
        reject(new UpstreamFailure('reset', 'the upstream closed the connection within the TLS handshake'));
      socket.once('error', onError);
      socket.once('close', onClose);
      socket.once('secureConnect', () => {
        socket.off('error', onError);
        socket.off('close', onClose);
        // An alert or a forged record does not destroy the socket by itself, and may come before anybody else listens.
        socket.on('error', (error: Error) => raw.destroy(error));
        const failure = this.#judge(socket, serverName);
        if (failure) reject(failure);
        else resolve(socket);
      });
    });
  }

  #judge(socket: TLSSocket, serverName: string): UpstreamFailure | undefined {
    // Asked for once: on the client's side Node takes it out of the chain, and a second call has the next one or none.
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return new UpstreamFailure('tls', 'the upstream presented no certificate');
    // Our own checkServerIdentity never objects, so what is left is the chain.
    if (!socket.authorized) {
      const code = verificationCode(socket.authorizationError);
      const fault = certificateFault(code);
      const subject = oneLineName(certificate.subject) || describeNames(certificateNames(certificate));
      const detail =
        fault === 'unknown_authority'
          ? `is signed by an unknown authority, its issuer is ${oneLineName(certificate.issuer)}: add that CA to upstream_tls.ca_path`
          : fault === 'expired'
            ? `expired on ${isoDate(certificate.validTo)}`
            : fault === 'not_yet_valid'
              ? `is not valid before ${isoDate(certificate.validFrom)}`
              : 'is not accepted';
      return new UpstreamFailure(`certificate_${fault}`, `the certificate of ${subject} ${detail} (${code})`);
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
