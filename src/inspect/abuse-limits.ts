import type { Rate } from './rate-bucket.js';

/** The limits on one connection that a site can set, because its own clients may need more. */
export interface AbuseLimits {
  /** RST_STREAM of young streams, and those that a client provokes. */
  readonly resets: Rate;
  /** All other RST_STREAM. */
  readonly lateResets: Rate;
  /** PING and SETTINGS. */
  readonly controlFrames: Rate;
  /** Frames without content, of HTTP/2 and of yamux. */
  readonly smallFrames: Rate;
  /** Header lists that are larger than `headerListBytes`, or much larger than their encoding. */
  readonly oversizedHeaders: Rate;
  readonly headerListBytes: number;
  /** Open calls and streams of a backchannel. */
  readonly callsPerConnection: number;
}
