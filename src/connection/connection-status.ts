import type { ConnectionInspector } from '../inspect/connection-inspector.js';
import type { TlsFacts } from './connection-events.js';
import type { SocketEnd } from './peer-address.js';
import type { ConnectionProtocol } from './protocol.js';
import type { ConnectionEnd } from './connection-end.js';

/** What the stages have found out about a connection so far; the report is made of it whenever it ends. */
export interface ConnectionFacts {
  /** `performance.now()` at accept. */
  readonly acceptedAtMs: number;
  /** The other end of the socket. */
  readonly socketEnd: SocketEnd | undefined;
  /** Our end of the socket. */
  readonly localEnd: SocketEnd | undefined;
  /** Who the client is: the socket's other end, or what a PROXY header says. */
  clientEnd: SocketEnd | undefined;
  /** As the client asked for it, also when the handshake failed. */
  serverName: string | undefined;
  /** The URL of the upstream that the client goes to, once that is known. */
  upstream: string | undefined;
  tls: TlsFacts | undefined;
  /** The name in the verified client certificate. */
  identity: string | undefined;
  protocol: ConnectionProtocol | undefined;
  /** Whether the client has presented a verified certificate, or upstream has answered it. */
  isAuthenticated: boolean;
  /** What an operator should do about the end. */
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
