import { describe, expect, test } from 'vitest';

import { isHost } from '../../../src/http/host.js';
import {
  ClientFrames,
  type ClientFrameEvents,
  type HeaderFault,
} from '../../../src/inspect/http2/client-frames.js';
import { MAX_HEADER_FIELDS } from '../../../src/limits.js';
import {
  block,
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  HEADERS,
  headers,
  PADDED,
  RST_STREAM,
  settings,
  uint32,
  WITH_PRIORITY,
} from './hand-made.js';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const BAD = block({ a: 'b\r\nc: d' });

// RFC 9113 section 7.
const [PROTOCOL_ERROR, COMPRESSION_ERROR] = [1, 9] as const;

/** Follows frames, and keeps the streams that it has found: of forbidden fields, and of headers that are too large. */
class Followed implements ClientFrameEvents {
  readonly found: number[] = [];
  readonly tooLarge: number[] = [];
  resets = 0;
  readonly frames = new ClientFrames(this, isHost);

  headerRefused(streamId: number, fault: HeaderFault): void {
    (fault === 'too_large' ? this.tooLarge : this.found).push(streamId);
  }

  streamReset(): void {
    this.resets++;
  }
}

function read(...frames: readonly Buffer[]): Followed {
  const followed = new Followed();
  expect(followed.frames.read(Buffer.concat([PREFACE, settings(), ...frames]))).toBeUndefined();
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
      const { frames, found } = new Followed();
      expect(frames.read(bytes.subarray(0, split))).toBeUndefined();
      expect(frames.read(bytes.subarray(split))).toBeUndefined();
      expect(found).toEqual([1]);
    }
  });
});

test('resets are told', () => {
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
  const { frames, found } = new Followed();
  expect(frames.read(Buffer.concat(sent))).toBe(code);
  expect(frames.read(headers(5, { a: '\r' }))).toBe(code);
  expect(found).toEqual([]);
});

test('a value that is larger than all may be is refused, and what comes behind is followed', () => {
  const { frames, found, tooLarge } = new Followed();
  // By Huffman: each `0` has five zeros (RFC 7541 appendix B). Its length is 45 000, an integer with a prefix of 7 bits.
  const parts = [0, 1, 2].map((part) =>
    frame(part === 0 ? HEADERS : CONTINUATION, part === 2 ? END_HEADERS : 0, 1, [
      ...(part === 0 ? [0, 1, 0x61, 0xff, 0xc9, 0xde, 0x02] : []),
      ...Buffer.alloc(15_000),
    ]),
  );
  expect(frames.read(Buffer.concat([PREFACE, ...parts, headers(5, { a: '\r' })]))).toBeUndefined();
  expect([tooLarge, found]).toEqual([[1], [5]]);
});
