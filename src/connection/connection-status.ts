import type { ConnectionInspector } from '../inspect/connection-inspector.js';
import type { ObservedClient } from '../policy/observed-traffic.js';
import type { TlsFacts } from './connection-events.js';
import type { SocketEnd } from './peer-address.js';
import type { ConnectionProtocol } from './protocol.js';
import type { ConnectionEnd } from './connection-end.js';

/** The facts about a connection that its stages have found out so far. They are reported at its end. */
export interface ConnectionFacts {
  /** `performance.now()` at accept. */
  readonly acceptedAtMs: number;
  /** The remote end of the socket. */
  readonly socketEnd: SocketEnd | undefined;
  /** The local end of the socket. */
  readonly localEnd: SocketEnd | undefined;
  /** The client's address: that of the PROXY header, or the other end of the socket. */
  clientEnd: SocketEnd | undefined;
  /** The name that the client asked for, also if the handshake failed. */
  serverName: string | undefined;
  /** The URL of the upstream that the client goes to, once that is known. */
  upstream: string | undefined;
  tls: TlsFacts | undefined;
  /** The name in the verified client certificate. */
  identity: string | undefined;
  /** All names in the verified client certificate, for the policy: `dns:rails.internal`. The array is not changed. */
  identities: readonly string[];
  hasVerifiedCertificate: boolean;
  /** Counts its calls; set once the client is admitted. */
  observed: ObservedClient | undefined;
  protocol: ConnectionProtocol | undefined;
  /** Whether the client has presented a verified certificate, or upstream has answered the client. */
  isAuthenticated: boolean;
  /** The fix for the operator, if the end has one. */
  advice: string | undefined;
}

export interface OpenRequest {
  readonly method: string;
  /** Without the query; `undefined` if the request could not be read. */
  readonly path: string | undefined;
  /** `performance.now()` when its header was complete. */
  readonly startedAtMs: number;
  /** The status code of the answer, once that has begun. */
  readonly status: number | undefined;
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly correlationId: string | undefined;
}

/** The current state of an open connection, for the admin pages that show what hangs. */
export interface ConnectionStatus {
  /** Unique in this process. */
  readonly id: number;
  /** The address of the listener, as configured. */
  readonly listener: string;
  readonly facts: Readonly<ConnectionFacts>;
  /** `opening`: before upstream is connected; `draining`: no new calls or requests are accepted on it. */
  readonly stage: 'opening' | 'relaying' | 'draining';
  /** Plaintext bytes read so far. */
  readonly bytesToUpstream: number;
  readonly bytesToClient: number;
  /** Bytes in this process that a side has not read yet. */
  readonly queuedToUpstream: number;
  readonly queuedToClient: number;
  /** `off`: not followed yet, or not at all. */
  readonly inspection: 'followed' | 'lost' | 'off';
  /** Set while it is followed. */
  readonly inspector: ConnectionInspector | undefined;
  /** Set for HTTP connections only. */
  readonly requests: readonly OpenRequest[] | undefined;
}

/** One client's connection of any protocol, from accept to its end. */
export interface ServedConnection {
  /** Its current status. */
  readonly status: ConnectionStatus;
  /** Serves the connection. Settles when it has ended and was reported; never rejects. */
  run(): Promise<void>;
  /** Lets open calls or requests finish, and then ends the connection. `why` is for the log. */
  drain(why: string): void;
  /** Resets the connection in any state. */
  cut(end: ConnectionEnd): void;
  /** Ends it if a deadline without a timer of its own has passed. Called periodically. */
  sweep(nowMs: number): void;
  /** Reports the bytes that moved since the last call. */
  reportBytes(): void;
}
