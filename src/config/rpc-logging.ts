import { parseDuration } from './duration.js';
import type { RpcLogging } from './model.js';
import { parsed, refused, type Parsed } from './parsed.js';

/** Reads `logging.rpc`: `all`, `failed`, `none`, or `slow:` and a duration. */
export function parseRpcLogging(text: string): Parsed<Pick<RpcLogging, 'which' | 'slowMs'>> {
  if (text === 'all' || text === 'failed' || text === 'none') return parsed({ which: text, slowMs: 0 });
  const [, duration] = /^slow:(.*)$/u.exec(text) ?? [];
  if (duration === undefined)
    return refused('expected "all", "failed", "none", or "slow:" and a duration, for example "slow:1s"');
  const slow = parseDuration(duration);
  return slow.ok ? parsed({ which: 'slow', slowMs: slow.value }) : refused(`after "slow:": ${slow.message}`);
}
