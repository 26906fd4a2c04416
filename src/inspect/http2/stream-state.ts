/**
 * The state of a stream (RFC 9113 section 5.1), seen from outside of both ends. `client_done`: the client has sent
 * END_STREAM and the server has not; `server_done` the other way round.
 */
export type StreamState = 'idle' | 'open' | 'client_done' | 'server_done' | 'closed';

/** The effect of a frame on a stream. DATA and HEADERS with END_STREAM are two events: the frame, then the end. */
export type StreamEvent =
  'client_headers' | 'client_data' | 'client_end' | 'server_headers' | 'server_data' | 'server_end' | 'reset';

/** `late`: the frame crossed a reset or an end. `error`: no correct peer sends it. Neither changes the state. */
export type Transition = StreamState | 'late' | 'error';

/**
 * RFC 9113 section 5.1, the figure. A frame that comes when its stream is closed may have been on its way when the
 * other side reset it: "An endpoint that sends a RST_STREAM frame ... MUST be prepared to receive additional frames".
 * Trailers are HEADERS on a stream that is open already.
 */
export const TRANSITIONS: Readonly<Record<StreamState, Readonly<Record<StreamEvent, Transition>>>> = {
  idle: {
    client_headers: 'open',
    client_data: 'error',
    client_end: 'error',
    server_headers: 'error',
    server_data: 'error',
    server_end: 'error',
    reset: 'error',
  },
  open: {
    client_headers: 'open',
    client_data: 'open',
    client_end: 'client_done',
    server_headers: 'open',
    server_data: 'open',
    server_end: 'server_done',
    reset: 'closed',
  },
  client_done: {
    client_headers: 'error',
    client_data: 'error',
    client_end: 'error',
    server_headers: 'client_done',
    server_data: 'client_done',
    server_end: 'closed',
    reset: 'closed',
  },
  server_done: {
    client_headers: 'server_done',
    client_data: 'server_done',
    client_end: 'closed',
    server_headers: 'error',
    server_data: 'error',
    server_end: 'error',
    reset: 'closed',
  },
  closed: {
    client_headers: 'late',
    client_data: 'late',
    client_end: 'late',
    server_headers: 'late',
    server_data: 'late',
    server_end: 'late',
    reset: 'late',
  },
};

/** The transitions, by number. */
// prettier-ignore
export const STATE = {
  idle: 0, open: 1, client_done: 2, server_done: 3, closed: 4, late: 5, error: 6,
} as const satisfies Record<Transition, number>;

/** The events, by number. */
// prettier-ignore
export const EVENT = {
  client_headers: 0, client_data: 1, client_end: 2, server_headers: 3, server_data: 4, server_end: 5, reset: 6,
} as const satisfies Record<StreamEvent, number>;

const EVENTS = Object.keys(EVENT).length;

/** `TRANSITIONS` in the order of these numbers: a look-up by two names would cost a frame more than all else. */
const NEXT = Uint8Array.from(
  Object.values(TRANSITIONS).flatMap((row) => Object.values(row).map((next) => STATE[next])),
);

/** The number of what an event leads to. */
export function transition(state: number, event: number): number {
  return NEXT[state * EVENTS + event] ?? STATE.error;
}
