import { expect, test } from 'vitest';

import { heapLimit, MemoryGuard } from '../../src/process/memory-guard.js';

const MIB = 1024 * 1024;

test.each([
  ['neither', 69, 79, false],
  ['the heap', 71, 10, true],
  ['the memory of the machine', 10, 81, true],
])('memory is low when %s is nearly used up', (_which, heap, resident, isLow) => {
  const guard = new MemoryGuard({ heap: 70, resident: 80 }, () => ({ heap, resident }));
  expect(guard.look()).toBe(isLow);
  expect(guard.isLow).toBe(isLow);
});

test('the limit of the heap is the last option of Node; without one, nearly that of V8', () => {
  expect(heapLimit(['--max-old-space-size=100', '--max_old_space_size=64'])).toBe(64 * MIB);
  expect(heapLimit([])).toBeGreaterThan(100 * MIB);
});
