import { describe, expect, test } from 'vitest';

import type { Sender } from '../../../src/inspect/sender.js';
import { Followed, opened } from './hand-made.js';
import {
  block,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  HEADERS,
  headers,
  RST_STREAM,
  settings,
  SETTINGS_ACK,
  uint32,
  WINDOW_UPDATE,
} from '../../support/http2-frames.js';

const [HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE] = [1, 4];
const DEFAULT_WINDOW = 65_535;
const A = block({ a: 'x' });

function windowUpdate(streamId: number, increment: number): Buffer {
  return frame(WINDOW_UPDATE, 0, streamId, uint32(increment));
}

describe('SETTINGS hold for their receiver once it has acknowledged them', () => {
  /** HEADERS of the client behind a change of its table's size. */
  const resized = (streamId: number, ...size: readonly number[]): Buffer =>
    frame(HEADERS, END_HEADERS, streamId, [...size, ...A]);
  /** RFC 7541 section 6.3: 4097, more than the 4096 that are allowed from the start. */
  const LARGER = [0x3f, 0xe2, 0x1f];

  test('a larger table may be used from then on, and not before', () => {
    const early = new Followed();
    expect(early.send('server', settings([HEADER_TABLE_SIZE, 4097]))).toBeUndefined();
    expect(early.send('client', resized(1, ...LARGER))).toBe('hpack_table_size');
    const followed = new Followed();
    followed.send('server', settings([HEADER_TABLE_SIZE, 4097]));
    expect(followed.send('client', SETTINGS_ACK, resized(1, ...LARGER))).toBeUndefined();
    expect(followed.news()).toEqual(['1 client headers x']);
    // It was the server's word about what the client writes, and says nothing about what the server writes.
    expect(followed.send('server', resized(1, ...LARGER))).toBe('hpack_table_size');
  });

  test('a smaller one need not be made so: Go does not ask for that', () => {
    const followed = new Followed();
    followed.send('server', settings([HEADER_TABLE_SIZE, 0]));
    expect(followed.send('client', resized(1))).toBeUndefined();
    expect(followed.send('client', SETTINGS_ACK)).toBeUndefined();
    expect(followed.send('client', resized(3))).toBeUndefined();
  });

  test('the initial window changes open streams by the difference, and new ones begin with it', () => {
    const followed = opened(1);
    const left = (streamId: number): unknown => {
      const { client, server } = followed.windows.get(streamId) ?? {};
      return [client?.bytes, server?.bytes];
    };
    followed.send('client', frame(DATA, 0, 1, Buffer.alloc(500)));
    followed.send('server', settings([INITIAL_WINDOW_SIZE, 100]), settings([INITIAL_WINDOW_SIZE, 1000]));
    expect(left(1)).toEqual([DEFAULT_WINDOW - 500, DEFAULT_WINDOW]);
    // The first SETTINGS are what the first acknowledgement is of. A window may become negative (section 6.9.2).
    followed.send('client', SETTINGS_ACK, headers(3, {}));
    expect([left(1), left(3)]).toEqual([
      [-400, DEFAULT_WINDOW],
      [100, DEFAULT_WINDOW],
    ]);
    followed.send('client', SETTINGS_ACK);
    expect([left(1), left(3)]).toEqual([
      [500, DEFAULT_WINDOW],
      [1000, DEFAULT_WINDOW],
    ]);
    followed.send('client', settings([INITIAL_WINDOW_SIZE, 7]));
    followed.send('server', SETTINGS_ACK);
    expect(left(3)).toEqual([1000, 7]);
    expect(followed.inspector.windows.client.bytes).toBe(DEFAULT_WINDOW - 500);
    expect(followed.inspector.windows.server.bytes).toBe(DEFAULT_WINDOW);
  });

  test('an acknowledgement of SETTINGS that were not sent is ignored', () => {
    expect(opened().send('client', SETTINGS_ACK)).toBeUndefined();
    const followed = opened();
    followed.send('server', settings());
    expect(followed.send('client', SETTINGS_ACK)).toBeUndefined();
    expect(followed.send('client', SETTINGS_ACK)).toBeUndefined();
  });
});

test('an end stalls from the byte that uses up a window until WINDOW_UPDATE of the other, or its own end', () => {
  const followed = opened(1, 3);
  const [one, three] = [followed.windows.get(1), followed.windows.get(3)];
  const { client, server } = followed.inspector.windows;
  const at = (nowMs: number, sender: Sender, bytes: Buffer): void => {
    followed.nowMs = nowMs;
    expect(followed.send(sender, bytes)).toBeUndefined();
  };
  const stalls = (nowMs: number): unknown =>
    [one?.client, one?.server, three?.client, client, server].map((window) => window?.stalledMs(nowMs));
  at(1000, 'client', frame(DATA, 0, 1, Buffer.alloc(DEFAULT_WINDOW - 1)));
  expect(stalls(2000)).toEqual([0, 0, 0, 0, 0]);
  at(2000, 'client', frame(DATA, 0, 1, [0]));
  expect(stalls(2010)).toEqual([10, 0, 0, 10, 0]);
  // What the client gives is for the server to use.
  at(2020, 'client', Buffer.concat([windowUpdate(0, 5), windowUpdate(1, 5)]));
  at(2030, 'server', windowUpdate(0, 100));
  expect(stalls(2040)).toEqual([40, 0, 0, 30, 0]);
  at(2050, 'server', windowUpdate(1, 1));
  expect(stalls(3000)).toEqual([50, 0, 0, 30, 0]);
  expect([one?.client.bytes, client.bytes, server.bytes]).toEqual([1, 100, DEFAULT_WINDOW + 5]);
  // Late content of a stream that is over counts for the connection; an end of the sender's own waits for nothing.
  at(3000, 'client', frame(DATA, END_STREAM, 1, [0]));
  at(3100, 'client', frame(RST_STREAM, 0, 3, uint32(8)));
  at(3200, 'client', frame(DATA, 0, 3, Buffer.alloc(99)));
  expect(stalls(3300)).toEqual([50, 0, 0, 130, 0]);
});
