import { expect, onTestFinished, test, vi } from 'vitest';

import { withDeadline } from '../src/deadline.js';

function fakeTimers(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}

test('a deadline aborts its signal after its time, with the reason that is made then', () => {
  fakeTimers();
  const { signal } = withDeadline(new AbortController().signal, 1000, () => 'too late');
  vi.advanceTimersByTime(999);
  expect(signal.aborted).toBe(false);
  vi.advanceTimersByTime(1);
  expect(signal.reason).toBe('too late');
});

test.each(['before', 'after'])('a parent that aborts %s the deadline begins passes its reason on', (when) => {
  fakeTimers();
  const parent = new AbortController();
  if (when === 'before') parent.abort('the client has left');
  const { signal } = withDeadline(parent.signal, 1000, () => 'too late');
  if (when === 'after') parent.abort('the client has left');
  vi.advanceTimersByTime(1000);
  expect(signal.reason).toBe('the client has left');
});

test('a deadline that is cleared leaves no timer, and its signal never aborts', () => {
  fakeTimers();
  const parent = new AbortController();
  const { signal, clear } = withDeadline(parent.signal, 1000, () => 'too late');
  clear();
  expect(vi.getTimerCount()).toBe(0);
  parent.abort('the client has left');
  expect(signal.aborted).toBe(false);
});
