import { expect, test } from 'vitest';

import { SendWindow, StallTally } from '../../src/inspect/send-window.js';

test('a tally knows how long all of its windows were empty, those that still are included', () => {
  const tally = new StallTally();
  const windows = [10, 10, 10].map((bytes) => new SendWindow(bytes));
  for (const window of windows) window.countIn(tally);
  windows[0]?.use(10, 100);
  windows[1]?.use(10, 200);
  expect(tally.totalMs(300)).toBe(300);
  windows[0]?.give(1, 300);
  expect(tally.totalMs(400)).toBe(400);
  windows[1]?.close(500);
  windows[2]?.close(500);
  expect(tally.totalMs(1000)).toBe(500);
  // Closed windows wait for nobody.
  windows[1]?.use(1000, 1100);
  expect(tally.totalMs(2000)).toBe(500);
});

test('a window that is empty already counts since then', () => {
  const tally = new StallTally();
  const window = new SendWindow(1);
  window.use(1, 50);
  window.countIn(tally);
  expect(tally.totalMs(80)).toBe(30);
});

test('a total never becomes smaller, whatever is rounded', () => {
  const tally = new StallTally();
  const windows = Array.from({ length: 100 }, () => new SendWindow(1));
  let before = 0;
  for (const [index, window] of windows.entries()) {
    window.countIn(tally);
    window.use(1, 0.1 * index + 1e9);
  }
  for (const [index, window] of windows.entries()) {
    window.give(1, 1e9 + 100 + 0.3 * index);
    const total = tally.totalMs(1e9 + 100 + 0.3 * index);
    expect(total).toBeGreaterThanOrEqual(before);
    before = total;
  }
});
