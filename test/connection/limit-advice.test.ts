import { expect, test } from 'vitest';

import { settingsSchema } from '../../src/config/schema.js';
import { describeLimit } from '../../src/connection/limit-advice.js';
import type { ExceededLimit } from '../../src/inspect/limit.js';
import { ABUSE_LIMITS } from '../../src/limits.js';

const VALUES = { ...ABUSE_LIMITS, prefaceMs: 7000 };
const BUCKET = (rate: number, burst: number): string => `a burst of ${burst}, then ${rate} per second`;

/** Each limit with the setting to raise, if there is one, and the value in effect. */
const LIMITS: Readonly<Record<ExceededLimit, readonly [setting: string | undefined, value: string]>> = {
  reset_flood: ['abuse_limits.resets', BUCKET(33, 1000)],
  late_reset_flood: ['abuse_limits.late_resets', BUCKET(1000, 10_000)],
  control_flood: ['abuse_limits.control_frames', BUCKET(33, 1000)],
  frame_flood: ['abuse_limits.small_frames', BUCKET(330, 10_000)],
  yamux_flood: ['abuse_limits.small_frames', BUCKET(330, 10_000)],
  hpack_too_large: ['abuse_limits.oversized_headers', BUCKET(0.1, 10)],
  too_many_streams: ['abuse_limits.calls_per_connection', '10000'],
  slow_block: ['timeouts.preface', '7000 ms'],
  continuation: [undefined, '8, and one more for each 4096 bytes'],
  interleaved_block: [undefined, 'no other frame'],
  unacknowledged_settings: [undefined, '16'],
  unaccepted_streams: [undefined, '256'],
  too_many_connections: [undefined, '8'],
  refused_flood: [undefined, '4096'],
};

test.each(Object.entries(LIMITS))(
  '%s: the setting, its value and the fix are named',
  (limit, [setting, value]) => {
    const text = describeLimit(limit as ExceededLimit, VALUES);
    expect(text).toContain(value);
    expect(text).toContain(
      setting === undefined
        ? 'If you trust the client, set `inspect: false` on a listener for it alone, without `policy`'
        : `If you trust the client, raise \`${setting}\``,
    );
    const [group, key] = setting?.split('.') ?? [];
    if (group === 'abuse_limits')
      expect(Object.keys(settingsSchema.shape.abuse_limits.unwrap().shape)).toContain(key);
  },
);
