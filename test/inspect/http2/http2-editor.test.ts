import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { trailersOnly } from '../../../src/inspect/grpc/trailers-only.js';
import { neverIndexed } from '../../../src/inspect/hpack/literal-field.js';
import { goAwayFrame, MAX_STREAM_ID, pingFrame } from '../../../src/inspect/http2/encode.js';
import { CLIENT_PREFACE } from '../../../src/inspect/http2/http2-frame.js';
import {
  MAX_FIELD_VALUE_BYTES,
  MAX_HELD_BLOCK_BYTES,
  MAX_REFUSED_STREAMS,
  MAX_UNSENT_REFUSALS,
} from '../../../src/limits.js';
import type { CallPermit, JudgedCall } from '../../../src/policy/call-judge.js';
import { HpackWriter } from '../../support/hpack-writer.js';
import {
  block,
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  framesOf,
  HEADERS,
  headers,
  PADDED,
  PING,
  PRIORITY,
  RST_STREAM,
  settings,
  SETTINGS_ACK,
  uint32,
  WINDOW_UPDATE,
  WITH_PRIORITY,
} from '../../support/http2-frames.js';
import { ALLOWED, JudgedConnection, REFUSED } from '../../support/judged-connection.js';

const PROTOCOL_ERROR = 1;
const CANCEL = 8;
const TOKEN = Buffer.from('12345678');
const ANSWER = trailersOnly(REFUSED.code, REFUSED.message);
const POISON = neverIndexed('connection', 'close');

/** Refuses calls whose path has `no`. */
function judge({ path }: JudgedCall): typeof ALLOWED | typeof REFUSED {
  return path.includes('no') ? REFUSED : ALLOWED;
}

/** A connection whose ends have sent their SETTINGS. */
function opened(itsJudge: ConstructorParameters<typeof JudgedConnection>[0] = judge): JudgedConnection {
  const connection = new JudgedConnection(itsJudge);
  connection.send('client', Buffer.concat([CLIENT_PREFACE, settings()]));
  connection.send('server', Buffer.concat([settings(), SETTINGS_ACK]));
  connection.received('client');
  connection.received('server');
  return connection;
}

function request(streamId: number, path: string, flags = 0): Buffer {
  return headers(streamId, { ':path': path }, flags);
}

function data(streamId: number, length: number, flags = 0): Buffer {
  return frame(DATA, flags, streamId, Buffer.alloc(length, 7));
}

function reset(streamId: number, code: number): Buffer {
  return frame(RST_STREAM, 0, streamId, uint32(code));
}

/** The block of a refused call, as it is forwarded. */
function poisoned(streamId: number, path: string, flags = 0): Buffer {
  return Buffer.concat([
    frame(HEADERS, flags, streamId, block({ ':path': path })),
    frame(CONTINUATION, END_HEADERS, streamId, POISON),
  ]);
}

function answer(streamId: number): Buffer {
  return frame(HEADERS, END_HEADERS | END_STREAM, streamId, ANSWER);
}

function windowUpdate(bytes: number): Buffer {
  return frame(WINDOW_UPDATE, 0, 0, uint32(bytes));
}

