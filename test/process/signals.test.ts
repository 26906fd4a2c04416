import { expect, onTestFinished, test, vi } from 'vitest';

import { SAME_INTERRUPT_MS } from '../../src/limits.js';
import { handleSignals } from '../../src/process/signals.js';

/** The requests in their order, and a way to give the process a signal that only the code under test sees. */
function start(): { asked: string[]; signal: (name: string) => void } {
  const listeners = new Map<string | symbol, () => void>();
  const spy = vi.spyOn(process, 'on').mockImplementation((name: string | symbol, listener: () => void) => {
    listeners.set(name, listener);
    return process;
  });
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  const asked: string[] = [];
  handleSignals({
    onReload: () => asked.push('reload'),
    onDrain: () => asked.push('drain'),
    onStop: () => asked.push('stop'),
    onIgnored: () => asked.push('ignored'),
  });
  spy.mockRestore();
  return { asked, signal: (name) => listeners.get(name)?.() };
}

test('SIGHUP and SIGUSR1 reload, the first of SIGTERM, SIGINT and SIGQUIT drains, a second one stops', () => {
  const { asked, signal } = start();
  for (const name of ['SIGHUP', 'SIGTERM', 'SIGUSR1', 'SIGINT', 'SIGQUIT']) signal(name);
  expect(asked).toEqual(['reload', 'drain', 'reload', 'stop', 'stop']);
});

test('SIGUSR2 is ignored', () => {
  const { asked, signal } = start();
  signal('SIGUSR2');
  expect(asked).toEqual(['ignored']);
});

test('an interrupt that npm passes on a moment later is the same one', () => {
  const { asked, signal } = start();
  signal('SIGINT');
  vi.advanceTimersByTime(SAME_INTERRUPT_MS - 1);
  signal('SIGINT');
  expect(asked).toEqual(['drain']);
  vi.advanceTimersByTime(SAME_INTERRUPT_MS);
  signal('SIGINT');
  expect(asked).toEqual(['drain', 'stop']);
});
