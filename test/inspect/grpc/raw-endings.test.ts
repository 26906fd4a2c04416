import { describe, expect, test } from 'vitest';

import type { CallEnd } from '../../../src/inspect/grpc/call.js';
import { FollowedConnection } from '../../../src/inspect/grpc/followed-connection.js';
import type { Sender } from '../../../src/inspect/sender.js';
import {
  DATA,
  END_STREAM,
  frame,
  GOAWAY,
  headers,
  WINDOW_UPDATE,
  RST_STREAM,
  uint32,
} from '../../support/http2-frames.js';

/** When the calls begin, by the clock that is shown to the inspector. */
const START_MS = 5000;
const [NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL] = [0, 2, 7, 8];

/** A connection whose calls are told of by the number of their stream. */
class Calls {
  readonly ended: [streamId: number, end: CallEnd][] = [];
  readonly lost: [streamId: number, nowMs: number][] = [];
  readonly connection = new FollowedConnection(
    { protocol: 'http2', direction: 'to_upstream' },
    {
      started: ({ streamId }) => ({
        moved: () => undefined,
        ended: (end) => this.ended.push([streamId, end]),
        lost: (nowMs) => this.lost.push([streamId, nowMs]),
      }),
    },
  );

  constructor() {
    this.send('client', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'));
  }

  /** With a call open on each of these streams. */
  static begun(...streamIds: readonly number[]): Calls {
    const calls = new Calls();
    for (const streamId of streamIds) calls.request(streamId);
    return calls;
  }

  request(streamId: number, fields: Readonly<Record<string, string>> = {}): void {
    this.send('client', headers(streamId, { ':path': '/a.B/C', ...fields }));
  }

  send(sender: Sender, bytes: Buffer, nowMs = START_MS): string | undefined {
    return this.connection.read(sender, bytes, 0, bytes.length, nowMs);
  }

  get running(): number[] {
    return [...this.connection.calls()].map(({ streamId }) => streamId);
  }
}

function reset(streamId: number, errorCode: number): Buffer {
  return frame(RST_STREAM, 0, streamId, uint32(errorCode));
}

describe('an answer that is only an HTTP status', () => {
  // doc/http-grpc-status-mapping.md of the gRPC repository.
  test.each<readonly [string, string]>([
    ['400', 'Internal'],
    ['401', 'Unauthenticated'],
    ['403', 'PermissionDenied'],
    ['404', 'Unimplemented'],
    ...['429', '502', '503', '504'].map((status) => [status, 'Unavailable'] as const),
    ...['500', '501', '302', '200'].map((status) => [status, 'Unknown'] as const),
  ])('%s: %s', (status, code) => {
    const alone = Calls.begun(1);
    alone.send(
      'server',
      headers(1, { ':status': status, 'content-type': 'text/html' }, END_STREAM),
      START_MS + 7,
    );
    const end = { code, by: 'server', answered: false, message: undefined, endedAtMs: START_MS + 7 };
    expect(alone.ended).toEqual([[1, end]]);
    const withPage = Calls.begun(1);
    withPage.send('server', headers(1, { ':status': status }));
    withPage.send('client', frame(DATA, END_STREAM, 1));
    expect(withPage.ended).toEqual([]);
    withPage.send('server', frame(DATA, END_STREAM, 1, Buffer.from('<html>')), START_MS + 7);
    expect(withPage.ended).toEqual([[1, end]]);
  });
});

test('interim answers are not the answer', () => {
  const calls = Calls.begun(1, 3);
  calls.send('server', headers(1, { ':status': '103' }));
  calls.send('server', headers(1, { ':status': '200' }));
  calls.send('server', headers(1, { 'grpc-status': '0' }, END_STREAM));
  calls.send('server', headers(3, { ':status': '100' }));
  calls.send('server', headers(3, { ':status': '503' }, END_STREAM));
  expect(calls.ended).toMatchObject([
    [1, { code: 'OK', answered: true }],
    [3, { code: 'Unavailable', answered: false }],
  ]);
});

describe('grpc-status', () => {
  const NAMES =
    'OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated'.split(
      ' ',
    );

  test.each([
    ...NAMES.map((name, code) => [String(code), name] as const),
    ...['17', '99', '-1', '007', '00', '', 'OK'].map((value) => [value, 'Unknown'] as const),
  ])('"%s" is %s, alone and in trailers', (value, code) => {
    const fields = { 'grpc-status': value, 'grpc-message': 'no%20such' };
    const alone = Calls.begun(1);
    alone.send('server', headers(1, { ':status': '200', ...fields }, END_STREAM));
    const end = { code, by: 'server', answered: true, message: 'no%20such', endedAtMs: START_MS };
    expect(alone.ended).toEqual([[1, end]]);
    const inTrailers = Calls.begun(1);
    inTrailers.send('server', headers(1, { ':status': '200' }));
    inTrailers.send('server', headers(1, fields, END_STREAM));
    expect(inTrailers.ended).toEqual([[1, end]]);
  });

  test('counts for more than an HTTP status; such an answer is not of the method', () => {
    const calls = Calls.begun(1);
    calls.send('server', headers(1, { ':status': '404', 'grpc-status': '14' }, END_STREAM));
    expect(calls.ended).toMatchObject([[1, { code: 'Unavailable', answered: false }]]);
  });

  test('in the headers of an answer with content counts where its trailers have none', () => {
    const calls = Calls.begun(1);
    calls.send('server', headers(1, { ':status': '200', 'grpc-status': '5' }));
    calls.send('server', headers(1, { x: 'y' }, END_STREAM));
    expect(calls.ended).toMatchObject([[1, { code: 'NotFound', answered: true }]]);
  });
});

describe('RST_STREAM of the server', () => {
  // PROTOCOL-HTTP2.md of the gRPC repository, "Errors".
  const INTERNAL = [NO_ERROR, 1, INTERNAL_ERROR, 3, 4, 6, 9, 10, 13, 0x1234];
  test.each<readonly [number, string]>([
    ...INTERNAL.map((errorCode) => [errorCode, 'Internal'] as const),
    [REFUSED_STREAM, 'Unavailable'],
    [CANCEL, 'Canceled'],
    [11, 'ResourceExhausted'],
    [12, 'PermissionDenied'],
  ])('with code %i is %s', (errorCode, code) => {
    const calls = Calls.begun(1);
    calls.send('server', headers(1, { ':status': '200' }));
    calls.send('server', reset(1, errorCode));
    expect(calls.ended).toMatchObject([[1, { code, by: 'server', answered: false }]]);
  });

  test('a reset behind an answer only means that the rest of the request is not wanted', () => {
    const calls = Calls.begun(1);
    calls.send('server', headers(1, { ':status': '200', 'grpc-status': '0' }, END_STREAM));
    // The stream is half open still, and the call over.
    expect([calls.connection.http2.openStreams, calls.running]).toEqual([1, []]);
    calls.send('server', reset(1, NO_ERROR), START_MS + 9);
    calls.connection.end('connection', START_MS + 9);
    expect(calls.ended).toMatchObject([[1, { code: 'OK', endedAtMs: START_MS }]]);
  });
});

describe('RST_STREAM with CANCEL at the deadline', () => {
  // The last tenth of the time counts as its end, and of a long time the last 200 ms.
  test.each([
    ['100m', 90],
    ['2S', 1800],
    ['1M', 59_800],
    ['1H', 3_599_800],
    ['200000u', 180],
    ['50000000n', 45],
  ])('grpc-timeout %s: Canceled before %i ms, and DeadlineExceeded from then on', (timeout, atMs) => {
    for (const sender of ['client', 'server'] as const) {
      const outcomes = [atMs - 1, atMs].map((elapsedMs) => {
        const calls = new Calls();
        calls.request(1, { 'grpc-timeout': timeout });
        calls.send(sender, reset(1, CANCEL), START_MS + elapsedMs);
        expect(calls.ended).toMatchObject([[1, { by: sender, endedAtMs: START_MS + elapsedMs }]]);
        return calls.ended[0]?.[1].code;
      });
      expect(outcomes).toEqual(['Canceled', 'DeadlineExceeded']);
    }
  });

  test.each(['123456789m', '1s', 'm', '1.5S', '-1S', '10m ', undefined])(
    '%s is not a valid timeout',
    (timeout) => {
      const calls = new Calls();
      calls.request(1, timeout === undefined ? {} : { 'grpc-timeout': timeout });
      calls.send('client', reset(1, CANCEL), START_MS + 1e9);
      expect(calls.ended).toMatchObject([[1, { code: 'Canceled', by: 'client' }]]);
    },
  );

  test('a client cancels whatever code it sends; a server that fails late has failed all the same', () => {
    const calls = Calls.begun(1);
    calls.request(3, { 'grpc-timeout': '1m' });
    calls.send('client', reset(1, INTERNAL_ERROR));
    calls.send('server', reset(3, INTERNAL_ERROR), START_MS + 1000);
    expect(calls.ended.map(([streamId, { code, by }]) => [streamId, code, by])).toEqual([
      [1, 'Canceled', 'client'],
      [3, 'Internal', 'server'],
    ]);
  });
});

test('GOAWAY and the end of the connection make Unavailable what was open, each once', () => {
  const calls = Calls.begun(1, 3, 5, 7);
  calls.send('server', reset(1, REFUSED_STREAM));
  calls.send('server', frame(GOAWAY, 0, 0, uint32(3, NO_ERROR)), START_MS + 1);
  expect(calls.running).toEqual([3]);
  calls.connection.end('connection', START_MS + 2);
  calls.connection.end('connection', START_MS + 3);
  expect(calls.running).toEqual([]);
  expect(
    calls.ended.map(([streamId, { code, by, endedAtMs }]) => [streamId, code, by, endedAtMs - START_MS]),
  ).toEqual([
    [1, 'Unavailable', 'server', 0],
    [5, 'Unavailable', 'server', 1],
    [7, 'Unavailable', 'server', 1],
    [3, 'Unavailable', 'connection', 2],
  ]);
  expect(calls.lost).toEqual([]);
});

test('of what cannot be followed every call that runs is lost, once, and has no end', () => {
  const calls = Calls.begun(1, 3, 5);
  calls.send('server', headers(3, { ':status': '200', 'grpc-status': '5' }, END_STREAM));
  expect(calls.send('server', frame(WINDOW_UPDATE, 0, 1, [1]), START_MS + 1)).toBe('frame');
  expect(calls.send('server', reset(1, CANCEL), START_MS + 2)).toBe('frame');
  calls.connection.end('connection', START_MS + 3);
  expect(calls.lost).toEqual([
    [1, START_MS + 1],
    [5, START_MS + 1],
  ]);
  expect(calls.ended).toMatchObject([[3, { code: 'NotFound' }]]);
});
