import type { LogLine } from '../log-lines.js';
import { isHarmless, type Fault, type Plan } from './plan.js';
import type { Seen } from './seen.js';

/** What was seen of one connection, on all sides. */
export interface Evidence {
  readonly plan: Plan;
  /** The faults that came to pass. */
  readonly happened: readonly Fault[];
  /** What the client saw; `undefined`: neither all its bytes nor an error. */
  readonly client: Seen | undefined;
  readonly gitaly: 'all' | 'end' | 'error';
  /** The proxy's log line; `undefined` if it never came. */
  readonly line: LogLine | undefined;
  /** Whether all sockets of the network were closed in the end. */
  readonly isSettled: boolean;
}

/** How a connection went, and what is wrong with that. */
export interface Verdict {
  readonly evidence: Evidence;
  readonly reason: string;
  readonly initiator: string;
  readonly wrongs: readonly string[];
}

/** Ends that bytes which arrive late, in pieces or not at all are no cause for. */
const NEVER = [
  'abuse',
  'internal_error',
  'protocol_unknown',
  'client_certificate_refused',
  'drained',
  'drain_timeout',
];

/** Holds what was seen against what the proxy promises. */
export function judge(evidence: Evidence): Verdict {
  const { plan, happened, client, gitaly, line, isSettled } = evidence;
  const [reason, initiator] = [textOf(line?.['close.reason']), textOf(line?.['close.initiator'])];
  const mayEnd = happened.some(({ kind }) => kind === 'cut');
  const wrongs: string[] = [];
  if (!client) wrongs.push('the client saw neither all its bytes nor an error');
  else if (client.what === 'wrong') wrongs.push(`the client: ${client.how}`);
  else if (client.what === 'end' && !mayEnd)
    wrongs.push(`the client saw a clean end, ${client.how}, and the network had cut nothing off`);
  else if (client.what === 'all' && gitaly !== 'all')
    wrongs.push(`the client had its answer, Gitaly not the upload`);
  else if (client.what !== 'all' && isHarmless(plan))
    wrongs.push('the network was only slow, and yet the client did not have all its bytes');
  if (gitaly === 'end' && !mayEnd)
    wrongs.push(
      'Gitaly saw a clean end before it had all of the upload, and the network had cut nothing off',
    );
  if (!line) wrongs.push('the proxy logged no end of the connection');
  if (NEVER.includes(reason)) wrongs.push(`the proxy ended it with ${reason}`);
  if (!isSettled) wrongs.push('sockets were left open');
  return { evidence, reason, initiator, wrongs };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : 'unknown';
}
