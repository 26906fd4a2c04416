import type { ConnectionEnd } from './connection-end.js';
import type { ConnectionStatus } from './connection-status.js';

/** One client's connection, from accept to its end, whatever is spoken on it. */
export interface ServedConnection {
  /** How it is at the moment. */
  readonly status: ConnectionStatus;
  /** Serves the connection; settles when it has ended and was reported. Never rejects. */
  run(): Promise<void>;
  /** Lets what is open on the connection finish and then ends it. `why` is for the log. */
  drain(why: string): void;
  /** Breaks the connection off, whatever it is doing. */
  cut(end: ConnectionEnd): void;
  /** Ends it where a deadline has passed that has no timer of its own; called now and then. */
  sweep(nowMs: number): void;
  /** Tells of what moved since the last call. */
  reportBytes(): void;
}
