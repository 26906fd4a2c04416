import type { ConnectionEnd } from './connection-end.js';

/** Events of a client that the limits of its listener depend on. */
export interface Admission {
  /** The PROXY header has named the client's address. Returns an end if the connection now exceeds a limit. */
  identified(address: string): ConnectionEnd | undefined;
  /** The client has presented a verified certificate, or upstream has answered the client. */
  authenticated(): void;
}

/** Observes a connection from its accept to its end. */
export interface ConnectionWatcher {
  identified(address: string): void;
  authenticated(): void;
  ended(): void;
}

/** The memory and file descriptors that all listeners of the process share. */
export interface ConnectionBudget {
  /** Whether memory was nearly exhausted recently: new connections are refused then. */
  readonly isMemoryLow: boolean;
  /** Whether memory is nearly exhausted now. */
  lookAtMemory(): boolean;
  /** Reserves the descriptors for one more connection. Returns whether enough were left. */
  take(): boolean;
  giveBack(): void;
}
