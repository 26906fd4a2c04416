import { codeOf, isHttpParserCode, tlsFaultOf } from '../error-codes.js';
import { UpstreamFailure } from '../upstream/failure.js';
import type { UpstreamFault } from './refusal.js';

/** An upstream that has stopped reading a request. */
export class UpstreamStalled extends Error {}

/** An answer 101, although the proxy never requests an upgrade. */
export class UnaskedUpgrade extends Error {}

/**
 * An answer over TLS that would end with its connection. RFC 9112 section 9.8: it is complete only if TLS was closed, too, which
 * Node does not report.
 */
export class EndlessAnswer extends Error {}

/** An answer with a transfer coding that the proxy never accepts, and that would be lost when its field is removed. */
export class UnaskedCoding extends Error {}

/** An answer with an HTTP version other than 1.0 and 1.1. */
export class UnknownVersion extends Error {}

/** Classifies the error of a request to upstream. `answering`: whether the answer had begun. */
export function upstreamFault(error: unknown, answering: boolean): UpstreamFault {
  if (error instanceof UpstreamFailure) return 'unreachable';
  if (error instanceof UpstreamStalled) return 'write_stall';
  if ([UnaskedUpgrade, UnaskedCoding, UnknownVersion, EndlessAnswer].some((kind) => error instanceof kind))
    return 'malformed';
  const code = codeOf(error);
  // In TLS 1.3 upstream refuses our certificate after the handshake is complete for us.
  if (tlsFaultOf(code) === 'refused_certificate') return 'unreachable';
  // ERR_INVALID: Node cannot pass on a header.
  if (isHttpParserCode(code) || code.startsWith('ERR_INVALID')) return 'malformed';
  return answering ? 'cut' : 'closed';
}
