import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { FileGate, FileTimeout } from '../../src/files/file-gate.js';
import { FILE_DEADLINE_MS, MAX_FILE_WORK } from '../../src/limits.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Work that the test ends, and a list of the work that has started. */
function hangingWork(gate: FileGate): {
  started: string[];
  enter: (path: string) => Promise<string>;
  finish: (path: string) => void;
} {
  const started: string[] = [];
  const finish = new Map<string, () => void>();
  return {
    started,
    enter: (path) => {
      const outcome = gate.enter(path, () => {
        started.push(path);
        return new Promise<string>((resolve) => finish.set(path, () => resolve(`content of ${path}`)));
      });
      outcome.catch(() => undefined);
      return outcome;
    },
    finish: (path) => finish.get(path)?.(),
  };
}

const PATHS = Array.from({ length: MAX_FILE_WORK + 2 }, (_, index) => `/file-${index}`);

test('a limited number of accesses run at a time, the others in their order', async () => {
  const { started, enter, finish } = hangingWork(new FileGate());
  const outcomes = PATHS.map(enter);
  expect(started).toEqual(PATHS.slice(0, MAX_FILE_WORK));
  for (const path of PATHS) {
    finish(path);
    await vi.advanceTimersByTimeAsync(0);
  }
  expect(await Promise.all(outcomes)).toEqual(PATHS.map((path) => `content of ${path}`));
});

test('only one access per path runs at a time, and others are not held up by it', async () => {
  const { started, enter, finish } = hangingWork(new FileGate());
  const outcomes = ['/a', '/a', '/b'].map(enter);
  expect(started).toEqual(['/a', '/b']);
  finish('/a');
  await vi.advanceTimersByTimeAsync(0);
  expect(started).toEqual(['/a', '/b', '/a']);
  finish('/a');
  finish('/b');
  await Promise.all(outcomes);
});

test('an access that hangs fails at its deadline, and further ones to its path at once, until it returns', async () => {
  const { started, enter, finish } = hangingWork(new FileGate());
  const first = enter('/hung');
  await vi.advanceTimersByTimeAsync(FILE_DEADLINE_MS);
  await expect(first).rejects.toThrow(FileTimeout);
  await expect(enter('/hung')).rejects.toThrow('timed out after 5 s');
  const other = enter('/other');
  finish('/other');
  expect(await other).toBe('content of /other');

  finish('/hung');
  await vi.advanceTimersByTimeAsync(0);
  const again = enter('/hung');
  finish('/hung');
  expect(await again).toBe('content of /hung');
  expect(started).toEqual(['/hung', '/other', '/hung']);
});

test('while all that may run hangs, what waits and what comes fails', async () => {
  const { started, enter, finish } = hangingWork(new FileGate());
  const outcomes = PATHS.map(enter);
  await vi.advanceTimersByTimeAsync(FILE_DEADLINE_MS);
  for (const outcome of outcomes) await expect(outcome).rejects.toThrow(FileTimeout);
  await expect(enter('/new')).rejects.toThrow(FileTimeout);
  expect(started).toEqual(PATHS.slice(0, MAX_FILE_WORK));
  expect(vi.getTimerCount()).toBe(0);

  finish(PATHS[0] ?? '');
  await vi.advanceTimersByTimeAsync(0);
  const next = enter('/new');
  finish('/new');
  expect(await next).toBe('content of /new');
});

test('an access that fails passes its reason on', async () => {
  const gate = new FileGate();
  await expect(gate.enter('/x', () => Promise.reject(new Error('ENOENT')))).rejects.toThrow('ENOENT');
});
