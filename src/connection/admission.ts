import type { ConnectionEnd } from './connection-end.js';

/** Receives what a connection learns about its client, so that the limits of the listener can be enforced. */
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
