import { expect, test } from 'vitest';

import { PageQueue } from '../../src/admin/admin-server.js';

test('one page is made at a time, and those that wait for the same share one', async () => {
  const queue = new PageQueue<string>();
  const making: string[] = [];
  let most = 0;
  const page = (key: string): Promise<string> =>
    queue.page(key, async () => {
      making.push(key);
      most = Math.max(most, making.length);
      await new Promise((resolve) => setImmediate(resolve));
      making.splice(making.indexOf(key), 1);
      return `${key} ${Math.random()}`;
    });
  const first = page('a');
  await new Promise((resolve) => setImmediate(resolve));
  // The first is being made, and may not show what has happened since it was begun.
  const [second, third, other] = [page('a'), page('a'), page('b')];
  expect(await second).toBe(await third);
  expect(await first).not.toBe(await second);
  expect(await other).toMatch(/^b /u);
  expect(most).toBe(1);
});

test('a page that fails is an error for those who wait for it, and not for later ones', async () => {
  const queue = new PageQueue<string>();
  await expect(queue.page('a', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await queue.page('a', () => Promise.resolve('yes'))).toBe('yes');
});
