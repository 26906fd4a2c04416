import { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import { ConnectionEnd } from '../../src/connection/connection-end.js';
import {
  HTTP_OPENING,
  nextHttpState,
  type HttpConnectionState,
  type HttpTransition,
} from '../../src/http/http-connection-state.js';

const client = { stream: new Socket(), http2: undefined, certificateFields: [], refused: undefined };
const aged = { why: 'its age', refusesNew: false };
const stopping = { why: 'the proxy stops', refusesNew: true };
const end = new ConnectionEnd('reset', 'client');
const later = new ConnectionEnd('idle_timeout', 'proxy');

const STATES = {
  opening: HTTP_OPENING,
  'opening, to be drained': { kind: 'opening', drain: aged },
  serving: { kind: 'serving', client },
  draining: { kind: 'draining', client, drain: aged },
  'draining, and refusing': { kind: 'draining', client, drain: stopping },
  closing: { kind: 'closing', client, end },
} as const satisfies Record<string, HttpConnectionState>;

const TRANSITIONS = {
  serve: { kind: 'serve', client },
  'drain, by age': { kind: 'drain', drain: { ...aged, why: 'again' } },
  'drain, by a stop': { kind: 'drain', drain: stopping },
  close: { kind: 'close', end: later },
} as const satisfies Record<string, HttpTransition>;

const joined = { why: 'its age', refusesNew: true };
const closed = (of: typeof client | undefined): HttpConnectionState => ({
  kind: 'closing',
  client: of,
  end: later,
});

const NEXT: Record<keyof typeof STATES, readonly HttpConnectionState[]> = {
  opening: [
    STATES.serving,
    { kind: 'opening', drain: TRANSITIONS['drain, by age'].drain },
    { kind: 'opening', drain: stopping },
    closed(undefined),
  ],
  'opening, to be drained': [
    STATES.draining,
    STATES['opening, to be drained'],
    { kind: 'opening', drain: joined },
    closed(undefined),
  ],
  serving: [
    STATES.serving,
    { kind: 'draining', client, drain: TRANSITIONS['drain, by age'].drain },
    STATES['draining, and refusing'],
    closed(client),
  ],
  draining: [STATES.draining, STATES.draining, { kind: 'draining', client, drain: joined }, closed(client)],
  'draining, and refusing': [
    STATES['draining, and refusing'],
    STATES['draining, and refusing'],
    STATES['draining, and refusing'],
    closed(client),
  ],
  closing: [STATES.closing, STATES.closing, STATES.closing, STATES.closing],
};

describe.each(Object.entries(STATES))('an HTTP connection that is %s', (name, state) => {
  test.each(
    Object.entries(TRANSITIONS).map(([told, transition], index) => [told, index, transition] as const),
  )('emits %s', (_told, index, transition) => {
    expect(nextHttpState(state, transition)).toEqual(NEXT[name as keyof typeof STATES][index]);
  });
});
