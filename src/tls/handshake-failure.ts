import type { ApplicationProtocol } from '../config/model.js';

/** Why a TLS handshake with a client failed; label `reason` of `tls_handshake_failures_total`. */
export type HandshakeFailure =
  | 'timeout'
  | 'closed'
  | 'reset'
  | 'not_tls'
  | 'no_application_protocol'
  | 'unrecognized_name'
  /** The ClientHello was refused before OpenSSL saw it. */
  | 'client_hello'
  /** The client's certificates exceed a limit; they were not verified. */
  | 'client_chain'
  | 'unsupported_version'
  | 'no_shared_cipher'
  | 'certificate_rejected_by_client'
  | 'other';

/** The label of an error that a handshake ended with. Codes are Node's names of OpenSSL's reasons. */
export function handshakeFailure(code: string): HandshakeFailure {
  switch (code) {
    case 'ERR_TLS_HANDSHAKE_TIMEOUT':
      return 'timeout';
    case 'ECONNRESET':
    case 'EPIPE':
      return 'reset';
    case 'ERR_SSL_HTTP_REQUEST':
    case 'ERR_SSL_HTTPS_PROXY_REQUEST':
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
      return 'not_tls';
    case 'ERR_SSL_NO_APPLICATION_PROTOCOL':
      return 'no_application_protocol';
    case 'ERR_SSL_UNSUPPORTED_PROTOCOL':
    case 'ERR_SSL_VERSION_TOO_LOW':
    case 'ERR_SSL_INAPPROPRIATE_FALLBACK':
      return 'unsupported_version';
    case 'ERR_SSL_NO_SHARED_CIPHER':
    case 'ERR_SSL_NO_SHARED_SIGNATURE_ALGORITHMS':
    case 'ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM':
    case 'ERR_SSL_NO_SUITABLE_KEY_SHARE':
      return 'no_shared_cipher';
    default:
      // Node 20 writes ERR_SSL_TLSV1_ALERT_UNKNOWN_CA, Node 24 other prefixes: what follows ALERT_ is the alert's name.
      return /ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|CERTIFICATE_EXPIRED|UNSUPPORTED_CERTIFICATE)/.test(
        code,
      )
        ? 'certificate_rejected_by_client'
        : 'other';
  }
}

/**
 * What an operator should do about a failed handshake, where there is something to do.
 *
 * @param protocols - what the listener would have selected by ALPN.
 */
export function handshakeAdvice(
  failure: HandshakeFailure,
  protocols: readonly ApplicationProtocol[],
): string | undefined {
  switch (failure) {
    case 'no_application_protocol':
      if (protocols.includes('http/1.1')) return 'the client offers ALPN, and neither h2 nor http/1.1 in it';
      return (
        'current gRPC clients offer ALPN h2; for an older one set `require_alpn: false`, which is what Gitaly does; ' +
        'if this client does offer it, a TLS terminator between removes it'
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
      return "the client does not trust this listener's certificate: its CA is missing there, or the SAN does not match";
    case 'timeout':
      return 'the client did not finish the handshake within timeouts.handshake';
    case 'client_hello':
      return 'no TLS library sends such a ClientHello: a scanner does, or a device between has changed it';
    case 'client_chain':
      return (
        'have the client send its own certificate and its intermediates only, with ECDSA keys on P-256 or RSA keys of 2048 ' +
        'to 4096 bits'
      );
    case 'closed':
    case 'reset':
    case 'other':
      return undefined;
  }
}