describe('an allowed call', () => {
  test('passes in the very buffer that it came in, with the frames around it', () => {
    const { editor } = opened();
    const bytes = Buffer.concat([
      request(1, '/ok'),
      data(1, 100, END_STREAM),
      pingFrame(TOKEN, 'ping'),
      request(3, '/ok', END_STREAM),
    ]);
    expect(editor.pass('client', bytes, 0)).toBe(bytes);
    const answers = Buffer.concat([headers(1, { a: 'b' }), data(1, 10), headers(1, {}, END_STREAM)]);
    expect(editor.pass('server', answers, 0)).toBe(answers);
  });

  test('is held until its header block is whole and was judged', () => {
    const judged: string[] = [];
    const connection = opened(({ path }) => {
      judged.push(path);
      return ALLOWED;
    });
    const whole = block({ ':path': '/ok', a: 'b' });
    const first = frame(HEADERS, END_STREAM, 1, whole.subarray(0, 12));
    const last = frame(CONTINUATION, END_HEADERS, 1, whole.subarray(12));
    connection.send('client', first);
    connection.send('client', last.subarray(0, -1));
    expect(connection.received('server')).toHaveLength(0);
    expect(judged).toEqual([]);
    connection.send('client', last.subarray(-1));
    expect(connection.received('server')).toEqual(Buffer.concat([first, last]));
    expect(judged).toEqual(['/ok']);
  });

  test('gets the fields of the judge at the end of its block, and ends its permit once', () => {
    let ended = 0;
    const fields = Buffer.concat([neverIndexed('authorization', 'Bearer x'), neverIndexed('a', 'b')]);
    const permit: CallPermit = { kind: 'forward', fields, ended: () => ended++ };
    const connection = opened(() => permit);
    connection.send('client', Buffer.concat([request(1, '/ok'), data(1, 3, END_STREAM)]));
    expect(connection.received('server')).toEqual(
      Buffer.concat([
        frame(HEADERS, 0, 1, block({ ':path': '/ok' })),
        frame(CONTINUATION, END_HEADERS, 1, fields),
        data(1, 3, END_STREAM),
      ]),
    );
    expect(ended).toBe(0);
    connection.send('server', headers(1, { ':status': '200', 'grpc-status': '0' }, END_STREAM));
    connection.followed.end('connection', 0);
    expect(ended).toBe(1);
    expect(connection.ends.get(1)).toBe('OK server answered');
  });

  test('gets fields that exceed one frame in several', () => {
    const fields = neverIndexed('a', 'b'.repeat(20_000));
    const connection = opened(() => ({ kind: 'forward', fields }));
    connection.send('client', request(1, '/ok'));
    const [first, ...rest] = framesOf(connection.received('server'));
    expect(first?.flags).toBe(0);
    expect(rest.map(({ type, flags, payload }) => [type, flags, payload.length])).toEqual([
      [CONTINUATION, 0, 16_384],
      [CONTINUATION, END_HEADERS, fields.length - 16_384],
    ]);
  });
});

