import { describe, expect, test } from 'vitest';

import type { Http2Loss } from '../../../src/inspect/http2/http2-side.js';
import type { Sender } from '../../../src/inspect/sender.js';
import { MAX_COLLECTED_FRAME_BYTES, MAX_CONTINUATION_FRAMES } from '../../../src/limits.js';
import { opened } from './hand-made.js';
import {
  ACK,
  block,
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  GOAWAY,
  HEADERS,
  headers,
  PADDED,
  PING,
  PRIORITY,
  PUSH_PROMISE,
  RST_STREAM,
  SETTINGS,
  settings,
  uint32,
  WINDOW_UPDATE,
  WITH_PRIORITY,
} from '../../support/http2-frames.js';

const A = block({ a: 'x' });

function goAway(lastStreamId: number): Buffer {
  return frame(GOAWAY, 0, 0, Buffer.concat([uint32(lastStreamId, 0), Buffer.from('debug data')]));
}

describe('padding and priority', () => {
  test('padding of DATA counts against the windows and not as content, wherever the frame is split', () => {
    const bytes = frame(DATA, PADDED | END_STREAM, 1, [3, ...Buffer.from('content'), 0, 0, 0]);
    for (let split = 0; split <= bytes.length; split++) {
      const followed = opened(1);
      followed.send('client', bytes.subarray(0, split));
      expect(followed.send('client', bytes.subarray(split))).toBeUndefined();
      const told = followed.news();
      expect(told.pop()).toBe('1 client ended');
      expect(told.map((line) => line.slice('1 client data '.length)).join('')).toBe('content');
      expect(followed.inspector.windows.client.bytes).toBe(65_535 - 11);
    }
    const empty = opened(1);
    expect(empty.send('client', frame(DATA, PADDED | END_STREAM, 1, [2, 0, 0]))).toBeUndefined();
    expect(empty.news()).toEqual(['1 client ended']);
  });

  test('padding of HEADERS is not part of the block, whether the block is complete or continued', () => {
    const followed = opened();
    const priority = [0x80, 0, 0, 0, 15];
    followed.send('client', frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, [...priority, ...A]));
    followed.send('client', frame(HEADERS, END_HEADERS | PADDED, 3, [2, ...A, 0xff, 0xff]));
    const both = [1, ...priority, ...A.subarray(0, 2), 0xff];
    followed.send('client', frame(HEADERS, PADDED | WITH_PRIORITY, 5, both));
    followed.send('client', frame(CONTINUATION, END_HEADERS, 5, A.subarray(2)));
    expect(followed.news()).toEqual([1, 3, 5].map((streamId) => `${streamId} client headers x`));
  });
});

describe('header blocks in parts', () => {
  const [BEGIN, END] = [frame(HEADERS, END_STREAM, 3, A.subarray(0, 1)), A.subarray(1)];

  test('HEADERS and CONTINUATION are one block, reported with its END_STREAM when complete; the peer may send meanwhile', () => {
    const followed = opened(1);
    followed.send('client', BEGIN, frame(CONTINUATION, 0, 3), frame(CONTINUATION, 0, 3, END.subarray(0, 2)));
    followed.send('server', headers(1, {}), frame(PING, 0, 0, Buffer.alloc(8)));
    expect(followed.news()).toEqual(['1 server headers -']);
    expect(followed.send('client', frame(CONTINUATION, END_HEADERS, 3, END.subarray(2)))).toBeUndefined();
    expect(followed.news()).toEqual(['3 client headers x', '3 client ended']);
  });

  test.each([
    ['DATA', frame(DATA, 0, 1)],
    ['HEADERS', headers(5, {})],
    ['HEADERS of the same stream', headers(3, {})],
    ['SETTINGS', settings()],
    ['PING', frame(PING, 0, 0, Buffer.alloc(8))],
    ['an unknown type', frame(0xbb, 0, 3)],
    ['CONTINUATION of another stream', frame(CONTINUATION, END_HEADERS, 1, END)],
  ])('are lost by %s between', (_name, between) => {
    expect(opened(1).send('client', BEGIN, between)).toBe('interleaved_block');
  });

  test('are lost by more small parts than the limit', () => {
    const parts = Buffer.concat(Array<Buffer>(MAX_CONTINUATION_FRAMES + 1).fill(frame(CONTINUATION, 0, 3)));
    expect(opened(1).send('client', BEGIN, parts)).toBe('continuation');
  });

  test('do not begin with CONTINUATION, and as many as are followed are', () => {
    expect(opened(1).send('client', frame(CONTINUATION, END_HEADERS, 1, A))).toBe('interleaved_block');
    const parts = Array<Buffer>(MAX_CONTINUATION_FRAMES - 1).fill(frame(CONTINUATION, 0, 3));
    expect(
      opened().send('client', BEGIN, ...parts, frame(CONTINUATION, END_HEADERS, 3, END)),
    ).toBeUndefined();
  });
});

