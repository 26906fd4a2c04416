import type { CertificateFault } from '../tls/verification.js';

/** The reason for which an upstream could not be reached; label `reason` of `upstream_connect_failures_total`. */
export type UpstreamFailureReason =
  | 'refused'
  | 'timeout'
  | 'name_not_found'
  | 'unreachable'
  | 'no_socket'
  | 'permission'
  | 'reset'
  /** It closed the connection before its first byte. */
  | 'closed'
  /** It accepted the connection and sent nothing for `timeouts.dial`. */
  | 'silent'
  | 'no_alpn'
  | 'client_certificate_refused'
  | 'tls'
  | `certificate_${CertificateFault}`
  | 'other';

/** An upstream that was not reached, with the reason in words for the log and for the client. */
export class UpstreamFailure extends Error {
  readonly reason: UpstreamFailureReason;

  constructor(reason: UpstreamFailureReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Puts the system's or the TLS library's error of a dial into words. */
export function upstreamFailure(error: Error): UpstreamFailure {
  if (error instanceof UpstreamFailure) return error;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  return new UpstreamFailure(reasonOf(code), tlsWords(code) ?? error.message);
}

/** The TLS library's error in an operator's words: its own message is a place in OpenSSL's source. */
function tlsWords(code: string): string | undefined {
  if (!code.startsWith('ERR_SSL')) return undefined;
  if (isClientCertificateRefusal(code))
    return `the upstream refused the client certificate of upstream_tls, or requires one (${code})`;
  // TLS 1.2 has no alert of its own for a client certificate that is missing.
  if (/ALERT_HANDSHAKE_FAILURE$/.test(code))
    return `the upstream refused the handshake; it may want a client certificate (upstream_tls.certificate_path) or share no cipher suite (${code})`;
  if (/ALERT_PROTOCOL_VERSION$|UNSUPPORTED_PROTOCOL$/.test(code))
    return `the upstream has no TLS version in common with upstream_tls.min_version (${code})`;
  if (/WRONG_VERSION_NUMBER$|PACKET_LENGTH_TOO_LONG$|UNEXPECTED_MESSAGE$/.test(code))
    return `the upstream does not speak TLS on this port; forward to tcp:// if it is Gitaly's listen_addr (${code})`;
  if (/ALERT_NO_APPLICATION_PROTOCOL$/.test(code))
    return `the upstream does not know ALPN h2, so it is not a gRPC server (${code})`;
  if (/UNRECOGNIZED_NAME$/.test(code))
    return `the upstream does not serve the requested name; set upstream_tls.server_name to one that it serves (${code})`;
  return `the TLS handshake failed (${code})`;
}

function reasonOf(code: string): UpstreamFailureReason {
  switch (code) {
    case 'ECONNREFUSED':
      return 'refused';
    case 'ETIMEDOUT':
      return 'timeout';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EAI_NODATA':
    case 'EAI_NONAME':
      return 'name_not_found';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EADDRNOTAVAIL':
      return 'unreachable';
    case 'ENOENT':
      return 'no_socket';
    case 'EACCES':
    case 'EPERM':
      return 'permission';
    case 'ECONNRESET':
    case 'EPIPE':
      return 'reset';
    default:
      if (isClientCertificateRefusal(code)) return 'client_certificate_refused';
      return code.startsWith('ERR_SSL') || code.startsWith('ERR_TLS') ? 'tls' : 'other';
  }
}

/**
 * Whether an error code is a peer's refusal of our certificate. In TLS 1.3 it arrives after the handshake is over
 * for us. Prefixes differ between Node's OpenSSL versions; what follows `ALERT_` is the alert's name.
 */
export function isClientCertificateRefusal(code: string): boolean {
  return /ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_\w+|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED)$/.test(
    code,
  );
}