describe('a refused call', () => {
  test('is forwarded poisoned, and answered at once; the reset of the server is not forwarded', () => {
    const connection = opened();
    connection.send('client', request(1, '/no', END_STREAM));
    expect(connection.received('server')).toEqual(poisoned(1, '/no', END_STREAM));
    expect(connection.received('client')).toEqual(answer(1));
    expect(connection.ends.get(1)).toBe('PermissionDenied proxy not allowed');
    connection.send('server', Buffer.concat([reset(1, PROTOCOL_ERROR), pingFrame(TOKEN, 'ping')]));
    expect(connection.received('client')).toEqual(pingFrame(TOKEN, 'ping'));
  });

  test('whose client may still send gets RST_STREAM with NO_ERROR behind the answer', () => {
    const connection = opened();
    connection.send('client', request(1, '/no'));
    expect(connection.received('client')).toEqual(Buffer.concat([answer(1), reset(1, 0)]));
  });

  test('is answered only between two frames of the server, and not before its SETTINGS', () => {
    const connection = new JudgedConnection(judge);
    connection.send(
      'client',
      Buffer.concat([CLIENT_PREFACE, settings(), request(1, '/ok'), request(3, '/no')]),
    );
    expect(connection.received('client')).toHaveLength(0);
    connection.send('server', settings());
    expect(connection.received('client')).toEqual(Buffer.concat([settings(), answer(3), reset(3, 0)]));
    const content = data(1, 20);
    connection.send('server', Buffer.concat([headers(1, {}), content.subarray(0, 15)]));
    connection.send('client', request(5, '/no', END_STREAM));
    connection.received('client');
    connection.send('server', Buffer.concat([content.subarray(15), data(1, 3)]));
    expect(connection.received('client')).toEqual(
      Buffer.concat([content.subarray(15), answer(5), data(1, 3)]),
    );
  });

  test('keeps its padding, priority and split, and only loses END_HEADERS', () => {
    const connection = opened();
    const whole = block({ ':path': '/no' });
    const payload = Buffer.concat([Buffer.of(3), Buffer.alloc(5), whole.subarray(0, 4), Buffer.alloc(3)]);
    const first = frame(HEADERS, PADDED | WITH_PRIORITY | END_STREAM, 1, payload);
    connection.send('client', Buffer.concat([first, frame(CONTINUATION, END_HEADERS, 1, whole.subarray(4))]));
    expect(connection.received('server')).toEqual(
      Buffer.concat([
        first,
        frame(CONTINUATION, 0, 1, whole.subarray(4)),
        frame(CONTINUATION, END_HEADERS, 1, POISON),
      ]),
    );
  });

  test('leaves the HPACK tables in step: the next block may refer to its entries', () => {
    const paths: string[] = [];
    const connection = opened(({ path }) => {
      paths.push(path);
      return REFUSED;
    });
    const writer = new HpackWriter();
    const first = writer.field([':path', '/no'], 'into_table');
    const second = Buffer.concat([
      writer.field([':path', '/no'], 'indexed'),
      writer.field(['a', 'b'], 'into_table'),
    ]);
    const third = writer.field([':path', '/no'], 'indexed');
    connection.send('client', frame(HEADERS, END_HEADERS | END_STREAM, 1, first));
    connection.send('client', frame(HEADERS, END_HEADERS | END_STREAM, 3, second));
    connection.send('client', frame(HEADERS, END_HEADERS | END_STREAM, 5, third));
    expect(paths).toEqual(['/no', '/no', '/no']);
    const blocks = framesOf(connection.received('server')).filter(({ type }) => type === HEADERS);
    expect(blocks.map(({ payload }) => payload)).toEqual([first, second, third]);
  });

  test('sends no DATA, reset or WINDOW_UPDATE to the server; the window of the connection is restored, padding included', () => {
    const connection = opened();
    connection.send('client', request(1, '/no'));
    connection.received('client');
    connection.received('server');
    const padded = frame(DATA, PADDED, 1, Buffer.concat([Buffer.of(10), Buffer.alloc(30)]));
    connection.send('client', Buffer.concat([data(1, 100), padded, frame(WINDOW_UPDATE, 0, 1, uint32(9))]));
    expect(connection.received('client')).toEqual(windowUpdate(131));
    connection.send('client', data(1, 5, END_STREAM));
    expect(connection.received('client')).toEqual(windowUpdate(5));
    expect(connection.received('server')).toHaveLength(0);
    const { windows } = connection.followed.http2;
    expect(windows.client.bytes).toBe(65_535);
  });

  test('whose client resets it before the answer could be sent is not answered', () => {
    const connection = opened();
    connection.send('client', Buffer.concat([request(1, '/no'), data(1, 10), reset(1, CANCEL)]));
    expect(connection.received('client')).toEqual(windowUpdate(10));
    expect(connection.received('server')).toEqual(poisoned(1, '/no'));
    expect(connection.ends.get(1)).toBe('Canceled client');
    connection.send('server', reset(1, PROTOCOL_ERROR));
    expect(connection.received('client')).toHaveLength(0);
  });

  test('whose client resets it after the answer is forgotten', () => {
    const connection = opened();
    connection.send('client', request(1, '/no'));
    connection.send('client', reset(1, CANCEL));
    connection.send('server', reset(1, PROTOCOL_ERROR));
    expect(connection.received('server')).toEqual(poisoned(1, '/no'));
    expect(connection.received('client')).toEqual(Buffer.concat([answer(1), reset(1, 0)]));
    expect(connection.ends.get(1)).toBe('PermissionDenied proxy not allowed');
  });

  test('is not taken for a limit that its client exceeds, however much is still on its way', () => {
    const connection = opened();
    const frames = Array.from({ length: 20_000 }, () => data(1, 1));
    connection.send('client', Buffer.concat([request(1, '/no'), ...frames, reset(1, CANCEL)]));
    for (let streamId = 3; streamId < 30_000; streamId += 2) {
      connection.send('client', request(streamId, '/no'));
      connection.send('client', Buffer.concat([data(streamId, 1), reset(streamId, CANCEL)]));
      connection.send('server', reset(streamId, PROTOCOL_ERROR));
    }
    expect(connection.editor.failure).toBeUndefined();
  });

  test('is remembered within a bound: later frames of the oldest are forwarded', () => {
    const connection = opened();
    const last = 1 + 2 * MAX_REFUSED_STREAMS;
    for (let streamId = 1; streamId <= last; streamId += 2) {
      connection.send('client', request(streamId, '/no'));
      connection.send('server', reset(streamId, PROTOCOL_ERROR));
    }
    connection.received('server');
    connection.send('client', Buffer.concat([data(3, 1), data(1, 1)]));
    expect(connection.received('server')).toEqual(data(1, 1));
  });

  test('ends the connection if the server answers it other than by a reset', () => {
    const connection = opened();
    connection.send('client', request(1, '/no'));
    connection.received('client');
    connection.send('server', Buffer.concat([frame(WINDOW_UPDATE, 0, 1, uint32(1)), headers(1, { a: 'b' })]));
    expect(connection.editor.failure).toBe('refused_call_answered');
    expect(connection.received('client')).toHaveLength(0);
  });
});

