import { describe, expect, test } from 'vitest';

import { isHost } from '../../../src/http/host.js';
import {
  ClientFrames,
  type ClientFrameEvents,
  type FramesFault,
  type HeaderFault,
} from '../../../src/inspect/http2/client-frames.js';
import { ABUSE_LIMITS, MAX_HEADER_FIELDS } from '../../../src/limits.js';
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
  RST_STREAM,
  settings,
  SETTINGS_ACK,
  uint32,
  WINDOW_UPDATE,
  WITH_PRIORITY,
} from '../../support/http2-frames.js';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const BAD = block({ a: 'b\r\nc: d' });

// RFC 9113 section 7.
const [PROTOCOL_ERROR, COMPRESSION_ERROR, ENHANCE_YOUR_CALM] = [1, 9, 11] as const;

/** Follows frames, and keeps the streams that it has found: of forbidden fields, and of headers that are too large. */
class Followed implements ClientFrameEvents {
  readonly found: number[] = [];
  readonly tooLarge: number[] = [];
  resets = 0;
  readonly #frames = new ClientFrames(this, isHost);

  read(bytes: Buffer, sentBytes = 0, nowMs = 0): FramesFault | undefined {
    return this.#frames.read(bytes, sentBytes, nowMs);
  }

  headerRefused(streamId: number, fault: HeaderFault): void {
    (fault === 'too_large' ? this.tooLarge : this.found).push(streamId);
  }

  streamReset(): void {
    this.resets++;
  }
}

function read(...frames: readonly Buffer[]): Followed {
  const followed = new Followed();
  expect(followed.read(Buffer.concat([PREFACE, settings(), ...frames]))).toBeUndefined();
  return followed;
}

describe('a forbidden field is', () => {
  test.each(['\r', '\n', '\0', '\x01', '\x08', '\x0b', '\x1f', '\x7f'])('%j in a value', (character) => {
    const values = [character, `${character}b`, `b${character}`, `b${character}b`];
    const { found } = read(...values.map((value, index) => headers(1 + 2 * index, { a: value })));
    expect(found).toEqual([1, 3, 5, 7]);
  });

  test.each([
    'a\r\nb',
    'a\nb',
    'a\0b',
    'a b',
    'a:b',
    'A',
    'a\x7f',
    'a\x80',
    '',
    ':',
    '::a',
    'a(',
    'a"',
    'a/b',
  ])('the name %j', (name) => expect(read(headers(1, { [name]: 'b' })).found).toEqual([1]));

  test.each([' b', 'b ', '\tb', 'b\t', ' '])('white space around the value %j', (value) =>
    expect(read(headers(1, { a: value })).found).toEqual([1]),
  );

  test.each(['a b', 'a"b', 'a/b', 'a\xe4', '{', 'a:1:2', '[zz]', '[::1', 'h:99999', '..'])(
    'an invalid host: %j',
    (value) => {
      // With the name as it is, and as entry 38 of the static table (RFC 7541 appendix A).
      const named = Buffer.concat([Buffer.of(0x0f, 38 - 15, value.length), Buffer.from(value, 'latin1')]);
      expect(read(headers(1, { host: value }), frame(HEADERS, END_HEADERS, 3, named)).found).toEqual([1, 3]);
    },
  );

  test('what comes at the end of a long value', () => {
    // RFC 7541 section 5.1: 60 000 as an integer with a prefix of 7 bits.
    const literal = Buffer.concat([
      Buffer.from('\0\x01a'),
      Buffer.of(0x7f, 0xe1, 0xd3, 0x03),
      Buffer.alloc(59_999, 'b'),
      Buffer.from('\r'),
    ]);
    const whole = Array.from({ length: 4 }, (_, index) =>
      literal.subarray(16_384 * index, 16_384 * (index + 1)),
    );
    const frames = whole.map((part, index) =>
      frame(index === 0 ? HEADERS : CONTINUATION, index === 3 ? END_HEADERS : 0, 1, part),
    );
    expect(read(...frames).found).toEqual([1]);
  });

  test('what is encoded by Huffman', () => {
    // RFC 7541 appendix B: CR has 30 bits, 0x3ffffffe; two of EOS's are the padding.
    const value = Buffer.of(0x84, 0xff, 0xff, 0xff, 0xfb);
    expect(read(frame(HEADERS, END_HEADERS, 1, [...Buffer.from('\0\x01a'), ...value])).found).toEqual([1]);
  });

  test('a field of the table, wherever it is used', () => {
    // A literal that is added to the table (section 6.2.1), and its index, the first of the dynamic ones (section 6.1).
    const added = Buffer.concat([Buffer.of(0x40), BAD.subarray(1)]);
    const { found } = read(
      frame(HEADERS, END_HEADERS, 1, added),
      headers(3, { a: 'b' }),
      frame(HEADERS, END_HEADERS, 5, [0x80 | 62]),
      // Its name alone is good.
      frame(HEADERS, END_HEADERS, 7, [0x0f, 62 - 15, 1, 0x62]),
    );
    expect(found).toEqual([1, 5]);
  });

  test('trailers', () => {
    const { found } = read(
      headers(1, { a: 'b' }),
      frame(DATA, 0, 1, BAD),
      headers(1, { a: '\n' }, END_STREAM),
    );
    expect(found).toEqual([1]);
  });

  test('a block behind padding and priority, in several frames, however the bytes are split', () => {
    const bytes = Buffer.concat([
      PREFACE,
      settings(),
      frame(HEADERS, PADDED | WITH_PRIORITY, 1, [3, 0, 0, 0, 0, 15, ...BAD.subarray(0, 4), 0, 0, 0]),
      frame(CONTINUATION, 0, 1, BAD.subarray(4, 6)),
      frame(CONTINUATION, END_HEADERS, 1, BAD.subarray(6)),
      headers(3, { a: 'b' }),
    ]);
    for (let split = 0; split <= bytes.length; split++) {
      const followed = new Followed();
      expect(followed.read(bytes.subarray(0, split))).toBeUndefined();
      expect(followed.read(bytes.subarray(split))).toBeUndefined();
      expect(followed.found).toEqual([1]);
    }
  });
});

