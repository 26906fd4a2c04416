import type { RefusalReason, UpstreamFault } from './refusal.js';

/** The side that ended an exchange. It is `upstream` if its complete answer was forwarded. */
export type ExchangeEnder = 'client' | 'upstream' | 'proxy';

/** A request that has ended, for logs and metrics. */
export interface ExchangeReport {
  readonly protocol: 'http1' | 'http2';
  readonly peerAddress: string;
  /** The name in the verified client certificate. */
  readonly identity: string | undefined;
  /** Whether the client is authenticated, by this answer or before. */
  readonly isAuthenticated: boolean;
  /** The method as received; empty if the request could not be read. */
  readonly method: string;
  /** Without the query, which may contain secrets; `undefined` if the request could not be read. */
  readonly path: string | undefined;
  readonly correlationId: string | undefined;
  /** The status code of the answer; `undefined` if none began. */
  readonly status: number | undefined;
  readonly refusal: RefusalReason | undefined;
  readonly fault: UpstreamFault | undefined;
  /** Details for the log, in addition to the reason. */
  readonly detail: string;
  readonly endedBy: ExchangeEnder;
  /** The number of bytes of content. */
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly durationMs: number;
}

/** The events of the requests of one listener, for telemetry. Calls are synchronous and never throw. */
export interface HttpEvents {
  requestBegan(): void;
  requestEnded(report: ExchangeReport): void;
}