test('100 refused uploads and an allowed one leave the whole window to the client', () => {
  const connection = opened();
  for (let streamId = 1; streamId < 200; streamId += 2) {
    // The client may send its window before it knows of the refusal.
    connection.send('client', request(streamId, '/no'));
    for (let sent = 0; sent < 65_535; sent += 4369) connection.send('client', data(streamId, 4369));
    connection.send('server', reset(streamId, PROTOCOL_ERROR));
  }
  expect(connection.followed.http2.windows.client.bytes).toBe(65_535);
  expect(connection.received('server')).toEqual(
    Buffer.concat(Array.from({ length: 100 }, (_, index) => poisoned(1 + 2 * index, '/no'))),
  );
  const upload = Buffer.concat([request(201, '/ok'), data(201, 60_000, END_STREAM)]);
  connection.send('client', upload);
  expect(connection.received('server')).toEqual(upload);
});

describe('what the judge is given', () => {
  function judgedOf(fields: Readonly<Record<string, string>>): JudgedCall | undefined {
    let judged: JudgedCall | undefined;
    const connection = new JudgedConnection(
      (call) => {
        judged = call;
        return ALLOWED;
      },
      ['x-identity', 'client_name', 'x-other'],
    );
    const bytes = Buffer.concat([CLIENT_PREFACE, settings(), headers(1, fields)]);
    connection.send('client', bytes, 1);
    return judged;
  }

  test('path and correlation id as sent, and that nothing else came', () => {
    expect(judgedOf({ ':path': '/a/b', 'x-gitlab-correlation-id': 'id' })).toEqual({
      path: '/a/b',
      correlationId: 'id',
      hasAuthorization: false,
      reservedField: undefined,
    });
  });

  test('that it has an authorization, even an empty one, but not its value', () => {
    expect(judgedOf({ ':path': '/a/b', authorization: '' })?.hasAuthorization).toBe(true);
    const judged = judgedOf({ ':path': '/a/b', authorization: 'secret' });
    expect(judged?.hasAuthorization).toBe(true);
    expect(JSON.stringify(judged)).not.toContain('secret');
  });

  test.each(['x-identity', 'client_name', 'x-other'])('the reserved field %s', (name) => {
    expect(judgedOf({ ':path': '/a/b', [name]: 'a' })?.reservedField).toBe(name);
  });

  test('an empty path if the call has no path, or one too long to be kept whole', () => {
    expect(judgedOf({ a: 'b' })?.path).toBe('');
    const connection = opened((call) => {
      expect(call.path).toBe('');
      return REFUSED;
    });
    const path = `/a/${'b'.repeat(MAX_FIELD_VALUE_BYTES)}`;
    const whole = new HpackWriter().field([':path', path], 'literal');
    connection.send('client', frame(HEADERS, END_HEADERS, 1, whole));
    expect(connection.ends.get(1)).toBe('PermissionDenied proxy not allowed');
  });
});

