import { codeOf, tlsFaultOf } from '../error-codes.js';
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
  const code = codeOf(error);
  return new UpstreamFailure(reasonOf(code), tlsMessage(code) ?? error.message);
}

/** Describes an error of OpenSSL for operators: its own message names a place in OpenSSL's source. */
function tlsMessage(code: string): string | undefined {
  switch (tlsFaultOf(code)) {
    case undefined:
      return undefined;
    case 'refused_certificate':
      return `the upstream refused the client certificate of upstream_tls, or requires one (${code})`;
    case 'refused_handshake':
      return `the upstream refused the handshake; it may want a client certificate (upstream_tls.certificate_path) or share no cipher suite (${code})`;
    case 'refused_version':
    case 'unsupported_version':
      return `the upstream has no TLS version in common with upstream_tls.min_version (${code})`;
    case 'not_a_record':
    case 'invalid_record':
      return `the upstream does not speak TLS on this port; forward to tcp:// if it is Gitaly's listen_addr (${code})`;
    case 'refused_alpn':
      return `the upstream does not know ALPN h2, so it is not a gRPC server (${code})`;
    case 'refused_name':
      return `the upstream does not serve the requested name; set upstream_tls.server_name to one that it serves (${code})`;
    default:
      return `the TLS handshake failed (${code})`;
  }
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
      if (tlsFaultOf(code) === 'refused_certificate') return 'client_certificate_refused';
      return tlsFaultOf(code) !== undefined || code.startsWith('ERR_TLS') ? 'tls' : 'other';
  }
}
