import type { ConnectionEnd } from './connection-end.js';
import type { RelayedConnection } from './relayed-connection.js';

/**
 * The state of a connection.
 *
 * - `opening`: its stages run. None of its bytes have been sent upstream. A drain takes effect once bytes are relayed.
 * - `answering`: the proxy answers its calls itself, because the client is refused or upstream cannot be reached. The connection
 *   ends soon, so a drain has no effect.
 * - `relaying`: bytes are relayed in both directions.
 * - `draining`: bytes are relayed, and the connection ends when no call is open on it.
 * - `ended`: its sockets are closed, or about to be.
 */
export type ConnectionState =
  | { readonly kind: 'opening'; readonly drain: string | undefined }
  | { readonly kind: 'answering' }
  | { readonly kind: 'relaying'; readonly relayed: RelayedConnection }
  | { readonly kind: 'draining'; readonly relayed: RelayedConnection; readonly why: string }
  | { readonly kind: 'ended'; readonly end: ConnectionEnd };

/** A change of the state of a connection. */
export type ConnectionTransition =
  | { readonly kind: 'relay'; readonly relayed: RelayedConnection }
  | { readonly kind: 'answer' }
  | { readonly kind: 'drain'; readonly why: string }
  | { readonly kind: 'end'; readonly end: ConnectionEnd };

export const OPENING: ConnectionState = { kind: 'opening', drain: undefined };

/** Returns the next state, which is `state` itself if the transition has no effect. */
export function nextState(state: ConnectionState, transition: ConnectionTransition): ConnectionState {
  if (state.kind === 'ended') return state;
  switch (transition.kind) {
    case 'end':
      return { kind: 'ended', end: transition.end };
    case 'answer':
      return { kind: 'answering' };
    case 'relay': {
      const { relayed } = transition;
      if (state.kind !== 'opening') return state;
      return state.drain === undefined
        ? { kind: 'relaying', relayed }
        : { kind: 'draining', relayed, why: state.drain };
    }
    case 'drain': {
      const { why } = transition;
      if (state.kind === 'opening') return { kind: 'opening', drain: state.drain ?? why };
      return state.kind === 'relaying' ? { kind: 'draining', relayed: state.relayed, why } : state;
    }
  }
}
