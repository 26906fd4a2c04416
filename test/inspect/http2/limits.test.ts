import { describe, expect, test } from 'vitest';

import { FIELD_NAMES } from '../../../src/inspect/grpc/fields.js';
import { frame, pingFrame, resetFrame, settingsFrame } from '../../../src/inspect/http2/encode.js';
import { CLIENT_PREFACE, ErrorCode, Flag, FrameType } from '../../../src/inspect/http2/http2-frame.js';
import { Http2Inspector } from '../../../src/inspect/http2/http2-inspector.js';
import type { Sender } from '../../../src/inspect/sender.js';
import { ABUSE_LIMITS } from '../../../src/limits.js';

const PING = pingFrame(Buffer.alloc(8), 'ping');

/** An inspector of a connection that has begun, at one moment of time: no bucket fills by itself. */
function begun(): (sender: Sender, ...frames: Buffer[]) => string | undefined {
  const inspector = new Http2Inspector(FIELD_NAMES, {
    open: () => ({
      headers: () => undefined,
      data: () => undefined,
      ended: () => undefined,
      reset: () => undefined,
      cut: () => undefined,
    }),
    release: () => undefined,
  });
  const send = (sender: Sender, ...frames: Buffer[]): string | undefined => {
    const bytes = Buffer.concat(frames);
    return inspector.read(sender, bytes, 0, bytes.length, 0);
  };
  send('client', CLIENT_PREFACE, settingsFrame('settings'));
  return send;
}

const headers = (sender: Sender, streamId: number, flags = 0): Buffer =>
  frame(
    FrameType.headers,
    Flag.endHeaders | flags,
    streamId,
    Buffer.from([sender === 'client' ? 0x82 : 0x88]),
  );
const data = (streamId: number, length: number): Buffer =>
  frame(FrameType.data, 0, streamId, Buffer.alloc(length));
const windowUpdate = (streamId: number, increment: number): Buffer => {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(increment);
  return frame(FrameType.windowUpdate, 0, streamId, payload);
};

test('a busy client that cancels as many calls as are answered stays below the reset limit', () => {
  const send = begun();
  for (let streamId = 1; streamId < 20_000; streamId += 4) {
    expect(send('client', headers('client', streamId, Flag.endStream))).toBeUndefined();
    expect(send('server', headers('server', streamId, Flag.endStream))).toBeUndefined();
    const canceled = streamId + 2;
    expect(
      send('client', headers('client', canceled), resetFrame(canceled, ErrorCode.cancel)),
    ).toBeUndefined();
  }
});

test('a server that resets each request behind its answer stays below the reset limit', () => {
  const send = begun();
  for (let streamId = 1; streamId < 10_000; streamId += 2) {
    expect(send('client', headers('client', streamId))).toBeUndefined();
    const answer = [headers('server', streamId, Flag.endStream), resetFrame(streamId, ErrorCode.none)];
    expect(send('server', ...answer)).toBeUndefined();
  }
});

test('a PING and window updates for each frame of data, as gRPC libraries send them, stay below the limits', () => {
  const send = begun();
  send('client', headers('client', 1));
  send('server', headers('server', 1));
  for (let index = 0; index < 20_000; index++) {
    expect(send('server', data(1, 5))).toBeUndefined();
    expect(send('client', windowUpdate(0, 5), windowUpdate(1, 5), PING)).toBeUndefined();
  }
});

test('data that comes byte by byte because the window is opened byte by byte pays for nothing', () => {
  const send = begun();
  send('client', headers('client', 1));
  send('server', headers('server', 1), data(1, 65_535));
  let failure: string | undefined;
  let strokes = 0;
  while (failure === undefined && strokes < 20_000) {
    failure = send('client', windowUpdate(0, 1), windowUpdate(1, 1)) ?? send('server', data(1, 1));
    strokes++;
  }
  expect(failure).toBe('frame_flood');
  expect(strokes).toBeLessThan(6000);
});

describe('frames that make a server work for nothing are limited', () => {
  const { burst } = ABUSE_LIMITS.smallFrames;

  test.each<[what: string, before: readonly Buffer[], stroke: (index: number) => Buffer]>([
    ['acknowledgements of SETTINGS', [], () => settingsFrame('ack')],
    ['DATA of a stream that has not begun', [], () => data(7, 1)],
    ['DATA of streams that have not begun', [], (index) => data(2 * index + 1, 1)],
    ['DATA behind the end of the request', [headers('client', 1, Flag.endStream)], () => data(1, 1)],
    [
      'the end of a stream that has not begun',
      [],
      () => frame(FrameType.data, Flag.endStream, 7, Buffer.alloc(0)),
    ],
    ['HEADERS without end on one stream', [], () => headers('client', 1)],
    ['HEADERS of streams with even numbers', [], (index) => headers('client', 2 * index + 2)],
    [
      'HEADERS of streams with decreasing numbers',
      [headers('client', 99_999)],
      (index) => headers('client', 99_997 - 2 * index),
    ],
  ])('%s', (_what, before, stroke) => {
    const send = begun();
    send('client', ...before);
    let strokes = 0;
    while (strokes <= 2 * burst && send('client', stroke(strokes)) === undefined) strokes++;
    expect(send('client')).toBe('frame_flood');
    expect(strokes).toBeLessThanOrEqual(burst + 1);
  });

  test('but DATA of an open stream is not, however small', () => {
    const send = begun();
    send('client', headers('client', 1));
    for (let sent = 0; sent < 3 * burst; sent++) expect(send('client', data(1, 1))).toBeUndefined();
  });

  test('nor is DATA of a stream that may be open when calls can no longer be followed', () => {
    const send = begun();
    send('client', headers('client', 1));
    // A reference to an entry that is not there.
    const malformed = frame(FrameType.headers, Flag.endHeaders, 3, Buffer.from([0xff, 0x7f]));
    expect(send('client', malformed)).toBe('hpack_index');
    for (let sent = 0; sent < 3 * burst; sent++) expect(send('client', data(1, 1))).toBe('hpack_index');
    let failure: string | undefined = 'hpack_index';
    for (let sent = 0; sent <= burst && failure === 'hpack_index'; sent++)
      failure = send('client', data(5, 1));
    expect(failure).toBe('frame_flood');
  });
});
