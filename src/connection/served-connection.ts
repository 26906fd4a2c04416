import type { ConnectionEnd } from './connection-end.js';
import type { ConnectionStatus } from './connection-status.js';

/** The connection of a client, from accept to its end, for any protocol. */
export interface ServedConnection {
  /** The current state of the connection. */
  readonly status: ConnectionStatus;
  /** Serves the connection. Settles when it has ended and was reported; never rejects. */
  run(): Promise<void>;
  /** Lets open calls or requests finish, and then ends the connection. `why` is for the log. */
  drain(why: string): void;
  /** Resets the connection in any state. */
  cut(end: ConnectionEnd): void;
  /** Ends the connection if a deadline without a timer of its own has expired. Called periodically. */
  sweep(nowMs: number): void;
  /** Reports the bytes that moved since the last call. */
  reportBytes(): void;
}
