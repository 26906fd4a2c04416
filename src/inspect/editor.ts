import type { Drain } from './drain.js';
import type { Sender } from './sender.js';

/** Decides what is forwarded of what the ends of a connection send. */
export interface Editor<Failure> {
  /**
   * Takes what an end has sent, in order (a view that is reused after the call), and returns what is forwarded in its place:
   * `bytes` itself if it is unchanged. Frames for the client that the proxy adds while the server's bytes pass are part of the
   * result.
   */
  pass(sender: Sender, bytes: Buffer, nowMs: number): Buffer;
  /** The reason for which the calls of the connection can no longer be followed, or the limit that was exceeded. */
  readonly failure: Failure | undefined;
}

/** An editor of a whole connection. */
export interface DrainingEditor<Failure> extends Editor<Failure> {
  /** Begins to take the connection out of use. `token`: 8 random bytes. */
  drain(token: Buffer): Drain;
}
