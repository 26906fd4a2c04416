import type { Rate } from '../inspect/rate-bucket.js';
import { MAX_SHOWN_IDENTITY_LENGTH, MAX_SHOWN_RPC_LENGTH } from '../limits.js';
import { cut, printable } from '../printable.js';
import type { CallRefusal } from './call-judge.js';
import { CallLimits, type CallLimitSettings, type LimitName } from './call-limits.js';
import { readIdentityPattern, type IdentityPattern } from './identity-pattern.js';
import type { RpcOperation } from './known-rpcs.js';
import { readRpcPattern, type RpcPattern } from './rpc-pattern.js';
import type { RpcTable } from './rpc-table.js';

/** A rule as configured, in plain values. */
export interface RuleSettings extends CallLimitSettings {
  /** Its label in metrics; not `none`. */
  readonly name: string;
  /** Identity patterns. */
  readonly identities: readonly string[];
  /** RPC patterns. */
  readonly allow: readonly string[];
  readonly maxCalls: number | undefined;
  readonly callsPerSecond: Rate | undefined;
}

/** The policy of a listener as configured, in plain values. */
export interface PolicySettings {
  readonly mode: 'enforce' | 'report';
  readonly readOnly: boolean;
  /** The first rule that names the client decides. */
  readonly rules: readonly RuleSettings[];
}

/** The refusal of a call; its message contains both texts. */
interface PolicyRefusal extends CallRefusal {
  /** Names the client, the RPC and the rule. */
  readonly reason: string;
  readonly fix: string;
}

/** The decision on a call. */
export interface Decision {
  readonly allowed: boolean;
  /** The name of the rule that decided; `none` if no rule names the client. */
  readonly rule: string;
  /** The identity that the rule names, or else the first one of the client; `undefined` if the client has none. */
  readonly identity: string | undefined;
  /** Set if and only if the call is not allowed. */
  readonly refusal: PolicyRefusal | undefined;
  /** `mutator` for an unknown RPC. */
  readonly operation: RpcOperation;
  readonly isKnown: boolean;
  /** To be called once when the call is over; `undefined` if it is not counted. */
  readonly ended: (() => void) | undefined;
}

/** The gRPC status codes of refused calls. */
const CODE = { permissionDenied: 7, resourceExhausted: 8, failedPrecondition: 9 } as const;

/** The name of the rule in decisions on clients that no rule names. */
export const NO_RULE = 'none';

/** The rule that names a client. */
interface RuleMatch {
  readonly rule: Rule | undefined;
  readonly identity: string | undefined;
}

interface Rule {
  readonly settings: RuleSettings;
  readonly identities: readonly IdentityPattern[];
  readonly allow: readonly RpcPattern[];
}

/** An RPC and what is known of it. */
interface Requested {
  readonly service: string;
  readonly method: string;
  readonly operation: RpcOperation;
  readonly isKnown: boolean;
}

/** Decides which client may call which RPC. */
export class Policy {
  readonly settings: PolicySettings;
  readonly #rules: readonly Rule[];
  readonly #rpcs: RpcTable;
  readonly #limits: CallLimits;
  /** By the identities of a client: the same array for all calls of a connection. */
  readonly #matches = new WeakMap<readonly string[], RuleMatch>();

