import { spawnSync } from 'node:child_process';

import { describe, expect, test } from 'vitest';

import { HpackDecoder, type HpackFailure } from '../../../src/inspect/hpack/decoder.js';
import { FieldNames } from '../../../src/inspect/hpack/field-names.js';
import { STATIC_TABLE } from '../../../src/inspect/hpack/static-table.js';
import { MAX_FIELD_VALUE_BYTES } from '../../../src/limits.js';
import { randomOf } from '../../support/seeded-random.js';

// nghttp2's tools. Debian does not package them; its sources build them (`--enable-hpack-tools`).
const areAbsent = ['deflatehd', 'inflatehd'].some(
  (tool) => spawnSync(tool, ['-h'], { input: '' }).error !== undefined,
);

const TABLE_BYTES = [0, 32, 64, 300, 1000, 4096, 4097, 20_000];
const CUSTOM = [
  'grpc-status',
  'client_name',
  'x',
  ...Array.from({ length: 20 }, (_, n) => `x-name-${n * n}`),
];
const NAMES = [...new Set([...STATIC_TABLE.map(([name]) => name), ...CUSTOM])];

type Random = (below: number) => number;
type Field = readonly [name: string, value: string];
/** A block in hex, as the tools want it, and the table size that was acknowledged before it. */
interface Block {
  readonly wire: string;
  readonly header_table_size?: number;
}
/** What was read of a series of blocks, up to the first that could not be. */
interface Reading {
  readonly lists: readonly (readonly Field[])[];
  readonly failure: HpackFailure | 'failed' | undefined;
}

function pick<Item>(random: Random, from: readonly Item[], otherwise: Item): Item {
  return from[random(from.length)] ?? otherwise;
}

