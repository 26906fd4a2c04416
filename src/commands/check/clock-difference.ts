import { CLOCK_CALLS_AT_ONCE, MAX_OPEN_TOKEN_AHEAD_MS } from '../../limits.js';
import { callServerInfo } from '../../gitaly-client/server-info.js';
import { gitalyAuthorization } from '../../gitaly-client/gitaly-token.js';
import type { GrpcClient } from '../../gitaly-client/grpc-client.js';
import type { CheckSettings } from './named-target.js';

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;

/**
 * Differences to try, small ones first. Gitaly accepts a token for 30 s before and after its time, so steps of 50 s
 * leave no gap; they cover a quarter of an hour in both directions. Larger differences come from a wrong time zone: half
 * hours, up to 14 hours in both directions.
 */
const CANDIDATES_MS: readonly number[] = [...bothWays(18, 50 * SECOND_MS), ...bothWays(28, 30 * MINUTE_MS)];

/** More than the time for which a token is accepted before and after its own; bounds the search for the edges. */
const WIDEST_WINDOW_MS = 2 * MINUTE_MS;

/** Whether the connection is protected from eavesdroppers. */
export type Secrecy = 'private' | 'open';

/**
 * Measures how far the clock of a Gitaly that refuses a token is ahead of this one, in milliseconds, accurate to a
 * second. Answers of gRPC contain no date, so tokens of other times are tried. `undefined` if all are refused: the time
 * is not the reason then.
 */
export async function findClockDifference(
  connection: GrpcClient,
  token: string,
  secrecy: Secrecy,
  { timeoutMs, nowMs }: CheckSettings,
): Promise<number | undefined> {
  const differencesMs =
    secrecy === 'private' ? CANDIDATES_MS : CANDIDATES_MS.filter((ms) => ms <= MAX_OPEN_TOKEN_AHEAD_MS);
  const isAccepted = async (differenceMs: number): Promise<boolean> => {
    const authorization = gitalyAuthorization(token, nowMs() + differenceMs);
    const { code } = await callServerInfo(connection, timeoutMs, authorization);
    return code === 'OK';
  };
  for (let index = 0; index < differencesMs.length; index += CLOCK_CALLS_AT_ONCE) {
    const tried = differencesMs.slice(index, index + CLOCK_CALLS_AT_ONCE);
    const results = await Promise.all(tried.map(isAccepted));
    const found = tried.find((_difference, position) => results[position]);
    if (found === undefined) continue;
    const earliest = await edge(isAccepted, found, found - WIDEST_WINDOW_MS);
    const latest = await edge(isAccepted, found, found + WIDEST_WINDOW_MS);
    return (earliest + latest) / 2;
  }
  return undefined;
}

/** Bisects between an accepted and a refused difference. Returns the last accepted one. */
async function edge(
  isAccepted: (differenceMs: number) => Promise<boolean>,
  inside: number,
  outside: number,
): Promise<number> {
  let [accepted, refused] = [inside, outside];
  while (Math.abs(accepted - refused) > SECOND_MS) {
    const middle = (accepted + refused) / 2;
    if (await isAccepted(middle)) accepted = middle;
    else refused = middle;
  }
  return accepted;
}

function bothWays(count: number, stepMs: number): number[] {
  return Array.from({ length: count }, (_, index) => (index + 1) * stepMs).flatMap((ms) => [ms, -ms]);
}
