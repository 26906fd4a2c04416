import { expect, test } from 'vitest';

import { Silence, type Activity } from '../../src/http/silence.js';

const TIMEOUTS = { idleMs: 60_000, prefaceMs: 10_000 };

/** An HTTP/2 connection at a moment at which it neither reads nor writes. */
function standingStill(bytesRead: number): Activity {
  return {
    bytesRead,
    bytesWritten: 0,
    isHttp2: true,
    openRequests: 0,
    hadRequests: true,
    standsStill: true,
  };
}

test('an HTTP/2 connection that neither reads nor writes is closed as malformed', () => {
  const silence = new Silence(TIMEOUTS);
  expect(silence.look(0, standingStill(100))).toBeUndefined();
  expect(silence.look(1000, standingStill(100))?.reason).toBe('request_malformed');
});

test('an HTTP/2 connection on which bytes moved since the last look is kept, because it stops reading during each write', () => {
  const silence = new Silence(TIMEOUTS);
  for (let look = 0; look < 20; look++)
    expect(silence.look(1000 * look, standingStill(100 * look))).toBeUndefined();
});
