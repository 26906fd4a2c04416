import type { AbuseLimits } from '../inspect/abuse-limits.js';
import type { ExceededLimit } from '../inspect/limit.js';
import type { Rate } from '../inspect/rate-bucket.js';
import {
  KEY_UPDATES,
  MAX_BACKCHANNEL_CONNECTIONS,
  MAX_CONTINUATION_FRAMES,
  MAX_HEADER_AMPLIFICATION,
  MAX_UNACCEPTED_STREAMS,
  MAX_UNACKNOWLEDGED_SETTINGS,
  MAX_UNREAD_ANSWER_BYTES,
  MAX_UNRESET_STREAMS,
  MAX_UNSENT_REFUSALS,
  MIN_CONTINUATION_BYTES,
  OLD_STREAM_MS,
} from '../limits.js';

/** The description of a limit, and the setting that raises it. */
interface LimitText {
  readonly bound: string;
  /** `undefined` if no client that implements the protocol correctly can need more. */
  readonly setting: string | undefined;
}

/** The values in effect for a connection. */
export interface LimitValues extends AbuseLimits {
  /** `timeouts.preface`. */
  readonly prefaceMs: number;
}

const TEXTS: Readonly<Record<ExceededLimit, (values: LimitValues) => LimitText>> = {
  reset_flood: ({ resets }) => ({
    bound: `RST_STREAM within ${OLD_STREAM_MS} ms of the start of a call that Gitaly has not begun to answer, or for an error of the client: ${rateText(resets)}`,
    setting: 'abuse_limits.resets',
  }),
  late_reset_flood: ({ lateResets }) => ({
    bound: `RST_STREAM of calls older than ${OLD_STREAM_MS} ms, or that Gitaly has begun to answer: ${rateText(lateResets)}`,
    setting: 'abuse_limits.late_resets',
  }),
  control_flood: ({ controlFrames }) => ({
    bound: `PING and SETTINGS: ${rateText(controlFrames)}`,
    setting: 'abuse_limits.control_frames',
  }),
  unacknowledged_settings: () => ({
    bound: `SETTINGS that Gitaly has not acknowledged: ${MAX_UNACKNOWLEDGED_SETTINGS}`,
    setting: undefined,
  }),
  frame_flood: ({ smallFrames }) => ({
    bound: `frames without content (WINDOW_UPDATE, PRIORITY, acknowledgements, empty DATA), and HEADERS and DATA of streams that are not open: ${rateText(smallFrames)}`,
    setting: 'abuse_limits.small_frames',
  }),
  yamux_flood: ({ smallFrames }) => ({
    bound: `yamux frames other than data of open streams, and each SYN and RST: ${rateText(smallFrames)}`,
    setting: 'abuse_limits.small_frames',
  }),
  continuation: () => ({
    bound: `CONTINUATION frames of one header block: ${MAX_CONTINUATION_FRAMES}, and one more for each ${MIN_CONTINUATION_BYTES} bytes`,
    setting: undefined,
  }),
  interleaved_block: () => ({
    bound: 'no other frame between the frames of a header block',
    setting: undefined,
  }),
  slow_block: ({ prefaceMs }) => ({
    bound: `the time for a complete header block: ${prefaceMs} ms`,
    setting: 'timeouts.preface',
  }),
  hpack_too_large: ({ headerListBytes, oversizedHeaders }) => ({
    bound:
      `header lists of more than ${headerListBytes} bytes (\`abuse_limits.header_list_bytes\`), or more than ` +
      `${MAX_HEADER_AMPLIFICATION} times as large as their encoding: ${rateText(oversizedHeaders)}`,
    setting: 'abuse_limits.oversized_headers',
  }),
  refused_flood: () => ({
    bound:
      `calls that \`policy\` refuses while the client reads no answers: ${MAX_UNSENT_REFUSALS}, or answers of ` +
      `${MAX_UNREAD_ANSWER_BYTES} bytes; or whose streams Gitaly has not reset yet: ${MAX_UNRESET_STREAMS}`,
    setting: undefined,
  }),
  too_many_streams: ({ callsPerConnection }) => ({
    bound: `open calls on one connection: ${callsPerConnection}`,
    setting: 'abuse_limits.calls_per_connection',
  }),
  unaccepted_streams: () => ({
    bound: `yamux streams that Gitaly has not accepted: ${MAX_UNACCEPTED_STREAMS}`,
    setting: undefined,
  }),
  too_many_connections: () => ({
    bound: `gRPC connections on one backchannel: ${MAX_BACKCHANNEL_CONNECTIONS}`,
    setting: undefined,
  }),
};

/** Describes the limit, and the fix if its client is trusted. */
export function describeLimit(limit: ExceededLimit, values: LimitValues): string {
  const { bound, setting } = TEXTS[limit](values);
  if (setting === undefined)
    return (
      `the client exceeded a limit that has no setting, because no known client needs more: ${bound}. If you trust the client, ` +
      'set `inspect: false` on a listener for it alone, without `policy`: that turns all these limits off'
    );
  return (
    `the client exceeded \`${setting}\`, ${bound}. If you trust the client, raise \`${setting}\` and reload, or have the client ` +
    'spread its calls over more connections'
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

/** The fix for a connection that was closed because its calls can no longer be judged. */
export const UNJUDGED_ADVICE =
  'the client, or Gitaly, sends bytes that this version cannot follow, or this process has no memory to follow more calls. Calls that ' +
  'cannot be judged are not forwarded. If the client is legitimate, give it a listener without `policy`';

/** Describes a token bucket. */
export function rateText({ burst, perSecond }: Rate): string {
  return `a burst of ${burst}, then ${perSecond} per second`;
}
