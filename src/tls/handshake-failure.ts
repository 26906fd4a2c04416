import { tlsFaultOf } from '../error-codes.js';
import type { ApplicationProtocol } from '../config/model.js';
import { normalServerName } from '../config/server-name.js';
import { printable } from '../printable.js';
import { certificateNames, describeNames, holdsName } from '../x509/certificate-names.js';
import type { Certificate } from '../x509/certificate.js';
import { isoDate } from '../x509/iso-date.js';

/** Why a TLS handshake with a client failed; label `reason` of `tls_handshake_failures_total`. */
export type HandshakeFailure =
  | 'timeout'
  | 'closed'
  | 'reset'
  | 'not_tls'
  | 'no_application_protocol'
  | 'unrecognized_name'
  /** The ClientHello was refused before OpenSSL read it. */
  | 'client_hello'
  /** The client's certificates exceed a limit; they were not verified. */
  | 'client_chain'
  | 'unsupported_version'
  | 'no_shared_cipher'
  | 'certificate_rejected_by_client'
  | 'other';

/** The label of an error code that a handshake ended with. */
export function handshakeFailure(code: string): HandshakeFailure {
  switch (code) {
    case 'ERR_TLS_HANDSHAKE_TIMEOUT':
      return 'timeout';
    case 'ECONNRESET':
    case 'EPIPE':
      return 'reset';
  }
  switch (tlsFaultOf(code)) {
    case 'http_request':
    case 'not_a_record':
      return 'not_tls';
    case 'no_common_alpn':
      return 'no_application_protocol';
    case 'unsupported_version':
      return 'unsupported_version';
    case 'no_common_cipher':
      return 'no_shared_cipher';
    case 'refused_certificate':
      return 'certificate_rejected_by_client';
    default:
      return 'other';
  }
}

/** What a listener presented in a handshake, or would have presented. */
export interface Presented {
  /** The protocols that it selects from by ALPN. */
  readonly protocols: readonly ApplicationProtocol[];
  /** Its certificate for the name. */
  readonly certificate: Certificate;
  /** The server name (SNI) of the client; `undefined` if it sent none, as a client that dials an IP address. */
  readonly serverName: string | undefined;
}

/**
 * What an operator should do about a failed handshake, where there is something to do. Clients that refuse a certificate do
 * not tell why, and some only leave: what is wrong with our own is said before anything else.
 */
export function handshakeAdvice(
  failure: HandshakeFailure,
  presented: Presented,
  now: Date,
): string | undefined {
  switch (failure) {
    case 'no_application_protocol':
      if (presented.protocols.includes('http/1.1'))
        return 'the client offers ALPN, and neither h2 nor http/1.1 in it';
      return (
        'current gRPC clients offer ALPN h2; for an older one set `require_alpn: false`, which is what Gitaly does; ' +
        'if this client does offer it, a TLS terminator between client and proxy removes it'
      );
    case 'unrecognized_name':
      return (
        'forward_by_server_name has neither this name nor a `default`: add one of them, or have the client dial one of ' +
        'the names there (one that dials an IP address asks for no name)'
      );
    case 'not_tls':
      return 'the client does not speak TLS on this port; give it a tls:// or https:// address, or a listener of its own without TLS';
    case 'unsupported_version':
      return 'the client offers only TLS versions below min_version';
    case 'no_shared_cipher':
      return 'client and listener share no cipher suite or signature algorithm';
    case 'certificate_rejected_by_client':
      return (
        whyRefused(presented, now) ??
        "the client does not trust this listener's certificate, which is in date and holds the name: its CA is missing there, " +
          'or an intermediate is missing in certificate_path'
      );
    case 'timeout':
      return 'the client did not finish the handshake within timeouts.handshake';
    case 'client_hello':
      return 'no TLS library sends such a ClientHello: a scanner sent it, or a device between client and proxy changed it';
    case 'client_chain':
      return (
        'have the client send its own certificate and its intermediates only, with ECDSA keys on P-256 or RSA keys of 2048 ' +
        'to 4096 bits'
      );
    case 'closed':
    case 'reset':
    case 'other':
      return whyRefused(presented, now);
  }
}

/** Why every client refuses our certificate; `undefined` if the certificate alone does not show it. */
export function whyRefused(
  { certificate, serverName }: Pick<Presented, 'certificate' | 'serverName'>,
  now: Date,
): string | undefined {
  const { validFrom, validTo } = certificate;
  if (validTo < now)
    return `this listener's certificate expired on ${isoDate(validTo)}: renew it, clients refuse it`;
  if (validFrom > now)
    return `this listener's certificate is not valid before ${isoDate(validFrom)}: is this machine's clock right?`;
  const names = certificateNames(certificate);
  if (serverName === undefined) {
    return names.ip.length > 0
      ? undefined
      : "the client asked for no name, as one that dials an IP address, and this listener's certificate has no IP address as " +
          `SAN; its names are ${describeNames(names)}: have the client dial one of them`;
  }
  if (holdsName(certificate, normalServerName(serverName))) return undefined;
  return (
    `the client asked for ${printable(serverName)}, which is not in the SAN of this listener's certificate; its names are ` +
    `${describeNames(names)}: issue one with that name, or have the client dial one of these`
  );
}
