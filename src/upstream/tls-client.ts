import { isIP, type Socket } from 'node:net';
import {
  checkServerIdentity as nodeCheck,
  connect,
  createSecureContext,
  type SecureContext,
  type TLSSocket,
} from 'node:tls';

import { certificateNames, describeNames } from '../tls/certificate-names.js';
import { isoDate } from '../tls/certificate-pair.js';
import type { UpstreamMaterial } from '../tls/material.js';
import { ALPN_H2, contextParameters } from '../tls/parameters.js';
import { oneLineName } from '../tls/pem-files.js';
import { certificateFault, verificationCode } from '../tls/verification.js';
import { UpstreamFailure } from './failure.js';

/** Does TLS towards one upstream with one set of trust and client certificate; never changes, a reload makes another. */
export class TlsClient {
  readonly #context: SecureContext;
  readonly #serverName: string;

  /** @throws if the TLS library does not take the material */
  constructor(material: UpstreamMaterial) {
    this.#serverName = material.settings.serverName;
    this.#context = createSecureContext({
      ...contextParameters(material.settings.minVersion),
      ca: [...material.ca],
      ...(material.pair && { cert: material.pair.certificatePem, key: material.pair.keyPem }),
    });
  }

  /**
   * Does the client's side of a handshake on a connected socket.
   * The promise rejects with an `UpstreamFailure` (what the certificate says, where that is the reason) or with the
   * TLS library's error; it does not settle by itself if `raw` is destroyed without an error.
   */
  handshake(raw: Socket): Promise<TLSSocket> {
    return new Promise((resolve, reject) => {
      const socket = connect({
        socket: raw,
        secureContext: this.#context,
        ALPNProtocols: [ALPN_H2],
        // Judged below, before the first byte is written: with Node's own judgement no certificate is left to name.
        rejectUnauthorized: false,
        checkServerIdentity: () => undefined,
        ...(isIP(this.#serverName) === 0 && { servername: this.#serverName }),
      });
      const onError = (error: Error): void => reject(error);
      const onClose = (): void =>
        reject(new UpstreamFailure('reset', 'the upstream closed the connection within the TLS handshake'));
      socket.once('error', onError);
      socket.once('close', onClose);
      socket.once('secureConnect', () => {
        socket.off('error', onError);
        socket.off('close', onClose);
        const failure = this.#judge(socket);
        if (failure) reject(failure);
        else resolve(socket);
      });
    });
  }

  #judge(socket: TLSSocket): UpstreamFailure | undefined {
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
    if (!holdsName(socket, this.#serverName)) {
      return new UpstreamFailure(
        'certificate_name_mismatch',
        `the certificate is not valid for ${this.#serverName}; the names that it has: ${describeNames(certificateNames(certificate))}`,
      );
    }
    if (socket.alpnProtocol !== ALPN_H2) {
      return new UpstreamFailure(
        'no_alpn',
        'the upstream did not select ALPN h2: something that terminates TLS without ALPN stands there',
      );
    }
    return undefined;
  }
}

/**
 * Whether a SAN of the peer's certificate holds the name. Node's own check takes the Common Name where there is no
 * DNS name; it is asked only when a SAN of the right kind is there.
 */
function holdsName(socket: TLSSocket, name: string): boolean {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return false;
  const names = certificateNames(certificate);
  if ((isIP(name) === 0 ? names.dns : names.ip).length === 0) return false;
  return nodeCheck(name, socket.getPeerCertificate()) === undefined;
}
