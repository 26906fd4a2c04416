import { describe, expect, test } from 'vitest';

import { HpackDecoder, type HpackFailure } from '../../../src/inspect/hpack/decoder.js';
import { FieldNames } from '../../../src/inspect/hpack/field-names.js';
import { MAX_FIELD_VALUE_BYTES } from '../../../src/limits.js';

type Field = readonly [name: string, value: string];

/** A decoder that reads the fields of these names. */
function decoderOf(...names: readonly string[]) {
  const decoder = new HpackDecoder(new FieldNames(names));
  const decode = (hex: string): Field[] | HpackFailure => {
    const block = Buffer.from(hex.replaceAll(' ', ''), 'hex');
    const fields: Field[] = [];
    const sink = { field: (id: number, value: string) => fields.push([names[id - 1] ?? '?', value]) };
    return decoder.decode(block, 0, block.length, sink) ?? fields;
  };
  return { decoder, decode };
}

/** What a decoder makes of a block that comes in parts which end there. */
function follow(block: Buffer, ends: readonly number[]) {
  const decoder = new HpackDecoder(new FieldNames(['a']));
  const fields: Field[] = [];
  decoder.begin();
  let start = 0;
  for (const end of ends) {
    const part = Buffer.from(block.subarray(start, end));
    const failure = decoder.part(part, 0, part.length, { field: (_id, value) => fields.push(['a', value]) });
    expect(failure).toBeUndefined();
    // The bytes are the caller's.
    part.fill(0xff);
    start = end;
  }
  const { listBytes, tableBytes } = decoder;
  return { failure: decoder.finish(), fields, count: decoder.fields, listBytes, tableBytes };
}

describe('the examples of RFC 7541 appendix C', () => {
  test('C.2.1, C.2.2, C.2.3, C.2.4: one field of each representation', () => {
    const indexed = decoderOf('custom-key');
    expect(indexed.decode('400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572')).toEqual([
      ['custom-key', 'custom-header'],
    ]);
    expect(indexed.decoder.tableBytes).toBe(55);
    const literal = decoderOf(':path');
    expect(literal.decode('040c 2f73 616d 706c 652f 7061 7468')).toEqual([[':path', '/sample/path']]);
    expect(literal.decoder.tableBytes).toBe(0);
    const never = decoderOf('password');
    expect(never.decode('1008 7061 7373 776f 7264 0673 6563 7265 74')).toEqual([['password', 'secret']]);
    expect(never.decoder.tableBytes).toBe(0);
    expect(decoderOf(':method').decode('82')).toEqual([[':method', 'GET']]);
  });

  test.each([
    [
      'C.3: without Huffman',
      [
        '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
        '8286 84be 5808 6e6f 2d63 6163 6865',
        '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
      ],
    ],
    [
      'C.4: with Huffman',
      [
        '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
        '8286 84be 5886 a8eb 1064 9cbf',
        '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
      ],
    ],
  ])('%s: three requests on one connection', (_name, blocks) => {
    const { decoder, decode } = decoderOf(
      ':method',
      ':scheme',
      ':path',
      ':authority',
      'cache-control',
      'custom-key',
    );
    const common = (scheme: string, path: string): Field[] => [
      [':method', 'GET'],
      [':scheme', scheme],
      [':path', path],
      [':authority', 'www.example.com'],
    ];
    const [first = '', second = '', third = ''] = blocks;
    expect(decode(first)).toEqual(common('http', '/'));
    expect(decoder.tableBytes).toBe(57);
    expect(decode(second)).toEqual([...common('http', '/'), ['cache-control', 'no-cache']]);
    expect(decoder.tableBytes).toBe(110);
    expect(decode(third)).toEqual([...common('https', '/index.html'), ['custom-key', 'custom-value']]);
    expect(decoder.tableBytes).toBe(164);
  });
});

describe('fields that are not read', () => {
  test('move the table and become nothing, by literal, by reference and with Huffman', () => {
    const { decoder, decode } = decoderOf('cache-control');
    expect(decode('8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff')).toEqual([]);
    expect(decoder.tableBytes).toBe(57);
    expect(decode('8286 84be 5886 a8eb 1064 9cbf')).toEqual([['cache-control', 'no-cache']]);
    expect(decode('be')).toEqual([['cache-control', 'no-cache']]);
  });
});

describe('what cannot be followed fails with its reason, and so does everything after it', () => {
  test.each<[string, string, HpackFailure]>([
    ['index 0 (section 6.1)', '80', 'index'],
    ['an index past both tables', 'be', 'index'],
    ['a name past both tables', '7f 00 00', 'index'],
    ['an integer without its end', 'ff', 'truncated'],
    ['an integer that is too long for Go (section 5.1)', 'ff 80 80 80 80 80 80 80 80 80 00', 'integer'],
    ['a string without a length', '40', 'truncated'],
    ['a string without its end', '40 05 61', 'truncated'],
    ['Huffman with EOS inside (section 5.2)', '00 84 ff ff ff ff 00', 'huffman'],
    ['Huffman with padding of more than 7 bits', '00 82 1f ff 00', 'huffman'],
    ['Huffman with padding that is not all ones', '00 81 18 00', 'huffman'],
    ['a table larger than was allowed (section 6.3)', '3f e2 1f', 'table_size'],
  ])('%s', (_name, hex, reason) => {
    const { decode } = decoderOf(':method');
    expect(decode('82')).toEqual([[':method', 'GET']]);
    expect(decode(hex)).toBe(reason);
    expect(decode('82')).toBe(reason);
  });
});