  /** @throws Error if a pattern is malformed, which the configuration has ruled out */
  constructor(settings: PolicySettings, rpcs: RpcTable, limits = new CallLimits()) {
    this.settings = settings;
    this.#rpcs = rpcs;
    this.#limits = limits;
    this.#rules = settings.rules.map((rule) => ({
      settings: rule,
      identities: rule.identities.map((text) => valid(text, readIdentityPattern(text))),
      allow: rule.allow.map((text) => valid(text, readRpcPattern(text))),
    }));
  }

  /**
   * Decides on a call. An allowed call counts towards the limits of its rule until `ended` is called.
   *
   * @param identities - the identities of the client, in order; empty without a verified certificate.
   */
  decide(identities: readonly string[], service: string, method: string, nowMs: number): Decision {
    const { rule, identity } = this.#match(identities);
    const rpc = this.#rpcs.find(service, method);
    const operation = rpc?.operation ?? 'mutator';
    const requested: Requested = { service, method, operation, isKnown: rpc !== undefined };
    const refusal = this.#refuse(rule, identity, requested) ?? this.#count(rule, identity, requested, nowMs);
    const isCounted = typeof refusal === 'function';
    return {
      allowed: refusal === undefined || isCounted,
      rule: rule?.settings.name ?? NO_RULE,
      identity,
      refusal: isCounted ? undefined : refusal,
      operation,
      isKnown: requested.isKnown,
      ended: isCounted ? refusal : undefined,
    };
  }

  #refuse(
    rule: Rule | undefined,
    identity: string | undefined,
    requested: Requested,
  ): PolicyRefusal | undefined {
    const { operation } = requested;
    if (!rule)
      return refusal(
        CODE.permissionDenied,
        identity,
        requested,
        'no rule of the policy names this client',
        'add a rule with its identity and this RPC to `policy`',
      );
    if (!rule.allow.some((pattern) => names(pattern, requested)))
      return refusal(
        CODE.permissionDenied,
        identity,
        requested,
        `rule "${rule.settings.name}" does not allow it`,
        'add the RPC to `allow` of this rule, or use an identity that may call it',
      );
    if (this.settings.readOnly && (operation === 'mutator' || operation === 'maintenance'))
      return refusal(
        CODE.failedPrecondition,
        identity,
        requested,
        `Gitaly is read-only; rule "${rule.settings.name}" allows it otherwise`,
        'try again later, or set `read_only: false` in `policy`',
      );
    return undefined;
  }

  /** Returns what the end of the call calls; `undefined` if the rule has no limits. */
  #count(
    rule: Rule | undefined,
    identity: string | undefined,
    requested: Requested,
    nowMs: number,
  ): (() => void) | PolicyRefusal | undefined {
    if (rule?.settings.maxCalls === undefined && rule?.settings.callsPerSecond === undefined)
      return undefined;
    const counted = this.#limits.take(rule.settings, identity ?? '', nowMs);
    if (typeof counted !== 'string') return counted;
    return refusal(
      CODE.resourceExhausted,
      identity,
      requested,
      `${describeLimit(counted, rule.settings)} of rule "${rule.settings.name}" exceeded`,
      `make fewer calls at a time, or raise \`${counted}\` of this rule`,
    );
  }

  #match(identities: readonly string[]): RuleMatch {
    let match = this.#matches.get(identities);
    if (!match) {
      match = matchRule(this.#rules, identities);
      this.#matches.set(identities, match);
    }
    return match;
  }
}

function matchRule(rules: readonly Rule[], identities: readonly string[]): RuleMatch {
  for (const rule of rules) {
    const identity = identities.find((one) => rule.identities.some((pattern) => pattern.matches(one)));
    if (identity !== undefined) return { rule, identity };
    if (rule.identities.some(({ namesAll }) => namesAll)) return { rule, identity: undefined };
  }
  return { rule: undefined, identity: identities[0] };
}

/** The parts of a `:path`, split as grpc-go does; a path that it does not split names no RPC. */
export function splitPath(path: string): { readonly service: string; readonly method: string } {
  const name = path.startsWith('/') ? path.slice(1) : path;
  const slash = name.lastIndexOf('/');
  return slash < 0
    ? { service: '', method: name }
    : { service: name.slice(0, slash), method: name.slice(slash + 1) };
}

function refusal(
  code: number,
  identity: string | undefined,
  requested: Requested,
  why: string,
  fix: string,
): PolicyRefusal {
  const reason = `${describeClient(identity)} may not call ${describeRpc(requested)}: ${why}`;
  return { kind: 'refuse', code, message: `gitaly-tls-proxy: ${reason}; fix: ${fix}`, reason, fix };
}

function names(pattern: RpcPattern, { service, method, operation }: Requested): boolean {
  switch (pattern.kind) {
    case 'all':
      return true;
    case 'operation':
      return pattern.operation === operation;
    case 'service':
      return pattern.service === service;
    case 'rpc':
      return pattern.service === service && pattern.method === method;
  }
}

function valid<T>(text: string, read: T | string): T {
  if (typeof read === 'string') throw new Error(`${text}: ${read}`);
  return read;
}

function describeClient(identity: string | undefined): string {
  return identity === undefined
    ? 'a client without an identity'
    : cut(printable(identity), MAX_SHOWN_IDENTITY_LENGTH);
}

function describeRpc({ service, method, operation, isKnown }: Requested): string {
  const name = cut(printable(`${service}/${method}`), MAX_SHOWN_RPC_LENGTH);
  return `${name} (${isKnown ? operation : 'an unknown RPC, so a mutator'})`;
}

function describeLimit(name: LimitName, { maxCalls, callsPerSecond }: RuleSettings): string {
  return name === 'max_calls'
    ? `max_calls (${maxCalls ?? 0})`
    : `calls_per_second (rate ${callsPerSecond?.perSecond ?? 0}, burst ${callsPerSecond?.burst ?? 0})`;
}
