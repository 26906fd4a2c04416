import { describe, expect, test } from 'vitest';

import { ConnectionEnd } from '../../src/connection/connection-end.js';
import {
  nextState,
  OPENING,
  type ConnectionState,
  type ConnectionTransition,
} from '../../src/connection/connection-state.js';
import { RelayedConnection } from '../../src/connection/relayed-connection.js';

// Only its identity matters here.
const relayed = Object.create(RelayedConnection.prototype) as RelayedConnection;
const end = new ConnectionEnd('finished', 'client');

const STATES = {
  opening: OPENING,
  'opening, to be drained': { kind: 'opening', drain: 'first' },
  answering: { kind: 'answering' },
  relaying: { kind: 'relaying', relayed },
  draining: { kind: 'draining', relayed, why: 'first' },
  ended: { kind: 'ended', end },
} as const satisfies Record<string, ConnectionState>;

const TRANSITIONS = {
  relay: { kind: 'relay', relayed },
  answer: { kind: 'answer' },
  drain: { kind: 'drain', why: 'second' },
  end: { kind: 'end', end: new ConnectionEnd('reset', 'upstream') },
} as const satisfies Record<ConnectionTransition['kind'], ConnectionTransition>;

const { relay: RELAY, end: END } = TRANSITIONS;
const ended: ConnectionState = { kind: 'ended', end: END.end };

const NEXT: Record<keyof typeof STATES, Record<keyof typeof TRANSITIONS, ConnectionState>> = {
  opening: {
    relay: STATES.relaying,
    answer: STATES.answering,
    drain: { kind: 'opening', drain: 'second' },
    end: ended,
  },
  'opening, to be drained': {
    relay: { kind: 'draining', relayed: RELAY.relayed, why: 'first' },
    answer: STATES.answering,
    drain: STATES['opening, to be drained'],
    end: ended,
  },
  answering: {
    relay: STATES.answering,
    answer: STATES.answering,
    drain: STATES.answering,
    end: ended,
  },
  relaying: {
    relay: STATES.relaying,
    answer: STATES.answering,
    drain: { kind: 'draining', relayed, why: 'second' },
    end: ended,
  },
  draining: {
    relay: STATES.draining,
    answer: STATES.answering,
    drain: STATES.draining,
    end: ended,
  },
  ended: {
    relay: STATES.ended,
    answer: STATES.ended,
    drain: STATES.ended,
    end: STATES.ended,
  },
};

describe.each(Object.entries(STATES))('a connection that is %s', (name, state) => {
  test.each(Object.entries(TRANSITIONS))('emits %s', (told, transition) => {
    const row = NEXT[name as keyof typeof STATES];
    expect(nextState(state, transition)).toEqual(row[told as keyof typeof TRANSITIONS]);
  });
});