describe('a client whose calls cannot be judged is forwarded nothing more', () => {
  const whole = block({ ':path': '/ok' });
  const first = whole.subarray(0, 3);
  const tooMuch = frame(CONTINUATION, 0, 1, Buffer.alloc(16_384, 0x82));
  test.each<readonly [string, string, readonly Buffer[]]>([
    [
      'a second block of an allowed call',
      'unjudged_block',
      [request(1, '/ok'), request(1, '/ok', END_STREAM)],
    ],
    ['a second block of a refused call', 'unjudged_block', [request(1, '/no'), request(1, '/ok')]],
    [
      'a block of a call that has ended',
      'unjudged_block',
      [request(1, '/ok'), reset(1, CANCEL), request(1, '/ok')],
    ],
    ['an even stream', 'unjudged_block', [request(2, '/ok')]],
    ['a lower stream', 'unjudged_block', [request(3, '/ok'), request(1, '/ok')]],
    ['stream 0', 'frame', [request(0, '/ok')]],
    ['more padding than payload', 'unjudged_block', [frame(HEADERS, END_HEADERS | PADDED, 1, [9, 0x82])]],
    ['a payload without the padding’s length', 'frame', [frame(HEADERS, END_HEADERS | PADDED, 1, [])]],
    ['a block that is not HPACK', 'hpack_index', [frame(HEADERS, END_HEADERS, 1, [0xff, 0xff, 0x7f])]],
    ['a block that ends within a field', 'hpack_truncated', [frame(HEADERS, END_HEADERS, 1, [0x00, 0x05])]],
    ['a frame within a block', 'interleaved_block', [frame(HEADERS, 0, 1, first), pingFrame(TOKEN, 'ping')]],
    ['HEADERS within a block', 'interleaved_block', [frame(HEADERS, 0, 1, first), request(3, '/ok')]],
    [
      'CONTINUATION of another stream',
      'interleaved_block',
      [frame(HEADERS, 0, 1, first), frame(CONTINUATION, END_HEADERS, 3, whole)],
    ],
    ['CONTINUATION without HEADERS', 'interleaved_block', [frame(CONTINUATION, END_HEADERS, 1, whole)]],
    [
      'a block that is too large',
      'large_block',
      [frame(HEADERS, 0, 1, whole), ...new Array<Buffer>(9).fill(tooMuch)],
    ],
    ['a frame that is too large', 'frame', [frame(HEADERS, END_HEADERS, 1, Buffer.alloc(70_000))]],
    ['SETTINGS of a stream', 'frame', [frame(4, 0, 1, []), request(1, '/ok')]],
  ])('%s', (_what, failure, frames) => {
    for (const slice of [1, 7, 1 << 20]) {
      const connection = opened();
      const before = frames.slice(0, -1).filter(({ 3: type }) => type !== CONTINUATION && type !== 4);
      connection.send('client', Buffer.concat([...frames, request(101, '/ok')]), slice);
      expect(connection.editor.failure).toBe(failure);
      const forwarded = framesOf(connection.received('server')).filter(({ type }) => type === HEADERS);
      expect(forwarded.length).toBeLessThanOrEqual(before.length);
      connection.send('client', request(103, '/ok'));
      connection.send('server', settings());
      expect(connection.received('server')).toHaveLength(0);
    }
  });

  test('a connection that does not begin with the preface', () => {
    const connection = new JudgedConnection(judge);
    connection.send('client', Buffer.concat([request(1, '/ok'), Buffer.from('GET / HTTP/1.1\r\n\r\n')]));
    expect(connection.editor.failure).toBe('preface');
    expect(connection.received('server')).toHaveLength(0);
  });

  test('a connection whose first frame begins a call has it judged', () => {
    const connection = new JudgedConnection(judge);
    connection.send('client', Buffer.concat([CLIENT_PREFACE, request(1, '/no', END_STREAM)]), 1);
    expect(connection.received('server')).toEqual(
      Buffer.concat([CLIENT_PREFACE, poisoned(1, '/no', END_STREAM)]),
    );
  });

  test('a connection whose server cannot be followed', () => {
    const connection = opened();
    connection.send('server', frame(4, 0, 1, []));
    expect(connection.editor.failure).toBe('frame');
    connection.send('client', request(1, '/ok'));
    expect(connection.received('server')).toHaveLength(0);
  });

  test('one that makes refused calls faster than the server lets them be answered', () => {
    const connection = opened();
    connection.send('client', request(1, '/ok'));
    connection.send('server', Buffer.concat([headers(1, {}), data(1, 10).subarray(0, 10)]));
    let streamId = 3;
    for (let calls = 0; calls < MAX_UNSENT_REFUSALS; calls++, streamId += 2)
      connection.send('client', request(streamId, '/no', END_STREAM));
    expect(connection.editor.failure).toBeUndefined();
    connection.send('client', request(streamId, '/no', END_STREAM));
    expect(connection.editor.failure).toBe('refused_flood');
  });
});

