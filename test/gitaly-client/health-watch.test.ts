import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { HealthWatch } from '../../src/gitaly-client/health-watch.js';
import type { CheckedUpstream } from '../../src/gitaly-client/upstream-check.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('a check whose report throws is followed by the next one', async () => {
  let dials = 0;
  const connect = (): never => {
    dials++;
    throw new Error('no route');
  };
  const upstream: CheckedUpstream = {
    listener: 'tcp://127.0.0.1:0',
    dialer: {
      address: { scheme: 'tcp', host: '127.0.0.1', port: 9, url: 'tcp://127.0.0.1:9' },
      dial: connect,
      connect,
    },
    hello: undefined,
    speaks: 'http',
    timeoutMs: 1000,
    token: undefined,
  };
  const events: string[] = [];
  const logger = {
    log: (event: string) => {
      events.push(event);
      if (events.length === 1) throw new Error('the log is broken');
    },
  };
  const watch = new HealthWatch(logger);
  watch.configure({ intervalMs: 1000, upstreams: [upstream] });
  await vi.advanceTimersByTimeAsync(2500);
  watch.stop();
  expect(dials).toBe(3);
  expect(events).toEqual(['upstream_down', 'health_check_error']);
});
