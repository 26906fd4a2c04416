import type { ConnectionEnd } from '../connection/connection-end.js';
import type { ConnectionFacts } from '../connection/connection-status.js';
import type { HeaderField } from './hop-by-hop.js';
import type { RefusalReason } from './refusal.js';

/** The connection of a request. */
export interface ExchangeConnection {
  readonly facts: Readonly<ConnectionFacts>;
  readonly scheme: 'https' | 'http';
  /** X-SSL-Client-* of the client. */
  readonly certificateFields: readonly HeaderField[];
  /** Set while all of its requests are refused: the reason. */
  readonly refusal: RefusalReason | undefined;
  /** Whether it ends after its open requests. */
  readonly isClosing: boolean;
  /** Set once the proxy has ended the connection: how it ended. */
  readonly cutBy: ConnectionEnd | undefined;
  /** Resets the connection, with all of its open requests. */
  cut(end: ConnectionEnd): void;
}