test('resets are reported', () => {
  const reset = frame(RST_STREAM, 0, 1, uint32(8));
  expect(read(headers(1, { a: 'b' }), reset, headers(3, { a: 'b' }), reset).resets).toBe(2);
});

test('a header that is too large is refused, and the next one is read by the table that it has left', () => {
  // A literal that is added to the table (RFC 7541 section 6.2.1).
  const added = Buffer.concat([Buffer.of(0x40), BAD.subarray(1)]);
  const { found, tooLarge } = read(
    frame(HEADERS, END_HEADERS, 1, new Array<number>(MAX_HEADER_FIELDS).fill(0x82)),
    frame(HEADERS, END_HEADERS, 3, [...new Array<number>(MAX_HEADER_FIELDS).fill(0x82), ...added]),
    frame(HEADERS, END_HEADERS, 5, [0x80 | 62]),
    headers(7, { a: 'b' }),
  );
  expect([tooLarge, found]).toEqual([[3], [5]]);
});

test('nothing is found of what may be', () => {
  const { found } = read(
    headers(1, {
      ':method': 'POST',
      ':path': '/a?b=c',
      'x-a_b.c~d!e#f$g%h&i*j+k^l`m|n': '',
      a: 'b\tc d',
      e: '\xe4\xff',
      host: '[::1]:80',
    }),
    // All of the static table but entry 38, an empty Host.
    frame(
      HEADERS,
      END_HEADERS,
      3,
      Array.from({ length: 61 }, (_, index) => 0x80 | (index + 1)).filter((entry) => entry !== (0x80 | 38)),
    ),
    frame(DATA, END_STREAM, 3, BAD),
    frame(PADDED, 0, 0, BAD),
  );
  expect(found).toEqual([]);
});

test.each<[what: string, code: number, frames: readonly Buffer[]]>([
  ['another preface', PROTOCOL_ERROR, [Buffer.from('GET / HTTP/1.1\r\n\r\n')]],
  [
    'padding beyond the frame',
    PROTOCOL_ERROR,
    [PREFACE, frame(HEADERS, END_HEADERS | PADDED, 1, [12, ...BAD])],
  ],
  ['nothing where padding should be', PROTOCOL_ERROR, [PREFACE, frame(HEADERS, END_HEADERS | PADDED, 1)]],
  ['another frame within a block', PROTOCOL_ERROR, [PREFACE, frame(HEADERS, 0, 1, BAD), frame(DATA, 0, 1)]],
  [
    'the block of another stream within it',
    PROTOCOL_ERROR,
    [PREFACE, frame(HEADERS, 0, 1, BAD), frame(CONTINUATION, END_HEADERS, 3, BAD)],
  ],
  ['CONTINUATION of nothing', PROTOCOL_ERROR, [PREFACE, frame(CONTINUATION, END_HEADERS, 1, BAD)]],
  ['an index that is not there', COMPRESSION_ERROR, [PREFACE, frame(HEADERS, END_HEADERS, 1, [0x80 | 62])]],
])('%s cannot be followed, nor what comes behind', (_what, code, sent) => {
  const followed = new Followed();
  const fault = { errorCode: code, limit: undefined };
  expect(followed.read(Buffer.concat(sent))).toEqual(fault);
  expect(followed.read(headers(5, { a: '\r' }))).toEqual(fault);
  expect(followed.found).toEqual([]);
});

test('a value that is larger than all may be is refused, and what comes behind is followed', () => {
  const followed = new Followed();
  // By Huffman: each `0` has five zeros (RFC 7541 appendix B). Its length is 45 000, an integer with a prefix of 7 bits.
  const parts = [0, 1, 2].map((part) =>
    frame(part === 0 ? HEADERS : CONTINUATION, part === 2 ? END_HEADERS : 0, 1, [
      ...(part === 0 ? [0, 1, 0x61, 0xff, 0xc9, 0xde, 0x02] : []),
      ...Buffer.alloc(15_000),
    ]),
  );
  expect(followed.read(Buffer.concat([PREFACE, ...parts, headers(5, { a: '\r' })]))).toBeUndefined();
  expect([followed.tooLarge, followed.found]).toEqual([[1], [5]]);
});

