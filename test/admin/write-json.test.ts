import { expect, test } from 'vitest';

import { writeJson } from '../../src/admin/admin-server.js';

test('a page is what JSON.stringify makes of it', async () => {
  const entry = { id: 1, text: 'a\nb "c"', nested: { list: [1, { a: null }], none: [] } };
  for (const rpcs of [[], [entry], Array.from({ length: 120 }, () => entry)]) {
    const content = { open: rpcs.length, shown: 0, rpcs, last: {} };
    expect((await writeJson(content, 50)).toString()).toBe(`${JSON.stringify(content, undefined, 2)}\n`);
  }
});