test('frames of types that are not needed are skipped: PRIORITY, PING, unknown ones, of any size', () => {
  const followed = opened(1);
  for (const sender of ['client', 'server'] as const) {
    for (const type of [PRIORITY, PING, 10, 0x10, 0xff])
      expect(
        followed.send(sender, frame(type, 0xff, 1, Buffer.alloc(MAX_COLLECTED_FRAME_BYTES + 1))),
      ).toBeUndefined();
  }
  expect(followed.news()).toEqual([]);
  followed.send('client', frame(DATA, 0, 1, Buffer.from('next')));
  expect(followed.news()).toEqual(['1 client data next']);
});

test('GOAWAY of the server refuses the streams above its last; the client has none to refuse', () => {
  const followed = opened(1, 3, 5, 7);
  expect(followed.send('client', goAway(0))).toBeUndefined();
  expect(followed.send('server', goAway(0x7fff_ffff))).toBeUndefined();
  expect(followed.news()).toEqual([]);
  expect(followed.send('server', goAway(3))).toBeUndefined();
  expect(followed.news()).toEqual(['5 cut refused', '7 cut refused']);
  // What the client had sent before it knew is passed over, and the others go on.
  expect(followed.send('client', frame(DATA, END_STREAM, 7, Buffer.from('late')))).toBeUndefined();
  expect(followed.send('client', frame(DATA, END_STREAM, 3))).toBeUndefined();
  expect(followed.news()).toEqual(['3 client ended']);
});

test.each([
  ['PUSH_PROMISE', frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2, ...A])],
  ['HEADERS with more padding than payload', frame(HEADERS, END_HEADERS | PADDED, 3, [3, 0, 0])],
  ['RST_STREAM without a stream', frame(RST_STREAM, 0, 0, uint32(8))],
  ['RST_STREAM of a stream that never began', frame(RST_STREAM, 0, 9, uint32(8))],
  ['DATA of a stream that never began', frame(DATA, 0, 9, [1, 2, 3])],
  ['an acknowledgement of nothing', frame(SETTINGS, ACK, 0)],
])('%s, which Go ignores or answers on its stream, does not lose the connection', (_name, bytes) => {
  for (const sender of ['client', 'server'] as const) {
    const followed = opened(1);
    expect(followed.send(sender, bytes)).toBeUndefined();
    followed.send('client', headers(11, { a: 'next' }));
    expect(followed.news()).toEqual(['11 client headers next']);
  }
});

test.each<[Http2Loss, string, Buffer, Sender?]>([
  ['frame', 'DATA without a stream', frame(DATA, 0, 0)],
  ['frame', 'DATA whose padding has no length', frame(DATA, PADDED, 1)],
  ['frame', 'DATA with as much padding as payload', frame(DATA, PADDED, 1, [3, 0, 0])],
  ['frame', 'HEADERS without a stream', frame(HEADERS, END_HEADERS, 0, A)],
  ['frame', 'HEADERS whose padding has no length', frame(HEADERS, END_HEADERS | PADDED, 3)],
  [
    'frame',
    'HEADERS too short for their priority',
    frame(HEADERS, END_HEADERS | WITH_PRIORITY, 3, [0, 0, 0, 0]),
  ],
  ['frame', 'RST_STREAM of 3 bytes', frame(RST_STREAM, 0, 1, [0, 0, 0])],
  ['frame', 'RST_STREAM of 5 bytes', frame(RST_STREAM, 0, 1, [0, 0, 0, 0, 8])],
  ['frame', 'WINDOW_UPDATE of 3 bytes', frame(WINDOW_UPDATE, 0, 0, [0, 0, 1])],
  ['frame', 'WINDOW_UPDATE of 5 bytes', frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 0, 1])],
  ['frame', 'GOAWAY of 7 bytes', frame(GOAWAY, 0, 0, Buffer.alloc(7)), 'server'],
  ['frame', 'GOAWAY of a stream', frame(GOAWAY, 0, 1, uint32(1, 0)), 'server'],
  ['frame', 'SETTINGS of a stream', frame(SETTINGS, 0, 1)],
  ['frame', 'an acknowledgement that says something', frame(SETTINGS, ACK, 0, Buffer.alloc(6))],
  ['settings', 'SETTINGS with half a value', frame(SETTINGS, 0, 0, Buffer.alloc(9))],
  ['settings', 'a window of 2^31', settings([4, 2 ** 31])],
  [
    'unacknowledged_settings',
    '17 SETTINGS without an answer',
    Buffer.concat(Array<Buffer>(16).fill(settings())),
  ],
])('%s is lost by %s', (reason, _name, bytes, sender = 'client') => {
  const followed = opened(1);
  followed.send('client', settings());
  followed.send('server', settings());
  expect(followed.send(sender, bytes)).toBe(reason);
  expect(followed.news()).toEqual(['1 cut lost']);
});
