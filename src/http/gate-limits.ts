import type { AbuseLimits } from '../inspect/abuse-limits.js';
import type { FramesFault } from '../inspect/http2/client-frames.js';
import { rateText } from '../connection/limit-advice.js';
import {
  ABANDONED_REQUESTS,
  MAX_HEADER_BLOCK_BYTES,
  MAX_HTTP2_REQUESTS,
  MAX_PIPELINED_REQUESTS,
} from '../limits.js';

/** A limit on HTTP connections that no correct client exceeds. It is the detail of a `ConnectionEnd` with the reason `abuse`. */
export type GateLimit =
  NonNullable<FramesFault['limit']> | 'reset_flood' | 'malformed_headers' | 'pipelining';

const TEXTS: Readonly<Record<GateLimit, (limits: AbuseLimits) => string>> = {
  control_flood: ({ controlFrames }) =>
    `PING and SETTINGS: ${rateText(controlFrames)} (\`abuse_limits.control_frames\`), and more with requests and with bytes sent to the client`,
  frame_flood: ({ smallFrames }) =>
    `frames without content (WINDOW_UPDATE, PRIORITY, empty DATA): ${rateText(smallFrames)} (\`abuse_limits.small_frames\`), ` +
    'and more with requests and with bytes sent to the client',
  continuation: () =>
    `an encoded header of ${MAX_HEADER_BLOCK_BYTES / 1024} KiB in small CONTINUATION frames`,
  reset_flood: () =>
    `requests that the client resets: ${rateText(ABANDONED_REQUESTS)}; it has no setting, because Node's HTTP/2 library has the same limit`,
  malformed_headers: () => `${MAX_HTTP2_REQUESTS} malformed headers without a request between them`,
  pipelining: () => `${MAX_PIPELINED_REQUESTS} requests of HTTP/1.1 that wait for their answers`,
};

/** Describes the limit, and the fix if the client is trusted. */
export function gateLimitAdvice(limit: GateLimit, limits: AbuseLimits): string {
  return (
    `the client exceeded the limit on ${TEXTS[limit](limits)}. If you trust the client, raise the setting where there is one, or have ` +
    'it spread its requests over more connections'
  );
}
