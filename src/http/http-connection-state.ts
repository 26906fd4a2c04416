import type { Socket } from 'node:net';

import type { ConnectionEnd } from '../connection/connection-end.js';
import type { Http2Service } from './http2-service.js';
import type { HeaderField } from './hop-by-hop.js';

/** A client whose requests are read. */
export interface HttpClient {
  /** The plaintext stream of the client. */
  readonly stream: Socket;
  /** Set if and only if the client speaks HTTP/2. */
  readonly http2: Http2Service | undefined;
  /** Fields about its certificate, for upstream. */
  readonly certificateFields: readonly HeaderField[];
  /** Set if its requests are refused: the reason. */
  readonly refused: ConnectionEnd | undefined;
}

export interface HttpDrain {
  readonly why: string;
  /** Whether new requests over HTTP/1.1 are refused meanwhile. */
  readonly refusesNew: boolean;
}

/**
 * The state of an HTTP connection.
 *
 * - `opening`: its stages run, and no request is read. A drain takes effect once requests are read.
 * - `serving`: requests are read and served, or refused if the client is refused.
 * - `draining`: open requests finish, and the connection ends when none is open.
 * - `closing`: the proxy closes it, for the reason in `end`. No further request is served.
 */
export type HttpConnectionState =
  | { readonly kind: 'opening'; readonly drain: HttpDrain | undefined }
  | { readonly kind: 'serving'; readonly client: HttpClient }
  | { readonly kind: 'draining'; readonly client: HttpClient; readonly drain: HttpDrain }
  | { readonly kind: 'closing'; readonly client: HttpClient | undefined; readonly end: ConnectionEnd };

/** A change of the state of an HTTP connection. */
export type HttpTransition =
  | { readonly kind: 'serve'; readonly client: HttpClient }
  | { readonly kind: 'drain'; readonly drain: HttpDrain }
  | { readonly kind: 'close'; readonly end: ConnectionEnd };

export const HTTP_OPENING: HttpConnectionState = { kind: 'opening', drain: undefined };

/** Returns the next state, which is `state` itself if the transition has no effect. */
export function nextHttpState(state: HttpConnectionState, transition: HttpTransition): HttpConnectionState {
  if (state.kind === 'closing') return state;
  const client = state.kind === 'opening' ? undefined : state.client;
  switch (transition.kind) {
    case 'close':
      return { kind: 'closing', client, end: transition.end };
    case 'serve':
      if (state.kind !== 'opening') return state;
      return state.drain
        ? { kind: 'draining', client: transition.client, drain: state.drain }
        : { kind: 'serving', client: transition.client };
    case 'drain': {
      const before = state.kind === 'serving' ? undefined : state.drain;
      const drain = before ? joined(before, transition.drain) : transition.drain;
      if (drain === before) return state;
      return client ? { kind: 'draining', client, drain } : { kind: 'opening', drain };
    }
  }
}

/** Merges two drains: the reason of the first is kept, and either can refuse new requests. */
function joined(first: HttpDrain, second: HttpDrain): HttpDrain {
  return first.refusesNew || !second.refusesNew ? first : { ...first, refusesNew: true };
}
