import { tlsFaultOf } from '../error-codes.js';
import type { ApplicationProtocol } from '../config/model.js';
import { normalServerName } from '../config/server-name.js';
import { printable } from '../printable.js';
import { certificateNames, describeNames, holdsName } from '../x509/certificate-names.js';
import type { Certificate } from '../x509/certificate.js';
import { isoDate } from '../x509/iso-date.js';

/** The reason why a TLS handshake with a client failed; label `reason` of `tls_handshake_failures_total`. */
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

/** The parameters that a listener presented in a handshake, or would have presented. */
export interface Presented {
  /** The protocols that it supports by ALPN. */
  readonly protocols: readonly ApplicationProtocol[];
  /** Its certificate for the server name. */
  readonly certificate: Certificate;
  /** The server name (SNI) of the client; `undefined` if it sent none, as clients that dial an IP address. */
  readonly serverName: string | undefined;
}

/**
 * The fix for a failed handshake, if there is one. Clients that refuse a certificate do not send the reason, and some only close
 * the connection. So problems of the listener's own certificate are reported first.
 */
export function handshakeAdvice(
  failure: HandshakeFailure,
  presented: Presented,
  now: Date,
): string | undefined {
  switch (failure) {
    case 'no_application_protocol':
      if (presented.protocols.includes('http/1.1'))
        return 'the client offers ALPN, but neither h2 nor http/1.1';
      return (
        'current gRPC clients offer ALPN h2; for an older one set `require_alpn: false`, which is what Gitaly does; ' +
        'if this client does offer it, a TLS terminator between the client and the proxy removes it'
      );
    case 'unrecognized_name':
      return (
        'forward_by_server_name has neither this name nor a `default`: add one of them, or have the client dial one of ' +
        'the names there (a client that dials an IP address sends no server name)'
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
        "the client does not trust this listener's certificate, which is in date and has the name: the client lacks its CA, " +
          'or an intermediate is missing in certificate_path'
      );
    case 'timeout':
      return 'the client did not finish the handshake within timeouts.handshake';
    case 'client_hello':
      return 'no TLS library sends such a ClientHello: a scanner sent it, or a device between client and proxy changed it';
    case 'client_chain':
      return (
        'have the client send only its own certificate and its intermediates, with ECDSA keys on P-256 or RSA keys of 2048 ' +
        'to 4096 bits'
      );
    case 'closed':
    case 'reset':
    case 'other':
      return whyRefused(presented, now);
  }
}

/** The reason why every client refuses the listener's certificate; `undefined` if the certificate alone does not show one. */
export function whyRefused(
  { certificate, serverName }: Pick<Presented, 'certificate' | 'serverName'>,
  now: Date,
): string | undefined {
  const { validFrom, validTo } = certificate;
  if (validTo < now)
    return `this listener's certificate expired on ${isoDate(validTo)}, so clients refuse it: renew it`;
  if (validFrom > now)
    return `this listener's certificate is not valid before ${isoDate(validFrom)}: check the clock of this machine`;
  const names = certificateNames(certificate);
  if (serverName === undefined) {
    return names.ip.length > 0
      ? undefined
      : "the client sent no server name, as if it dialled an IP address, but this listener's certificate has no IP address as " +
          `SAN; its names are ${describeNames(names)}: have the client dial one of them`;
  }
  if (holdsName(certificate, normalServerName(serverName))) return undefined;
  return (
    `the client requested ${printable(serverName)}, which is not in the SAN of this listener's certificate; its names are ` +
    `${describeNames(names)}: issue one with that name, or have the client dial one of these`
  );
}