test('a block of the largest size that is held is judged', () => {
  const connection = opened();
  const field = new HpackWriter().field([':path', '/ok'], 'literal');
  const filler = new HpackWriter().field(['a', 'b'.repeat(16_384 - 8)], 'literal').subarray(0, 16_384);
  const frames = [frame(HEADERS, 0, 1, field)];
  for (let bytes = frames[0]?.length ?? 0; bytes + 16_393 <= MAX_HELD_BLOCK_BYTES; bytes += 16_393)
    frames.push(frame(CONTINUATION, 0, 1, filler));
  frames.push(frame(CONTINUATION, END_HEADERS, 1, []));
  const bytes = Buffer.concat(frames);
  expect(bytes.length).toBeGreaterThan(MAX_HELD_BLOCK_BYTES - 16_393);
  connection.send('client', bytes, 1000);
  expect(connection.editor.failure).toBeUndefined();
  expect(connection.received('server')).toEqual(bytes);
});

describe('a drain of a connection whose calls are judged', () => {
  const ANNOUNCEMENT = Buffer.concat([goAwayFrame(MAX_STREAM_ID, 0), pingFrame(TOKEN, 'ping')]);

  test('lets the open call finish, refuses and answers others until the last stream is named, and hides later ones', () => {
    const connection = opened();
    connection.send('client', request(1, '/ok', END_STREAM));
    const drain = connection.editor.drain(TOKEN);
    expect(connection.received('client')).toEqual(ANNOUNCEMENT);
    connection.send('client', request(3, '/no', END_STREAM));
    expect(connection.received('client')).toEqual(answer(3));
    connection.send('client', Buffer.concat([request(5, '/ok'), pingFrame(TOKEN, 'ack')]));
    expect(connection.received('client')).toEqual(goAwayFrame(5, 0));
    connection.received('server');
    connection.send('client', Buffer.concat([request(7, '/no'), request(9, '/ok'), data(5, 3, END_STREAM)]));
    expect(connection.received('server')).toEqual(data(5, 3, END_STREAM));
    expect(connection.received('client')).toHaveLength(0);
    expect(drain.finished).toBe(false);
    connection.send('server', Buffer.concat([reset(3, PROTOCOL_ERROR), headers(1, {}, END_STREAM)]));
    connection.send('server', headers(5, {}, END_STREAM));
    expect(connection.received('client')).toEqual(
      Buffer.concat([headers(1, {}, END_STREAM), headers(5, {}, END_STREAM)]),
    );
    expect(drain.finished).toBe(true);
  });
});

test('a block that is open when a drain stops waiting for its client is judged, and the stream is named as the last', () => {
  for (const cut of ['frame', 'block']) {
    const connection = opened();
    const whole = block({ ':path': '/no', a: 'b' });
    const first = frame(HEADERS, 0, 1, whole.subarray(0, 3));
    connection.send('client', cut === 'frame' ? first.subarray(0, 10) : first);
    const drain = connection.editor.drain(TOKEN);
    connection.received('client');
    drain.insist();
    expect(connection.received('client')).toEqual(goAwayFrame(1, 0));
    if (cut === 'frame') connection.send('client', first.subarray(10));
    connection.send('client', frame(CONTINUATION, END_HEADERS, 1, whole.subarray(3)));
    expect(connection.received('client')).toEqual(Buffer.concat([answer(1), reset(1, 0)]));
    const forwarded = [
      first,
      frame(CONTINUATION, 0, 1, whole.subarray(3)),
      frame(CONTINUATION, END_HEADERS, 1, POISON),
    ];
    expect(connection.received('server')).toEqual(Buffer.concat(forwarded));
    // No frame of the client releases what is held.
    connection.send('client', Buffer.concat([request(3, '/no'), pingFrame(Buffer.alloc(8), 'ack')]));
    expect(connection.received('server')).toEqual(pingFrame(Buffer.alloc(8), 'ack'));
    expect(connection.editor.failure).toBeUndefined();
  }
});

