import type { ConnectionInspector } from '../inspect/connection-inspector.js';
import type { ConnectionFacts } from './connection-facts.js';

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
