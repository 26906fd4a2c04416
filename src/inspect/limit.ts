import type { Http2Limit } from './http2/http2-side.js';
import type { YamuxLimit } from './yamux/followed-session.js';

/**
 * A limit that no correct client exceeds. A connection that exceeds it is closed, because it costs Gitaly and this program more
 * than its client.
 */
export type ExceededLimit = YamuxLimit | Http2Limit | 'too_many_connections';

/** The reason that metrics and log give for an exceeded limit: similar limits share one. A closed set. */
export type LimitReason =
  | 'reset_flood'
  | 'control_flood'
  | 'frame_flood'
  | 'continuation'
  | 'hpack_too_large'
  | 'refused_flood'
  | 'too_many_streams'
  | 'too_many_connections'
  | 'yamux_flood';

const REASONS: Readonly<Record<ExceededLimit, LimitReason>> = {
  reset_flood: 'reset_flood',
  late_reset_flood: 'reset_flood',
  control_flood: 'control_flood',
  unacknowledged_settings: 'control_flood',
  frame_flood: 'frame_flood',
  continuation: 'continuation',
  interleaved_block: 'continuation',
  slow_block: 'continuation',
  hpack_too_large: 'hpack_too_large',
  refused_flood: 'refused_flood',
  too_many_streams: 'too_many_streams',
  unaccepted_streams: 'too_many_streams',
  too_many_connections: 'too_many_connections',
  yamux_flood: 'yamux_flood',
};

/** Whether this is an exceeded limit, rather than a reason why calls cannot be followed. */
export function isLimit(failure: string): failure is ExceededLimit {
  return failure in REASONS;
}

/** The reason by which an exceeded limit is counted and logged. */
export function limitReason(limit: ExceededLimit): LimitReason {
  return REASONS[limit];
}
