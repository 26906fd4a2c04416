import type { Http2Limit } from './http2/side.js';
import type { YamuxLimit } from './yamux/session.js';

/**
 * A limit that no correct client exceeds. A connection that exceeds it is closed, because it costs Gitaly and this program more
 * than its client.
 */
export type ExceededLimit = YamuxLimit | Http2Limit | 'too_many_connections';

const LIMITS: Readonly<Record<ExceededLimit, true>> = {
  reset_flood: true,
  control_flood: true,
  frame_flood: true,
  continuation: true,
  hpack_too_large: true,
  too_many_streams: true,
  too_many_connections: true,
  yamux_flood: true,
};

/** Whether this is an exceeded limit, rather than a reason why calls cannot be followed. */
export function isLimit(failure: string): failure is ExceededLimit {
  return failure in LIMITS;
}
