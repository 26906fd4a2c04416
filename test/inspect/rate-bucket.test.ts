import { expect, test } from 'vitest';

import { RateBucket } from '../../src/inspect/rate-bucket.js';

const RATE = { burst: 10, perSecond: 2 };

test('a bucket gives its burst at once, and then its rate', () => {
  const bucket = new RateBucket(RATE);
  for (let taken = 0; taken < 10; taken++) expect(bucket.take(1, 5000)).toBe(true);
  expect(bucket.take(1, 5000)).toBe(false);
  // It owes one: after a second it has two, of which one is left.
  expect(bucket.take(1, 6000)).toBe(true);
  expect(bucket.take(1, 6000)).toBe(false);
});

test('it never holds more than its burst, however long it rests and whatever it is given', () => {
  for (const fill of [(bucket: RateBucket) => bucket.give(1000), () => undefined]) {
    const bucket = new RateBucket(RATE);
    expect(bucket.take(5, 0)).toBe(true);
    fill(bucket);
    expect(bucket.take(10, 1e9)).toBe(true);
    expect(bucket.take(1, 1e9)).toBe(false);
  }
});

test('what is given may be taken at once', () => {
  const bucket = new RateBucket(RATE);
  expect(bucket.take(10, 0)).toBe(true);
  bucket.give(3);
  expect(bucket.take(3, 0)).toBe(true);
  expect(bucket.take(1, 0)).toBe(false);
});
