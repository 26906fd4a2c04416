import { expect, test } from 'vitest';

import { MAX_SAMPLED_SUBJECTS, SAMPLED_LINE_MS } from '../../src/limits.js';
import { SampledLines } from '../../src/telemetry/sampled-lines.js';

test('the first event of each subject is logged, and then one per minute with the number since', () => {
  const lines = new SampledLines();
  expect(lines.admit('a', 0)).toBe(1);
  expect(lines.admit('b', 0)).toBe(1);
  expect(lines.admit('a', 1)).toBeUndefined();
  expect(lines.admit('a', SAMPLED_LINE_MS - 1)).toBeUndefined();
  expect(lines.admit('a', SAMPLED_LINE_MS)).toBe(3);
  expect(lines.admit('a', SAMPLED_LINE_MS + 1)).toBeUndefined();
});

test('the number of subjects is bounded, and the one that was logged longest ago is forgotten', () => {
  const lines = new SampledLines();
  for (let subject = 0; subject <= MAX_SAMPLED_SUBJECTS; subject++) lines.admit(String(subject), 0);
  expect(lines.admit('1', 1)).toBeUndefined();
  expect(lines.admit('0', 1)).toBe(1);
});
