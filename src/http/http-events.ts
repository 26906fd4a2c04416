import type { RefusalReason, UpstreamFault } from './refusal.js';

/** Who ended an exchange; `upstream` also where its whole answer was passed on. */
export type ExchangeEnder = 'client' | 'upstream' | 'proxy';

/** Everything there is to say of a request that has ended. */
export interface ExchangeReport {
  readonly protocol: 'http1' | 'http2';
  readonly peerAddress: string;
  /** The name in the verified client certificate. */
  readonly identity: string | undefined;
  /** Whether the client is authenticated, by this answer or before. */
  readonly isAuthenticated: boolean;
  /** As it came; empty where the request could not be read. */
  readonly method: string;
  /** Without the query, which may hold secrets; `undefined` where the request could not be read. */
  readonly path: string | undefined;
  readonly correlationId: string | undefined;
  /** Of the answer; `undefined` if none began. */
  readonly status: number | undefined;
  readonly refusal: RefusalReason | undefined;
  readonly fault: UpstreamFault | undefined;
  /** More than the reason says, for the log. */
  readonly detail: string;
  readonly endedBy: ExchangeEnder;
  /** Bytes of content. */
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly durationMs: number;
}

/** What the requests of one listener tell; telemetry listens. Calls are synchronous and never throw. */
export interface HttpEvents {
  requestBegan(): void;
  requestEnded(report: ExchangeReport): void;
}
