import { describe, expect, test } from 'vitest';

import {
  EVENT,
  STATE,
  transition,
  TRANSITIONS,
  type StreamEvent,
  type StreamState,
} from '../../../src/inspect/http2/stream-state.js';

const STATES = Object.keys(TRANSITIONS).filter((name): name is StreamState => name in TRANSITIONS);
const EVENTS = Object.keys(TRANSITIONS.idle).filter((name): name is StreamEvent => name in TRANSITIONS.idle);

/** RFC 9113 section 5.1 said another way: who may still send in a state, and what is left when that one has ended. */
function expected(state: StreamState, event: StreamEvent): string {
  if (state === 'closed') return 'late';
  if (event === 'reset') return state === 'idle' ? 'error' : 'closed';
  const [sender, what] = event.split('_');
  if (state === 'idle') return event === 'client_headers' ? 'open' : 'error';
  const done = state === 'client_done' ? ['client'] : state === 'server_done' ? ['server'] : [];
  if (done.includes(sender ?? '')) return 'error';
  if (what !== 'end') return state;
  return done.length === 1 ? 'closed' : `${sender ?? ''}_done`;
}

describe.each(STATES)('in state %s', (state) => {
  test.each(EVENTS)('%s', (event) => {
    expect(TRANSITIONS[state][event]).toBe(expected(state, event));
    expect(transition(STATE[state], EVENT[event])).toBe(STATE[TRANSITIONS[state][event]]);
  });
});
