import type { CallJudge, CallPermit, CallRefusal, JudgedCall } from './call-judge.js';
import { CallLimits } from './call-limits.js';
import { Policy, splitPath, type Decision, type PolicySettings } from './policy.js';
import type { RpcTable } from './rpc-table.js';

const NOTHING = Buffer.alloc(0);
const FORWARD: CallPermit = { kind: 'forward', fields: NOTHING };

/** The policy of a listener that is in effect. A reload replaces it, also for open connections. */
export class CurrentPolicy {
  /** They outlive a reload, because calls do. */
  readonly #limits = new CallLimits();
  #policy: Policy | undefined;

  /** `undefined`: no call is judged. */
  get policy(): Policy | undefined {
    return this.#policy;
  }

  /** Builds a policy for this listener that is not in effect yet. */
  prepare(settings: PolicySettings | undefined, rpcs: RpcTable): Policy | undefined {
    return settings && new Policy(settings, rpcs, this.#limits);
  }

  publish(policy: Policy | undefined): void {
    this.#policy = policy;
  }
}

/** The outcome for a call; label `decision` of `policy_decisions_total`. */
export type Outcome = 'allowed' | 'denied' | 'would_deny';

/** A call on which the policy has decided. */
export interface DecidedCall {
  readonly outcome: Outcome;
  readonly decision: Decision;
  readonly service: string;
  readonly method: string;
  readonly correlationId: string | undefined;
}

/** Judges the calls of one connection by the policy in effect. */
export class PolicyJudge implements CallJudge {
  readonly #current: CurrentPolicy;
  readonly #identities: readonly string[];
  readonly #onDecision: (call: DecidedCall) => void;

  /** @param identities - the identities of the client, in order */
  constructor(
    current: CurrentPolicy,
    identities: readonly string[],
    onDecision: (call: DecidedCall) => void,
  ) {
    this.#current = current;
    this.#identities = identities;
    this.#onDecision = onDecision;
  }

  judge({ path, correlationId }: JudgedCall, nowMs: number): CallPermit | CallRefusal {
    const { policy } = this.#current;
    if (!policy) return FORWARD;
    const { service, method } = splitPath(path);
    const decision = policy.decide(this.#identities, service, method, nowMs);
    const { refusal, ended } = decision;
    const isReported = policy.settings.mode === 'report';
    const outcome = refusal ? (isReported ? 'would_deny' : 'denied') : 'allowed';
    this.#onDecision({ outcome, decision, service, method, correlationId });
    if (refusal && !isReported) return refusal;
    return ended ? { kind: 'forward', fields: NOTHING, ended } : FORWARD;
  }
}
