import { CLOCK_CALLS_AT_ONCE, MAX_OPEN_TOKEN_AHEAD_MS } from '../../limits.js';
import { callServerInfo } from '../../gitaly-client/server-info.js';
import { gitalyAuthorization } from '../../gitaly-client/gitaly-token.js';
import type { GrpcClient } from '../../gitaly-client/grpc-client.js';
import type { CheckSettings } from './named-target.js';

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;

/**
 * Differences that are tried, the small ones first. Gitaly takes a token for 30 s before and after its time, so that
 * steps of 50 s leave no gap: a quarter of an hour to either side. Beyond that, clocks are wrong by a time zone: half
 * hours, 14 hours to either side.
 */
const TRIED_MS: readonly number[] = [...bothWays(18, 50 * SECOND_MS), ...bothWays(28, 30 * MINUTE_MS)];

/** A token is taken for so long before and after its time at the most; where it ceases to be is then looked for. */
const WIDEST_WINDOW_MS = 2 * MINUTE_MS;

/** Whether what is sent to Gitaly is read by nobody else on the way, as far as one can tell. */
export type Secrecy = 'private' | 'open';

/**
 * How far the clock of a Gitaly that refuses a token is ahead of this one, in milliseconds, to a second: gRPC's answers
 * carry no date, so tokens of other times are tried. `undefined` if none is taken: then it is not for the time.
 */
export async function findClockDifference(
  connection: GrpcClient,
  token: string,
  secrecy: Secrecy,
  { timeoutMs, nowMs }: CheckSettings,
): Promise<number | undefined> {
  const differencesMs =
    secrecy === 'private' ? TRIED_MS : TRIED_MS.filter((ms) => ms <= MAX_OPEN_TOKEN_AHEAD_MS);
  const isTaken = async (differenceMs: number): Promise<boolean> => {
    const authorization = gitalyAuthorization(token, nowMs() + differenceMs);
    const { code } = await callServerInfo(connection, timeoutMs, authorization);
    return code === 'OK';
  };
  for (let index = 0; index < differencesMs.length; index += CLOCK_CALLS_AT_ONCE) {
    const tried = differencesMs.slice(index, index + CLOCK_CALLS_AT_ONCE);
    const taken = await Promise.all(tried.map(isTaken));
    const found = tried.find((_difference, position) => taken[position]);
    if (found === undefined) continue;
    const earliest = await edge(isTaken, found, found - WIDEST_WINDOW_MS);
    const latest = await edge(isTaken, found, found + WIDEST_WINDOW_MS);
    return (earliest + latest) / 2;
  }
  return undefined;
}

/** The last difference that is taken between one that is and one that is not, by halves. */
async function edge(
  isTaken: (differenceMs: number) => Promise<boolean>,
  inside: number,
  outside: number,
): Promise<number> {
  let [taken, refused] = [inside, outside];
  while (Math.abs(taken - refused) > SECOND_MS) {
    const middle = (taken + refused) / 2;
    if (await isTaken(middle)) taken = middle;
    else refused = middle;
  }
  return taken;
}

function bothWays(count: number, stepMs: number): number[] {
  return Array.from({ length: count }, (_, index) => (index + 1) * stepMs).flatMap((ms) => [ms, -ms]);
}
