import { readdirSync, readFileSync } from 'node:fs';

import { describe, expect, test } from 'vitest';

import { HpackDecoder } from '../../../src/inspect/hpack/decoder.js';
import { FieldNames } from '../../../src/inspect/hpack/field-names.js';
import { MAX_FIELD_VALUE_BYTES } from '../../../src/limits.js';

const VECTORS = new URL('../../data/hpack-test-case/', import.meta.url);

interface Case {
  readonly wire: string;
  readonly header_table_size?: number;
  readonly headers: readonly Readonly<Record<string, string>>[];
}

const encoders = readdirSync(VECTORS, { withFileTypes: true }).filter((entry) => entry.isDirectory());

describe.each(encoders.map(({ name }) => name))('the stories encoded by %s', (encoder) => {
  const folder = new URL(`${encoder}/`, VECTORS);
  test.each(readdirSync(folder))('%s', (story) => {
    const { cases } = JSON.parse(readFileSync(new URL(story, folder), 'utf8')) as { cases: readonly Case[] };
    const names = [
      ...new Set(cases.flatMap(({ headers }) => headers.flatMap((field) => Object.keys(field)))),
    ];
    const decoder = new HpackDecoder(new FieldNames(names));
    let tableBytes = 4096;
    for (const [index, { wire, headers, header_table_size: size }] of cases.entries()) {
      if (size !== undefined && size !== tableBytes) decoder.acknowledgeTableSize((tableBytes = size));
      const decoded: Record<string, string>[] = [];
      const block = Buffer.from(wire, 'hex');
      const failure = decoder.decode(block, 0, block.length, {
        field: (id, value) => decoded.push({ [names[id - 1] ?? '?']: value }),
      });
      expect(failure, `case ${index}`).toBeUndefined();
      const kept = headers.map((field) =>
        Object.fromEntries(
          Object.entries(field).map(([name, value]) => [name, value.slice(0, MAX_FIELD_VALUE_BYTES)]),
        ),
      );
      expect(decoded, `case ${index}`).toEqual(kept);
    }
  });
});
