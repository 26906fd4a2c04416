import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

import { RESERVED_DESCRIPTORS } from '../../src/limits.js';
import { DescriptorBudget } from '../../src/process/process-budget.js';

function takeAll(budget: DescriptorBudget, most: number): number {
  let taken = 0;
  while (taken < most && budget.take()) taken++;
  return taken;
}

test('gives out as many as there are, and what is given back once more', () => {
  const budget = new DescriptorBudget(3);
  expect(takeAll(budget, 10)).toBe(3);
  expect(budget.take()).toBe(false);
  budget.giveBack();
  expect(takeAll(budget, 10)).toBe(1);
  for (let count = 0; count < 3; count++) budget.giveBack();
  expect(takeAll(budget, 10)).toBe(3);
});

const limits = ((): string | undefined => {
  try {
    return /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  } catch {
    return undefined;
  }
})();

describe.skipIf(limits === undefined)('of this process', () => {
  test('two descriptors per connection stay within the limit, and the reserve is kept', () => {
    const limit = Number(limits);
    const connections = takeAll(DescriptorBudget.ofProcess(), limit);
    const open = readdirSync('/proc/self/fd').length;
    expect(2 * connections).toBeLessThanOrEqual(limit - open - RESERVED_DESCRIPTORS + 2);
    expect(connections).toBeGreaterThan(0);
    expect(2 * connections).toBeGreaterThan(limit - open - RESERVED_DESCRIPTORS - 100);
  });
});
