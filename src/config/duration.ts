import { MAX_TIMER_MS } from '../limits.js';
import { parsed, refused, type Parsed } from './parsed.js';

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ['ns', 1e-6],
  ['us', 1e-3],
  ['µs', 1e-3],
  ['μs', 1e-3],
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

/** The same syntax as a pattern, for the JSON Schema. */
export const DURATION_PATTERN = '^\\+?(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$';

const WHOLE = new RegExp(DURATION_PATTERN, 'u');
const PART = /([0-9.]+)(ns|us|µs|μs|ms|s|m|h)/gu;

/**
 * Parses a duration in Go's syntax (`time.ParseDuration`), which Gitaly's configuration uses: `"10s"`, `"1h30m"`,
 * `"500ms"`, `"1.5h"`.
 *
 * @returns whole milliseconds, from 1 to the maximum of a timer, 24 days.
 */
export function parseDuration(text: string): Parsed<number> {
  if (!WHOLE.test(text)) {
    if (/^-/u.test(text)) return refused('a duration must be greater than zero, for example "10s"');
    if (/^[0-9]+$/u.test(text))
      return refused(`a duration needs a unit, for example "${text}s" or "${text}m"`);
    if (/[0-9]d/u.test(text)) return refused('days are not supported: use hours, for example "24h"');
    return refused('expected a duration such as "500ms", "10s", "1m" or "1h30m"');
  }
  let total = 0;
  for (const [, number = '', unit = ''] of text.matchAll(PART)) {
    total += Number(number) * (UNIT_MS.get(unit) ?? NaN);
  }
  const ms = Math.round(total);
  if (ms < 1) return refused('a duration must be at least one millisecond, for example "10s"');
  if (ms > MAX_TIMER_MS) return refused('a duration must not exceed 596 hours, for example "6h"');
  return parsed(ms);
}
