import type { ConnectionInspector } from '../inspect/connection-inspector.js';
import type { ConnectionFacts } from './connection-facts.js';

/** An HTTP request that is open. */
export interface OpenRequest {
  readonly method: string;
  /** Without the query; `undefined` where the request could not be read. */
  readonly path: string | undefined;
  /** `performance.now()` when its header had come. */
  readonly startedAtMs: number;
  /** Of the answer, once that has begun. */
  readonly status: number | undefined;
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly correlationId: string | undefined;
}

/** An open connection as it is at the moment, for who asks what hangs. */
export interface ConnectionStatus {
  /** Of no other connection of this process. */
  readonly id: number;
  /** Its address, as configured. */
  readonly listener: string;
  readonly facts: Readonly<ConnectionFacts>;
  /** `opening`: before upstream is connected; `draining`: nothing new may begin on it. */
  readonly stage: 'opening' | 'relaying' | 'draining';
  /** Plaintext bytes read so far. */
  readonly bytesToUpstream: number;
  readonly bytesToClient: number;
  /** Bytes in this process that a side has not taken yet. */
  readonly queuedToUpstream: number;
  readonly queuedToClient: number;
  /** `off`: not followed yet, or not at all. */
  readonly inspection: 'followed' | 'lost' | 'off';
  /** There while it is followed. */
  readonly inspector: ConnectionInspector | undefined;
  /** Where HTTP is what passes. */
  readonly requests: readonly OpenRequest[] | undefined;
}
