import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { RELOAD_POLL_MS } from '../../src/limits.js';
import { Reloader } from '../../src/serving/reloader.js';
import { EMPTY_STATE, type ProxyState } from '../../src/serving/serving-state.js';
import { Metrics } from '../../src/telemetry/metrics.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('a look at the files that throws is reported as a failed reload, and the next one is made', async () => {
  let looks = 0;
  const proxy = {
    get state(): ProxyState {
      looks++;
      if (looks === 2) throw new Error('a fault');
      return EMPTY_STATE;
    },
    reload: () => Promise.resolve(),
  };
  const errors: unknown[] = [];
  const logger = {
    log: (event: string, fields: unknown) => event === 'reload_failed' && errors.push(fields),
  };
  const metrics = new Metrics('0');
  const reloader = new Reloader(proxy, logger, metrics);
  reloader.start();
  await vi.advanceTimersByTimeAsync(RELOAD_POLL_MS);
  expect(errors).toEqual([{ error: 'Error: a fault' }]);
  expect((await metrics.expose('prometheus')).body).toContain('tls_last_reload_successful 0');
  const before = looks;
  await vi.advanceTimersByTimeAsync(RELOAD_POLL_MS);
  expect(looks).toBeGreaterThan(before);
  expect((await metrics.expose('prometheus')).body).toContain('tls_last_reload_successful 1');
  reloader.stop();
});
