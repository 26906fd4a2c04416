import { describe, expect, test } from 'vitest';

import type { StreamEvent, StreamState } from '../../../src/inspect/http2/stream-state.js';
import type { Sender } from '../../../src/inspect/sender.js';
import { Followed } from './hand-made.js';
import {
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  GOAWAY,
  HEADERS,
  headers,
  RST_STREAM,
  uint32,
} from '../../support/http2-frames.js';

/** The stream that is driven, and one that is open beside it all the time. */
const [STREAM, BYSTANDER] = [5, 3];

type Sent = readonly [sender: Sender, bytes: Buffer];

const HEADERS_ONLY = headers(STREAM, { a: 'first' });
const HEADERS_AND_END = headers(STREAM, { a: 'last' }, END_STREAM);
const CONTENT = frame(DATA, 0, STREAM, Buffer.from('content'));
const CONTENT_AND_END = frame(DATA, END_STREAM, STREAM, Buffer.from('content'));
const END_ONLY = frame(DATA, END_STREAM, STREAM);
const CANCEL = frame(RST_STREAM, 0, STREAM, uint32(8));

const REQUEST: Sent = ['client', HEADERS_ONLY];
const REQUEST_WITH_END: Sent = ['client', HEADERS_AND_END];
const REQUEST_END: Sent = ['client', END_ONLY];
const ANSWER: Sent = ['server', HEADERS_ONLY];
const ANSWER_WITH_END: Sent = ['server', HEADERS_AND_END];
const ANSWER_END: Sent = ['server', END_ONLY];
const REFUSAL: Sent = ['server', frame(GOAWAY, 0, 0, uint32(BYSTANDER, 0))];

/** Every way into a state. */
const WAYS: Readonly<Record<StreamState, Readonly<Record<string, readonly Sent[]>>>> = {
  idle: { 'nothing was sent': [] },
  open: {
    'a request has begun': [REQUEST],
    'both have begun': [REQUEST, ANSWER],
  },
  client_done: {
    'a request of HEADERS alone': [REQUEST_WITH_END],
    'a request that DATA ended': [REQUEST, REQUEST_END],
    'a request that trailers ended': [REQUEST, REQUEST_WITH_END],
  },
  server_done: {
    'an answer of HEADERS alone, before the request has ended': [REQUEST, ANSWER_WITH_END],
    'an answer that DATA ended': [REQUEST, ANSWER, ANSWER_END],
  },
  closed: {
    'both have ended, the client first': [REQUEST_WITH_END, ANSWER_WITH_END],
    'both have ended, the server first': [REQUEST, ANSWER_WITH_END, REQUEST_END],
    'the client has reset it': [REQUEST, ['client', CANCEL]],
    'the server has reset it': [REQUEST_WITH_END, ['server', CANCEL]],
    'GOAWAY has refused it': [REQUEST, REFUSAL],
  },
};

interface Frame {
  readonly sent: Sent;
  readonly told: readonly string[];
}

/** A frame, and what is told of it where it is followed. */
function made(sender: Sender, bytes: Buffer, ...told: readonly string[]): Frame {
  return { sent: [sender, bytes], told: told.map((what) => `${STREAM} ${sender} ${what}`) };
}

function ends(sender: Sender): readonly Frame[] {
  return [
    made(sender, CONTENT_AND_END, 'data content', 'ended'),
    made(sender, END_ONLY, 'ended'),
    made(sender, HEADERS_AND_END, 'headers last', 'ended'),
  ];
}

/**
 * The frames that bring an event about. There is no end without a frame that has it: where its sender may not send, the
 * frame is what is refused.
 */
const FRAMES: Readonly<Record<StreamEvent, readonly Frame[]>> = {
  client_headers: [made('client', HEADERS_ONLY, 'headers first')],
  client_data: [made('client', CONTENT, 'data content')],
  client_end: ends('client'),
  server_headers: [made('server', HEADERS_ONLY, 'headers first')],
  server_data: [made('server', CONTENT, 'data content')],
  server_end: ends('server'),
  reset: [made('client', CANCEL, 'reset 8'), made('server', CANCEL, 'reset 8')],
};