function runTool(tool: string, options: readonly string[], cases: readonly object[]) {
  const input = JSON.stringify({ context: 'request', cases });
  const { stdout, status } = spawnSync(tool, options, {
    input,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  // A block that cannot be read ends inflatehd in the middle of the array that it writes.
  const whole = status === 0 ? stdout : `${stdout.trimEnd().replace(/,$/, '')}]}`;
  const output = JSON.parse(whole) as {
    cases: readonly (Block & { headers: readonly Readonly<Record<string, string>>[] })[];
  };
  return { cases: output.cases, failed: status !== 0 };
}

/** A field as our decoder gives it: each byte a character, and no more of them than are kept. */
function asKept([name, value]: Field): Field {
  return [name, Buffer.from(value).toString('latin1').slice(0, MAX_FIELD_VALUE_BYTES)];
}

function readByInflatehd(blocks: readonly Block[]): Reading {
  const { cases, failed } = runTool('inflatehd', [], blocks);
  const lists = cases.map(({ headers }) => headers.flatMap((field) => Object.entries(field)).map(asKept));
  return { lists, failure: failed ? 'failed' : undefined };
}

function readByOurs(blocks: readonly Block[]): Reading {
  const decoder = new HpackDecoder(new FieldNames(NAMES));
  const lists: Field[][] = [];
  for (const { wire, header_table_size: size } of blocks) {
    if (size !== undefined) decoder.acknowledgeTableSize(size);
    const fields: Field[] = [];
    const block = Buffer.from(wire, 'hex');
    const failure = decoder.decode(block, 0, block.length, {
      field: (id, value) => fields.push([NAMES[id - 1] ?? '?', value]),
    });
    if (failure) return { lists, failure };
    lists.push(fields);
  }
  return { lists, failure: undefined };
}

function randomValue(random: Random): string {
  const kind = random(6);
  if (kind === 0) return `value-${random(20)}`;
  if (kind === 1) return String(random(1e9));
  if (kind === 2) return 'lorem ipsum '.repeat(random(40));
  // Longer than what is kept, and longer than some tables.
  if (kind === 3 && random(10) === 0) return 'long'.repeat(random(600));
  return Array.from({ length: random(40) }, () =>
    pick(random, ['a', 'Z', '~', '{', '\\', 'ü', '€'], '0'),
  ).join('');
}

function randomFields(random: Random): Field[] {
  return Array.from({ length: random(14) }, () => [pick(random, NAMES, 'x'), randomValue(random)]);
}

function deflate(lists: readonly (readonly Field[])[], options: readonly string[]): readonly Block[] {
  const cases = lists.map((fields) => ({ headers: fields.map((field) => Object.fromEntries([field])) }));
  return runTool('deflatehd', options, cases).cases.map(({ wire, header_table_size: size }) =>
    size === undefined ? { wire } : { wire, header_table_size: size },
  );
}

/** RFC 7541 section 5.1. */
function integer(first: number, mask: number, value: number): number[] {
  if (value < mask) return [first | value];
  const bytes = [first | mask];
  let rest = value - mask;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return [...bytes, rest];
}

function string(text: string): number[] {
  const bytes = Buffer.from(text);
  return [...integer(0, 0x7f, bytes.length), ...bytes];
}

/** A value, now and then of two bytes that are Huffman by chance or not. */
function wildString(random: Random): number[] {
  return random(30) === 0 ? [0x82, random(256), random(256)] : string(randomValue(random));
}

/**
 * A block as deflatehd would never write it: each field in any representation, names in any way, references to whatever
 * is or is not in the table, sizes of the table that may be too large or missing, a last byte that is not there.
 */
function wildBlock(random: Random): Block {
  const acknowledged = random(5) === 0 ? pick(random, TABLE_BYTES, 0) : undefined;
  const wire: number[] = [];
  if (acknowledged !== undefined && random(6) > 0) wire.push(...integer(0x20, 0x1f, acknowledged));
  if (random(12) === 0) wire.push(...integer(0x20, 0x1f, pick(random, TABLE_BYTES, 0)));
  for (let count = random(8); count > 0; count--) {
    const [first, mask] = random(2) === 0 ? [0x40, 0x3f] : [pick(random, [0, 0x10], 0), 0x0f];
    // Mostly the static table, now and then the first few entries behind it.
    const index = random(6) === 0 ? 62 + random(3) : 1 + random(61);
    const kind = random(3);
    if (kind === 0) wire.push(...integer(0x80, 0x7f, index));
    else if (kind === 1) wire.push(...integer(first, mask, index), ...wildString(random));
    else wire.push(first, ...string(pick(random, NAMES, 'x')), ...wildString(random));
  }
  if (random(10) === 0) {
    // An entry about as large as the table (RFC 7541 section 4.4), and a reference to it.
    const room = Math.min(acknowledged ?? 4096, 5000) - 'x'.length - 32;
    wire.push(0x40, ...string('x'), ...string('v'.repeat(Math.max(room - 1 + random(3), 0))), 0xbe);
  }
  const hex = { wire: Buffer.from(random(80) === 0 ? wire.slice(0, -1) : wire).toString('hex') };
  return acknowledged === undefined ? hex : { ...hex, header_table_size: acknowledged };
}

describe.skipIf(areAbsent)('next to inflatehd and deflatehd of nghttp2', () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'what deflatehd writes is read in full, of any table size (seed %i)',
    (seed) => {
      const random = randomOf(seed);
      for (let run = 0; run < 5; run++) {
        const lists = Array.from({ length: 200 }, () => randomFields(random));
        const [size, used] = [pick(random, TABLE_BYTES, 0), pick(random, TABLE_BYTES, 0)];
        const blocks = deflate(lists, ['-s', String(size), '-S', String(used)]);
        expect(blocks).toHaveLength(lists.length);
        const ours = readByOurs(blocks);
        expect(ours, `-s ${size} -S ${used}`).toEqual({
          lists: lists.map((fields) => fields.map(asKept)),
          failure: undefined,
        });
        expect(readByInflatehd(blocks)).toEqual(ours);
      }
    },
  );

  test.each([1, 2, 3, 4])('blocks of a wild writer are read, or not, as inflatehd does (seed %i)', (seed) => {
    const random = randomOf(seed);
    const failures = new Set<string>();
    let read = 0;
    for (let run = 0; run < 100; run++) {
      const blocks = Array.from({ length: 12 }, () => wildBlock(random));
      const [ours, theirs] = [readByOurs(blocks), readByInflatehd(blocks)];
      expect(ours.lists, `run ${run}, ${JSON.stringify(blocks)}`).toEqual(theirs.lists);
      expect(ours.failure !== undefined, `run ${run}, ${JSON.stringify(blocks)}`).toBe(
        theirs.failure !== undefined,
      );
      if (ours.failure) failures.add(ours.failure);
      read += ours.lists.length;
    }
    // Neither did all fail at once, nor did none.
    expect(read).toBeGreaterThan(200);
    expect([...failures].sort()).toEqual([
      'huffman',
      'index',
      'table_size',
      'table_size_missing',
      'truncated',
    ]);
  });
});
