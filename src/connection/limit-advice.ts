import type { ExceededLimit } from '../inspect/limit.js';
import {
  CONTROL_FRAMES,
  HEADER_BLOCK_MS,
  KEY_UPDATES,
  MAX_BACKCHANNEL_CONNECTIONS,
  MAX_CONTINUATION_FRAMES,
  MAX_FOLLOWED_CALLS,
  MAX_HEADER_AMPLIFICATION,
  MAX_RELAYED_HEADER_LIST_BYTES,
  MAX_UNACCEPTED_STREAMS,
  OLD_RESETS,
  OLD_STREAM_MS,
  SMALL_FRAMES,
  TOO_LARGE_HEADERS,
  YOUNG_RESETS,
} from '../limits.js';
import type { Rate } from '../inspect/rate-bucket.js';

const MIB = 1024 * 1024;

/** Each limit with its value. */
const LIMITS: Readonly<Record<ExceededLimit, string>> = {
  reset_flood:
    `RST_STREAM within ${OLD_STREAM_MS} ms of the start of a call, before Gitaly began to answer: ${rate(YOUNG_RESETS)}; ` +
    `of older calls: ${rate(OLD_RESETS)}`,
  control_flood: `PING and SETTINGS: ${rate(CONTROL_FRAMES)}`,
  frame_flood:
    'frames that carry nothing (WINDOW_UPDATE, PRIORITY, acknowledgements, empty DATA), and HEADERS and DATA of streams that are ' +
    `not open: ${rate(SMALL_FRAMES)}`,
  continuation:
    `a header block in ${MAX_CONTINUATION_FRAMES} small CONTINUATION frames, ` +
    `${MAX_RELAYED_HEADER_LIST_BYTES / MIB} MiB and ${HEADER_BLOCK_MS / 1000} s`,
  hpack_too_large:
    `header lists of more than ${MAX_RELAYED_HEADER_LIST_BYTES / MIB} MiB, or more than ` +
    `${MAX_HEADER_AMPLIFICATION} times as large as their encoding: ${rate(TOO_LARGE_HEADERS)}`,
  too_many_streams: `${MAX_FOLLOWED_CALLS} open calls on one connection, or ${MAX_UNACCEPTED_STREAMS} yamux streams that Gitaly has not accepted`,
  too_many_connections: `${MAX_BACKCHANNEL_CONNECTIONS} gRPC connections on one backchannel`,
  yamux_flood: `yamux frames other than data of open streams, and each SYN and RST: ${rate(SMALL_FRAMES)}`,
};

/** Describes the limit, and the fix if its client is known to be legitimate. */
export function describeLimit(limit: ExceededLimit): string {
  return (
    `the limit ${limit} is ${LIMITS[limit]}. If this client is legitimate, have it spread its calls over more connections, ` +
    'or set `inspect: false` on a listener for it alone: that turns these limits off'
  );
}

/** The fix for a client that sends too many KeyUpdates, if it is known to be legitimate. */
export const KEY_UPDATE_ADVICE =
  `the limit key_update_flood is ${KEY_UPDATES.burst} KeyUpdate messages of TLS 1.3 at once, then one per minute. If this client is ` +
  'legitimate, have it update its keys less often, or use TLS 1.2';

/** The fix for a connection that `inspect: required` has closed. */
export const LOST_ADVICE =
  'the client, or Gitaly, sends bytes that this version cannot follow. If that is legitimate, set `inspect: true` on this listener: ' +
  'the connection is kept then, and its calls are not counted';

function rate({ burst, perSecond }: Rate): string {
  return `${burst} at once, then ${perSecond} per second`;
}
