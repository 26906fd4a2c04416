import { stackOf } from '../stack.js';

/** Who began the end of a connection. */
export type Initiator = 'client' | 'upstream' | 'proxy';

/** Why a connection ended; label `reason` of `connections_closed_total`. A closed set. */
export type CloseReason =
  /** Both sides said that they were done. */
  | 'finished'
  /** A side broke the connection off; the other side was reset too. */
  | 'reset'
  /** The client left without a byte: a load balancer's probe, a port scan. */
  | 'probe'
  /** The client left between its first byte and a whole preface. */
  | 'left_early'
  | 'proxy_header_malformed'
  | 'proxy_header_timeout'
  | 'handshake_failed'
  | 'client_certificate_refused'
  | 'protocol_unknown'
  | 'preface_timeout'
  /** What came on an HTTP connection is no HTTP, or no request that is passed on. */
  | 'request_malformed'
  /** It was the oldest unauthenticated connection and was evicted for a new one. */
  | 'max_unauthenticated_connections'
  /** Its PROXY header named an address that has reached its connection limit. */
  | 'max_connections_per_source'
  | 'upstream_unreachable'
  | 'idle_timeout'
  /** A side took nothing of what waited for it for `timeouts.write_stall`. */
  | 'write_stall'
  | 'half_close_timeout'
  /** Ended by us when its last call had, because the proxy stops, its listener was removed, or it was old enough. */
  | 'drained'
  /** Cut because a drain took longer than `graceful_restart_timeout`, or a second signal came. */
  | 'drain_timeout'
  /** Cut because its calls took longer than `max_connection_age_grace`. */
  | 'max_connection_age'
  /** Closed because its client exceeded a limit; the detail names it. */
  | 'abuse'
  /** Closed because its calls cannot be followed and `inspect` is `required`; the detail gives the reason. */
  | 'inspection_lost'
  /** A fault of the proxy in this connection's code. */
  | 'internal_error';

/** How a connection ended. A stage that refuses a connection returns one; an abort signal carries one as its reason. */
export class ConnectionEnd {
  readonly reason: CloseReason;
  readonly initiator: Initiator;
  /** More than the reason says, for the log; empty if there is nothing to add. */
  readonly detail: string;

  constructor(reason: CloseReason, initiator: Initiator, detail = '') {
    this.reason = reason;
    this.initiator = initiator;
    this.detail = detail;
  }
}

/** The end of a connection in whose code an exception was thrown. */
export function internalError(error: unknown): ConnectionEnd {
  return new ConnectionEnd('internal_error', 'proxy', stackOf(error));
}