test('a block that the inspector rejects before its end closes the connection at once', () => {
  const connection = opened();
  connection.send('client', frame(HEADERS, PADDED, 1, [200, 0, 0]));
  expect(connection.editor.failure).toBe('unjudged_block');
});

test('a client that ignores its window is owed no more than the largest window', () => {
  const connection = opened();
  connection.send('client', Buffer.concat([request(1, '/ok'), request(3, '/no')]));
  connection.received('client');
  connection.send('server', data(1, 2).subarray(0, 10));
  connection.send('client', request(5, '/no'));
  const longest = Buffer.alloc(2 ** 24 - 1, 0xff);
  for (let bytes = 0; bytes < 2 ** 32; bytes += longest.length) {
    connection.editor.pass('client', frame(DATA, 0, 5, [], longest.length), 0);
    connection.editor.pass('client', longest, 0);
  }
  connection.received('client');
  connection.send('server', data(1, 2).subarray(10));
  const frames = framesOf(connection.received('client').subarray(1));
  expect(frames.at(-1)).toMatchObject({ type: WINDOW_UPDATE, payload: uint32(0x7fff_ffff) });
});

test('a block that is interrupted by a stream that a drain hides is not forwarded', () => {
  for (const slice of [1, 1000]) {
    const connection = opened();
    connection.editor.drain(TOKEN);
    connection.send('client', Buffer.concat([request(1, '/ok'), pingFrame(TOKEN, 'ack')]));
    connection.received('server');
    const [first, rest] = [block({ ':path': '/no' }), block({ a: 'b' })];
    const frames = [
      frame(HEADERS, 0, 1, first),
      frame(HEADERS, END_HEADERS, 101, rest),
      frame(CONTINUATION, END_HEADERS, 1, rest),
    ];
    connection.send('client', Buffer.concat(frames), slice);
    expect(connection.editor.failure).toBe('interleaved_block');
    expect(connection.received('server')).toHaveLength(0);
  }
});

const size = fc.integer({ min: 0, max: 40 });
const CALLS = fc.array(
  fc.record({
    isAllowed: fc.boolean(),
    hasFields: fc.boolean(),
    endsAtOnce: fc.boolean(),
    cuts: fc.array(size, { maxLength: 3 }),
    padding: fc.option(size, { nil: undefined }),
    hasPriority: fc.boolean(),
    content: fc.array(size, { maxLength: 3 }),
    isReset: fc.boolean(),
    answer: fc.array(size, { maxLength: 3 }),
  }),
  { minLength: 1, maxLength: 8 },
);

