import { codeOf, isHttpParserCode, tlsFaultOf } from '../error-codes.js';
import { UpstreamFailure } from '../upstream/failure.js';
import type { UpstreamFault } from './refusal.js';

/** An upstream that was given up since it takes nothing of a request. */
export class UpstreamStalled extends Error {}

/** An answer 101, though no request of ours asks for one. */
export class UnaskedUpgrade extends Error {}

/**
 * An answer over TLS whose end would be that of its connection. RFC 9112 section 9.8: it is whole only if TLS was closed, too,
 * which Node does not tell.
 */
export class EndlessAnswer extends Error {}

/** An answer whose content has a transfer coding that no request of ours accepts, and that would be lost with its field. */
export class UnaskedCoding extends Error {}

/** An answer with another version of HTTP than 1.0 and 1.1. */
export class UnknownVersion extends Error {}

/** What an error of a request to upstream comes to. `answering`: whether its answer had begun. */
export function upstreamFault(error: unknown, answering: boolean): UpstreamFault {
  if (error instanceof UpstreamFailure) return 'unreachable';
  if (error instanceof UpstreamStalled) return 'write_stall';
  if ([UnaskedUpgrade, UnaskedCoding, UnknownVersion, EndlessAnswer].some((kind) => error instanceof kind))
    return 'malformed';
  const code = codeOf(error);
  // In TLS 1.3 our certificate is refused when the handshake is over for us.
  if (tlsFaultOf(code) === 'refused_certificate') return 'unreachable';
  // ERR_INVALID: Node cannot pass on a header.
  if (isHttpParserCode(code) || code.startsWith('ERR_INVALID')) return 'malformed';
  return answering ? 'cut' : 'closed';
}
