import type { FramesFault } from '../inspect/http2/client-frames.js';
import { rateText } from '../connection/limit-advice.js';
import {
  ABANDONED_REQUESTS,
  CONTROL_FRAMES,
  MAX_HEADER_BLOCK_BYTES,
  MAX_HTTP2_REQUESTS,
  MAX_PIPELINED_REQUESTS,
  SMALL_FRAMES,
} from '../limits.js';

/** A limit of HTTP connections that no correct client exceeds; the detail of an end with the reason `abuse`. */
export type GateLimit =
  NonNullable<FramesFault['limit']> | 'reset_flood' | 'malformed_headers' | 'pipelining';

const LIMITS: Readonly<Record<GateLimit, string>> = {
  control_flood: `PING and SETTINGS: ${rateText(CONTROL_FRAMES)}, and more with requests and with bytes sent to the client`,
  frame_flood:
    `frames that carry nothing (WINDOW_UPDATE, PRIORITY, empty DATA): ${rateText(SMALL_FRAMES)}, ` +
    'and more with requests and with bytes sent to the client',
  continuation: `an encoded header of ${MAX_HEADER_BLOCK_BYTES / 1024} KiB in small CONTINUATION frames`,
  reset_flood: `requests that the client gives up, or resets: ${rateText(ABANDONED_REQUESTS)}`,
  malformed_headers: `${MAX_HTTP2_REQUESTS} malformed headers without a request between them`,
  pipelining: `${MAX_PIPELINED_REQUESTS} requests of HTTP/1.1 that wait for their answers`,
};

/** Describes the limit, and the fix if the client is known to be legitimate. */
export function gateLimitAdvice(limit: GateLimit): string {
  return `the limit ${limit} is ${LIMITS[limit]}. If this client is legitimate, have it spread its requests over more connections`;
}