/** RFC 9113 section 5.1: the state that follows, where a correct peer may send that at all. */
const NEXT: Readonly<Record<StreamState, Readonly<Partial<Record<StreamEvent, StreamState>>>>> = {
  idle: { client_headers: 'open' },
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
    server_headers: 'client_done',
    server_data: 'client_done',
    server_end: 'closed',
    reset: 'closed',
  },
  server_done: {
    client_headers: 'server_done',
    client_data: 'server_done',
    client_end: 'closed',
    reset: 'closed',
  },
  closed: {},
};

const STATES: readonly StreamState[] = ['idle', 'open', 'client_done', 'server_done', 'closed'];
const EVENTS: readonly StreamEvent[] = [
  'client_headers',
  'client_data',
  'client_end',
  'server_headers',
  'server_data',
  'server_end',
  'reset',
];
const PAIRS = STATES.flatMap((state) => EVENTS.map((event) => ({ state, event })));

/** A connection with both streams, the driven one in a state by one of the ways into it. */
function driven(way: readonly Sent[]): Followed {
  const followed = new Followed();
  followed.send('client', headers(BYSTANDER, { a: 'bystander' }));
  for (const [sender, bytes] of way) expect(followed.send(sender, bytes)).toBeUndefined();
  followed.news();
  return followed;
}

/** Tells a state by who may still send content in it. */
function stateAfter(sent: readonly Sent[]): StreamState | 'none' {
  const maySend = (sender: Sender): boolean => {
    const followed = driven(sent);
    return followed.send(sender, CONTENT) === undefined && followed.news().length === 1;
  };
  if (driven(sent).inspector.openStreams === 1) return 'closed';
  if (maySend('client')) return maySend('server') ? 'open' : 'server_done';
  return maySend('server') ? 'client_done' : 'none';
}

describe.each(PAIRS)('$state, $event', ({ state, event }) => {
  // A request of one HEADERS with END_STREAM is two events of an idle stream, and among the ways into `client_done`.
  const isRequest = (bytes: Buffer): boolean => bytes === HEADERS_AND_END && event === 'client_end';
  const frames = FRAMES[event].filter(({ sent: [, bytes] }) => state !== 'idle' || !isRequest(bytes));
  const next = NEXT[state][event];

  test.each(Object.entries(WAYS[state]))('%s', (_name, way) => {
    for (const { sent, told } of frames) {
      const followed = driven(way);
      const failure = followed.send(...sent);
      if (next !== undefined) {
        expect(failure).toBeUndefined();
        expect(followed.news()).toEqual(told);
        expect(stateAfter([...way, sent])).toBe(next);
      } else {
        // The frame was on its way when the stream ended, or its receiver says on the stream that it is wrong.
        expect(failure).toBeUndefined();
        expect(followed.news()).toEqual([]);
        expect(stateAfter([...way, sent])).toBe(state === 'idle' ? 'closed' : state);
      }
    }
  });
});

test('HEADERS that come late still change the table that later ones refer to', () => {
  const followed = driven(WAYS.closed['the server has reset it'] ?? []);
  // A literal `a: late` with incremental indexing, and then a reference to it.
  const late = Buffer.from([0x40, 1, 0x61, 4, ...Buffer.from('late')]);
  expect(followed.send('client', frame(HEADERS, END_HEADERS, STREAM, late))).toBeUndefined();
  expect(followed.news()).toEqual([]);
  followed.send('client', frame(HEADERS, END_HEADERS, STREAM + 2, [0xbe]));
  expect(followed.news()).toEqual([`${STREAM + 2} client headers late`]);
});

test('a client begins no stream with an even number, and none with one below its last', () => {
  const even = driven([]);
  expect(even.send('client', headers(8, { a: 'x' }))).toBeUndefined();
  expect(even.news()).toEqual([]);
  // That number counts as one of a stream that is over (RFC 9113 section 5.1.1).
  const below = driven([]);
  expect(below.send('client', headers(1, { a: 'x' }))).toBeUndefined();
  expect(below.news()).toEqual([]);
});
