import { StallTally, type StallTallies } from '../../inspect/send-window.js';
import { DurationCounts } from './duration-counts.js';
import type { Outcome } from '../../policy/policy-judge.js';
import type { RpcOperation } from '../../policy/known-rpcs.js';

/** A group of calls, by protocol and direction. Over plain HTTP/2, only clients make calls. */
export type CallGroup = 'http2 to_upstream' | 'backchannel to_upstream' | 'backchannel to_client';

/** The counts of one group of calls on one listener. */
export class CallGroupCounts {
  /** By the effect of the RPC on a repository. */
  readonly started = new Map<RpcOperation | 'unknown', number>();
  inFlight = 0;
  /** Calls whose end is not known. */
  lost = 0;
  readonly payloadBytes = { request: 0, response: 0 };
  /** Time during which the client (requests) or Gitaly (responses) had no window to send. */
  readonly stalls: StallTallies = { client: new StallTally(), server: new StallTally() };
}

/** The counts of the sidechannels of one listener. */
export class SidechannelCounts {
  opened = 0;
  active = 0;
  /** Sidechannels that were not closed on both sides. */
  cut = 0;
  readonly bytes = { to_upstream: 0, to_client: 0 };
  readonly stalls: StallTallies = { client: new StallTally(), server: new StallTally() };
  readonly durations = new DurationCounts();
}

/** The counts of one listener's inspected traffic. */
export class ListenerCounts {
  readonly groups: Readonly<Record<CallGroup, CallGroupCounts>> = {
    'http2 to_upstream': new CallGroupCounts(),
    'backchannel to_upstream': new CallGroupCounts(),
    'backchannel to_client': new CallGroupCounts(),
  };
  readonly sidechannels = new SidechannelCounts();
  /** Decisions of the policy by rule, and by outcome. */
  readonly decisions = new Map<string, Record<Outcome, number>>();
  /** Connections that could not be followed, by reason. */
  readonly lost = new Map<string, number>();

  decided(rule: string, outcome: Outcome): void {
    this.decisionsOf(rule)[outcome]++;
  }

  /** Counts from 0 on, so that rates are correct from the first call. */
  decisionsOf(rule: string): Record<Outcome, number> {
    let counts = this.decisions.get(rule);
    if (!counts) this.decisions.set(rule, (counts = { allowed: 0, denied: 0, would_deny: 0 }));
    return counts;
  }
}
