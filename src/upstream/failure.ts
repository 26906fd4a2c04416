import type { CertificateFault } from '../tls/verification.js';

/** Why an upstream could not be reached; label `reason` of `upstream_connect_failures_total`. */
export type UpstreamFailureReason =
  | 'refused'
  | 'timeout'
  | 'name_not_found'
  | 'unreachable'
  | 'no_socket'
  | 'permission'
  | 'reset'
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
  return new UpstreamFailure(reasonOf(code), error.message);
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