describe('what Go accepts is accepted', () => {
  test.each([
    ['an integer in seven bytes', '7f 83 80 80 80 80 00 01 62', [['a', 'b']]],
    ['an index in ten bytes', 'ff bf ff ff ff ff ff ff ff 7f', 'index'],
    ['the longest form of an index', 'ff 83 80 80 80 80 80 80 80 00', undefined],
    ['a length with zeros behind it', '00 7f 82 ff 80 80 00', 'truncated'],
  ] as const)('%s', (_name, hex, expected) => {
    const { decode } = decoderOf('a');
    // 68 entries lie behind the static table: index 130 is the oldest.
    for (let entry = 0; entry < 69; entry++) decode('40 01 61 01 62');
    if (expected === undefined) expect(decode(hex)).toEqual([['a', 'b']]);
    else expect(decode(hex)).toEqual(expected);
  });

  test('a size update behind a field, and none where the table must become smaller', () => {
    const { decoder, decode } = decoderOf('a');
    expect(decode('40 01 61 01 62 20 82')).toEqual([['a', 'b']]);
    expect(decoder.tableBytes).toBe(0);
    decoder.acknowledgeTableSize(0);
    expect(decode('82')).toEqual([]);
  });
});

describe('a block of any size', () => {
  test('is followed, and what it counts is known: fields, and the bytes of the list', () => {
    const { decoder, decode } = decoderOf('a');
    // A value of 4000 bytes in the table, then 5000 references to it.
    expect(decode(`4001 61 7fa11e ${'62'.repeat(4000)}`)).toHaveLength(1);
    expect(decode('be'.repeat(5000))).toHaveLength(5000);
    expect([decoder.fields, decoder.listBytes]).toEqual([5000, 5000 * 4033]);
    expect(decoder.tableBytes).toBe(4033);
  });

  test('may come in parts, cut anywhere: the same fields, the same table', () => {
    const long = Buffer.concat([
      Buffer.from('82 40 01 61 01 62 00 01 61 7f 91 bf 04'.replaceAll(' ', ''), 'hex'),
      Buffer.alloc(127 + 0x11 + (0x3f << 7) + (4 << 14), 'v'),
      // Huffman, so long that it is counted as it passes: 70 000 times the code of "0", 5 bits.
      Buffer.from('40 01 61 ff da d5 02'.replaceAll(' ', ''), 'hex'),
      Buffer.alloc(127 + 0x5a + (0x55 << 7) + (2 << 14), 0),
      Buffer.from('82', 'hex'),
    ]);
    const whole = follow(long, [long.length]);
    expect(whole.fields.map(([name, value]) => [name, value.slice(0, 3)])).toEqual([
      ['a', 'b'],
      ['a', 'vvv'],
      ['a', '000'],
    ]);
    for (const size of [1000, 16_384, 65_535, 100_000]) {
      const parts = Array.from({ length: Math.ceil(long.length / size) }, (_, index) => (index + 1) * size);
      expect(follow(long, parts)).toEqual(whole);
    }
    const short = long.subarray(0, 6);
    for (let at = 1; at < short.length; at++)
      expect(follow(short, [at, short.length])).toEqual(follow(short, [short.length]));
  });

  test('that ends within a field is malformed', () => {
    const decoder = new HpackDecoder(new FieldNames([]));
    decoder.begin();
    expect(decoder.part(Buffer.from('4005', 'hex'), 0, 2, { field: () => undefined })).toBeUndefined();
    expect(decoder.finish()).toBe('truncated');
  });
});

describe('the size of the table', () => {
  test('may grow once an acknowledged SETTINGS allows it', () => {
    const { decoder, decode } = decoderOf('a');
    decoder.acknowledgeTableSize(8192);
    expect(
      decode('3fe13f 4001 61 7fa11e' + '62'.repeat(4000) + ' 4001 61 7fa11e' + '63'.repeat(4000)),
    ).toHaveLength(2);
    expect(decoder.tableBytes).toBe(2 * 4033);
    expect(decode('bf')).toEqual([['a', 'b'.repeat(MAX_FIELD_VALUE_BYTES)]]);
  });

  test('may be reduced twice at the start of a block (section 4.2)', () => {
    const told = decoderOf('custom-key');
    told.decode('400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572');
    told.decoder.acknowledgeTableSize(0);
    told.decoder.acknowledgeTableSize(100);
    // Down to the smallest there was, then up to the last.
    expect(told.decode('20 3f45 82')).toEqual([]);
    expect(told.decoder.tableBytes).toBe(0);
  });

  test('an entry larger than the table empties it (section 4.4)', () => {
    const { decoder, decode } = decoderOf('a');
    decode('4001 61 01 62');
    expect(decoder.tableBytes).toBe(34);
    expect(decode(`4001 61 7f811f ${'62'.repeat(4096)}`)).toHaveLength(1);
    expect(decoder.tableBytes).toBe(0);
  });
});
