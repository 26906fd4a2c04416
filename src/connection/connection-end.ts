import { stackOf } from '../stack.js';

/** The side that ended a connection. */
export type Initiator = 'client' | 'upstream' | 'proxy';

/** The reason that a connection ended; label `reason` of `connections_closed_total`. A closed set. */
export type CloseReason =
  /** Both sides sent an end. */
  | 'finished'
  /** A side reset the connection; the other side was reset too. */
  | 'reset'
  /** The client disconnected without sending a byte: a load balancer's probe, a port scan. */
  | 'probe'
  /** The client disconnected between its first byte and a complete preface. */
  | 'left_early'
  | 'proxy_header_malformed'
  | 'proxy_header_timeout'
  | 'handshake_failed'
  | 'client_certificate_refused'
  /** None of the identities of the client is in `client_allow`. */
  | 'client_not_allowed'
  | 'protocol_unknown'
  | 'preface_timeout'
  /** The bytes on an HTTP connection are not HTTP, or not a request that is forwarded. */
  | 'request_malformed'
  /** It was the oldest unauthenticated connection and was evicted for a new one. */
  | 'max_unauthenticated_connections'
  /** Its PROXY header named an address that has reached its connection limit. */
  | 'max_connections_per_source'
  | 'upstream_unreachable'
  | 'idle_timeout'
  /** A side did not read the bytes that waited for it for `timeouts.write_stall`. */
  | 'write_stall'
  | 'half_close_timeout'
  /** Closed by the proxy after its last call, because the proxy stops, its listener was removed, or it reached its maximum age. */
  | 'drained'
  /** Reset because a drain took longer than `graceful_restart_timeout`, or because of a second signal. */
  | 'drain_timeout'
  /** Reset because its calls took longer than `max_connection_age_grace`. */
  | 'max_connection_age'
  /** Closed because its client exceeded a limit; the detail names it. */
  | 'abuse'
  /** Closed because its calls cannot be followed and `inspect` is `required`; the detail gives the reason. */
  | 'inspection_lost'
  /** A bug in the proxy: an exception in the code of this connection. */
  | 'internal_error';

/** How a connection ended. A stage that refuses a connection returns one; an abort signal carries one as its reason. */
export class ConnectionEnd {
  readonly reason: CloseReason;
  readonly initiator: Initiator;
  /** Details for the log, in addition to the reason; may be empty. */
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
