import type { SocketEnd } from './peer-address.js';
import type { ConnectionProtocol } from './protocol.js';
import type { TlsFacts } from './connection-events.js';

/** The facts that the stages of a connection have found so far. The report of the connection is built from them. */
export interface ConnectionFacts {
  /** `performance.now()` at accept. */
  readonly acceptedAtMs: number;
  /** The remote end of the socket. */
  readonly socketEnd: SocketEnd | undefined;
  /** The local end of the socket. */
  readonly localEnd: SocketEnd | undefined;
  /** The address of the client: the remote end of the socket, or the source in a PROXY header. */
  clientEnd: SocketEnd | undefined;
  /** The name that the client asked for, also if the handshake failed. */
  serverName: string | undefined;
  /** The URL of the upstream that the client goes to, once that is known. */
  upstream: string | undefined;
  tls: TlsFacts | undefined;
  /** The name in the verified client certificate. */
  identity: string | undefined;
  protocol: ConnectionProtocol | undefined;
  /** Whether the client has presented a verified certificate, or upstream has answered the client. */
  isAuthenticated: boolean;
  /** The fix for the end of the connection, for the operator. */
  advice: string | undefined;
}