const CONTROL = [
  ['PING', frame(PING, 0, 0, Buffer.alloc(8))],
  ['SETTINGS', settings()],
] as const;

const SMALL = [
  ['answers to PINGs', frame(PING, ACK, 0, Buffer.alloc(8))],
  ['acknowledgements of SETTINGS', SETTINGS_ACK],
  ['WINDOW_UPDATE', frame(WINDOW_UPDATE, 0, 0, uint32(1))],
  ['PRIORITY', frame(PRIORITY, 0, 1, Buffer.alloc(5))],
  ['DATA of padding alone', frame(DATA, PADDED, 1, [3, 0, 0, 0])],
  ['padded DATA without padding or content', frame(DATA, PADDED, 1, [0])],
  ['GOAWAY', frame(GOAWAY, 0, 0, Buffer.alloc(8))],
  ['frames of an unknown type', frame(99, 0, 0, [1])],
] as const;

/** How many times a frame can be read, in one read each, until a limit is exceeded. */
function countUntil(limit: string, sent: Buffer, sentBytesPerFrame = 0): number {
  const followed = new Followed();
  expect(followed.read(PREFACE)).toBeUndefined();
  for (let count = 0; count < 50_000; count++) {
    const fault = followed.read(sent, count * sentBytesPerFrame);
    if (fault === undefined) continue;
    expect(fault).toEqual({ errorCode: ENHANCE_YOUR_CALM, limit });
    return count;
  }
  return Number.POSITIVE_INFINITY;
}

test.each(CONTROL)('%s: a burst is accepted, more are a flood', (_what, sent) => {
  expect(countUntil('control_flood', sent)).toBe(ABUSE_LIMITS.controlFrames.burst);
});

test.each(SMALL)('%s: a burst is accepted, more are a flood', (_what, sent) => {
  expect(countUntil('frame_flood', sent)).toBe(ABUSE_LIMITS.smallFrames.burst);
});

test('empty DATA is a flood before Node gives up the connection', () => {
  expect(countUntil('frame_flood', frame(DATA, 0, 1))).toBeLessThan(1000);
});

test.each([...CONTROL, ...SMALL])('%s: a KiB sent to the client pays for one', (_what, sent) => {
  expect(countUntil('', sent, 1024)).toBe(Number.POSITIVE_INFINITY);
});

test('window updates of a byte are a flood, although each brings a byte', () => {
  const update = frame(WINDOW_UPDATE, 0, 1, uint32(1));
  expect(countUntil('frame_flood', update, 10)).toBeLessThan(1.02 * ABUSE_LIMITS.smallFrames.burst);
});

test('time pays for frames', () => {
  const followed = new Followed();
  expect(followed.read(PREFACE)).toBeUndefined();
  for (let count = 0; count < 2 * ABUSE_LIMITS.controlFrames.burst; count++)
    expect(
      followed.read(settings(), 0, (count * 1000) / ABUSE_LIMITS.controlFrames.perSecond),
    ).toBeUndefined();
});

test.each([
  ['content', frame(DATA, 0, 1, [1])],
  ['padded content', frame(DATA, PADDED, 1, [2, 1, 0, 0])],
  ['the end of a request', frame(DATA, END_STREAM, 1)],
  ['the end of a request, of padding alone', frame(DATA, END_STREAM | PADDED, 1, [1, 0])],
])('%s does not count as a flood', (_what, sent) => {
  expect(countUntil('', sent)).toBe(Number.POSITIVE_INFINITY);
});

test('a PING and window updates for each new request are allowed; for a request that has begun they count as a flood', () => {
  const beside = Buffer.concat([
    frame(PING, 0, 0, Buffer.alloc(8)),
    ...Array<Buffer>(4).fill(frame(WINDOW_UPDATE, 0, 0, uint32(1))),
  ]);
  const send = (streamIdOf: (index: number) => number): (FramesFault | undefined)[] => {
    const followed = new Followed();
    expect(followed.read(PREFACE)).toBeUndefined();
    return Array.from({ length: 2 * ABUSE_LIMITS.smallFrames.burst }, (_, index) =>
      followed.read(Buffer.concat([headers(streamIdOf(index), { a: 'b' }), beside])),
    );
  };
  expect(send((index) => 1 + 2 * index).at(-1)).toBeUndefined();
  expect(send(() => 1).at(-1)).toMatchObject({ limit: 'control_flood' });
});

test('a header in many small frames exceeds a limit', () => {
  const fragment = frame(CONTINUATION, 0, 1, block({ a: 'b' }));
  const begun = Buffer.concat([PREFACE, frame(HEADERS, 0, 1, block({ a: 'b' }))]);
  expect(new Followed().read(Buffer.concat([begun, ...Array<Buffer>(20).fill(fragment)]))).toEqual({
    errorCode: ENHANCE_YOUR_CALM,
    limit: 'continuation',
  });
});
