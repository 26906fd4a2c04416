import type { SocketEnd } from './peer-address.js';
import type { ConnectionProtocol } from './protocol.js';
import type { TlsFacts } from './connection-events.js';

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
