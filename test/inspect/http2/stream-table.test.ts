import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { StreamTable } from '../../../src/inspect/http2/stream-table.js';

/** Ids as a client gives them, and such as it could choose to make them meet. */
const id = fc.oneof(
  fc.integer({ min: 1, max: 60 }),
  fc.integer({ min: 1, max: 30 }).map((high) => high * 2 ** 26),
  fc.integer({ min: 1, max: 2 ** 31 - 1 }),
);
const step = fc.record({ what: fc.constantFrom('add', 'delete', 'get', 'clear' as const), id });

describe('the table of streams', () => {
  test('holds what a Map would hold, whatever is added and deleted', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
        const table = new StreamTable<string>();
        const expected = new Map<number, string>();
        for (const [index, { what, id }] of steps.entries()) {
          // Seldom, or it would never grow.
          if (what === 'clear' && index % 50 === 0) {
            table.clear();
            expected.clear();
          } else if (what === 'delete') {
            table.delete(id);
            expected.delete(id);
          } else if (what === 'add' && !expected.has(id)) {
            table.add(id, `${index}`);
            expected.set(id, `${index}`);
          }
          expect(table.get(id)).toBe(expected.get(id));
          expect(table.size).toBe(expected.size);
        }
        expect(table.entries()).toEqual([...expected].sort(([one], [other]) => one - other));
      }),
    );
  });

  test('finds each of 10 000 open streams, and none that has ended', () => {
    const table = new StreamTable<number>();
    for (let id = 1; id < 20_000; id += 2) table.add(id, -id);
    for (let id = 1; id < 20_000; id += 4) table.delete(id);
    expect(table.size).toBe(5000);
    for (let id = 1; id < 20_000; id += 2) expect(table.get(id)).toBe(id % 4 === 1 ? undefined : -id);
    for (let id = 3; id < 20_000; id += 4) table.delete(id);
    expect(table.entries()).toEqual([]);
  });
});