test('however bytes are sliced, the same bytes are forwarded, and each end gets whole frames', () => {
  const fields = neverIndexed('x-identity', 'a');
  const check = fc.property(
    CALLS,
    fc.infiniteStream(fc.integer({ min: 1, max: 30 })),
    fc.boolean(),
    (calls, slices, drains) => {
      const writer = new HpackWriter();
      const client: Buffer[] = [CLIENT_PREFACE, settings(), SETTINGS_ACK];
      const server: Buffer[] = [settings(), SETTINGS_ACK];
      calls.forEach((call, index) => {
        const streamId = 1 + 2 * index;
        const path = `/${call.isAllowed ? (call.hasFields ? 'more' : 'ok') : 'no'}`;
        const whole = Buffer.concat([
          writer.field([':path', path], 'indexed'),
          writer.field(['a', String(index)], 'into_table', true),
        ]);
        const ends = [
          ...call.cuts.map((cut) => Math.min(cut, whole.length)).sort((a, b) => a - b),
          whole.length,
        ];
        const parts = ends.map((end, part) => whole.subarray(ends[part - 1] ?? 0, end));
        const [first = Buffer.alloc(0), ...rest] = parts;
        const flags =
          (call.endsAtOnce ? END_STREAM : 0) |
          (rest.length === 0 ? END_HEADERS : 0) |
          (call.padding === undefined ? 0 : PADDED) |
          (call.hasPriority ? WITH_PRIORITY : 0);
        const payload = Buffer.concat([
          ...(call.padding === undefined ? [] : [Buffer.of(call.padding)]),
          ...(call.hasPriority ? [Buffer.alloc(5)] : []),
          first,
          Buffer.alloc(call.padding ?? 0),
        ]);
        client.push(frame(HEADERS, flags, streamId, payload));
        rest.forEach((part, at) =>
          client.push(frame(CONTINUATION, at === rest.length - 1 ? END_HEADERS : 0, streamId, part)),
        );
        client.push(frame(PRIORITY, 0, streamId + 2, Buffer.alloc(5)));
        if (!call.endsAtOnce) {
          for (const length of call.content) client.push(data(streamId, length));
          client.push(call.isReset ? reset(streamId, CANCEL) : data(streamId, 0, END_STREAM));
        }
        if (!call.isAllowed) server.push(reset(streamId, PROTOCOL_ERROR));
        else {
          server.push(headers(streamId, { a: 'b' }), ...call.answer.map((length) => data(streamId, length)));
          server.push(headers(streamId, { 'grpc-status': '0' }, END_STREAM));
        }
      });
      const judgeAll = ({ path }: JudgedCall): CallPermit | typeof REFUSED => {
        if (path === '/more') return { kind: 'forward', fields };
        return path === '/no' ? REFUSED : ALLOWED;
      };
      const [up, down] = [Buffer.concat(client), Buffer.concat(server)];
      const whole = new JudgedConnection(judgeAll);
      whole.send('client', up);
      whole.send('server', down);
      const sliced = new JudgedConnection(judgeAll);
      let sentUp = 0;
      let sentDown = 0;
      let isDraining = false;
      while (sentUp < up.length || sentDown < down.length) {
        const upTo = sentUp + Number(slices.next().value);
        sliced.send('client', up.subarray(sentUp, upTo));
        sentUp = upTo;
        // The server answers what it has had: its first bytes come any time.
        const downTo =
          sentUp >= up.length ? sentDown + Number(slices.next().value) : Math.min(sentDown + 7, 9);
        sliced.send('server', down.subarray(sentDown, downTo));
        sentDown = Math.max(sentDown, downTo);
        if (drains && !isDraining && sentDown >= 9) {
          isDraining = true;
          sliced.editor.drain(TOKEN);
        }
      }
      expect(sliced.editor.failure).toBe(whole.editor.failure);
      expect(whole.editor.failure).toBeUndefined();
      expect(sliced.received('server')).toEqual(whole.received('server'));
      const toClient = [whole, sliced].map((connection) => framesOf(connection.received('client')));
      const [atOnce = [], inSlices = []] = toClient;
      // The proxy's own frames may come at other places. Those of the server stay in order, without its resets.
      const isOwn = ({ type, payload }: (typeof atOnce)[number]): boolean =>
        type === WINDOW_UPDATE ||
        type === RST_STREAM ||
        type === PING ||
        type === 7 ||
        payload.equals(ANSWER);
      expect(inSlices.filter((one) => !isOwn(one))).toEqual(atOnce.filter((one) => !isOwn(one)));
      const answersTo = (frames: typeof atOnce): number[] =>
        frames.filter(({ payload }) => payload.equals(ANSWER)).map(({ streamId }) => streamId);
      const refusedIds = calls.flatMap(({ isAllowed }, index) => (isAllowed ? [] : [1 + 2 * index]));
      const isCancelled = (streamId: number): boolean => {
        const call = calls[(streamId - 1) / 2];
        return call?.isReset === true && !call.endsAtOnce;
      };
      for (const frames of toClient) {
        expect(answersTo(frames).filter((streamId) => !isCancelled(streamId))).toEqual(
          refusedIds.filter((streamId) => !isCancelled(streamId)),
        );
        for (const { type, payload } of frames) if (type === RST_STREAM) expect(payload).toEqual(uint32(0));
      }
      // The window of dropped DATA was restored.
      const updates = inSlices.filter(({ type }) => type === WINDOW_UPDATE);
      const given = sum(updates.map(({ payload }) => payload.readUInt32BE(0)));
      const refusedUploads = calls.filter(({ isAllowed, endsAtOnce }) => !isAllowed && !endsAtOnce);
      const dropped = sum(refusedUploads.flatMap(({ content }) => content));
      expect(given).toBe(dropped);
    },
  );
  fc.assert(check, { numRuns: 300 });
});

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
