import { MAX_OBSERVED_ROWS } from '../limits.js';
import type { Outcome } from './policy-judge.js';
import type { RpcOperation } from './known-rpcs.js';

/** A CA that may verify a client: one that the client sent, or the configured one that issued the last certificate it sent. */
export interface ObservedAuthority {
  /** Its subject. */
  readonly name: string;
  /** SHA-256 of its public key in hexadecimal; `null` if the certificate is not known. */
  readonly key_sha256: string | null;
}

/** The properties by which clients are grouped. The names are those of the JSON of `/-/policy`. */
export interface ClientProperties {
  /** The URL of the listener, as configured. */
  readonly listener: string;
  /** Empty without a verified certificate. */
  readonly identities: readonly string[];
  /** `null` without TLS. */
  readonly tls_version: string | null;
  /** `null` if the listener does not choose the upstream by it. */
  readonly server_name: string | null;
  /** `not_requested`, `absent`, `verified`, or why a client was admitted only because `client_auth` is `report`. */
  readonly certificate: string;
  /** Empty without a certificate. */
  readonly authorities: readonly ObservedAuthority[];
}

/** An RPC. Calls are counted by the object, so a call costs no string. */
export interface ObservedRpc {
  readonly service: string;
  readonly method: string;
  readonly operation: RpcOperation | 'unknown';
}

/** When something was seen, in ISO 8601. */
interface Seen {
  readonly first_seen: string;
  readonly last_seen: string;
}

/** The calls of a group of clients to one RPC. */
export interface ObservedCalls extends Seen {
  /** `service/Method`. */
  readonly rpc: string;
  readonly operation: RpcOperation | 'unknown';
  readonly calls: number;
  /** The decisions of the policy on them; 0 without one. */
  readonly decisions: Readonly<Record<Outcome, number>>;
  /** The rule of the last decision; `null` without one. */
  readonly rule: string | null;
  /** Calls that the upstream answered with Unauthenticated, PermissionDenied or Unimplemented. */
  readonly refused_by_upstream: number;
}

/** A group of clients with the same properties, and what they called. */
export interface ObservedClients extends ClientProperties, Seen {
  readonly connections: number;
  /** Sorted by name. */
  readonly rpcs: readonly ObservedCalls[];
}

/** The entries that were evicted to stay within the limits. */
export interface Evicted {
  readonly clients: number;
  readonly rpcs: number;
}

/** The traffic that was observed, as plain values. */
export interface TrafficReport {
  /** The traffic since then is complete, except for what was evicted. */
  readonly since: string;
  /** Workers that did not answer, so that their traffic is missing. */
  readonly missing_workers: number;
  readonly evicted: Evicted;
  /** The number of groups of clients. */
  readonly total: number;
  /** At most as many as requested, sorted by their properties. */
  readonly clients: readonly ObservedClients[];
}

/** One connection's view of the group that its client belongs to. */
export interface ObservedClient {
  /** The client has started a call. */
  called(rpc: ObservedRpc): void;
  /** The policy has decided on a call. */
  decided(rpc: ObservedRpc, outcome: Outcome, rule: string): void;
  /** The upstream has refused a call. */
  refused(rpc: ObservedRpc): void;
}

interface SeenMs {
  firstMs: number;
  lastMs: number;
}

interface CallCounts extends SeenMs {
  calls: number;
  readonly decisions: Record<Outcome, number>;
  rule: string | null;
  refusedByUpstream: number;
}

/** A group of clients. */
interface Group extends SeenMs {
  readonly properties: ClientProperties;
  connections: number;
  readonly rpcs: Map<ObservedRpc, CallCounts>;
  /** When it moved to the end of its pool. */
  placedMs: number;
  isEvicted: boolean;
}

/** How often a group moves in the order of its pool: not with each of its calls. */
const ORDER_MS = 1000;

/** A bounded set of groups. */
interface Pool {
  readonly maxRows: number;
  /** One for each group and for each of its RPCs. */
  rows: number;
  /** By their properties, in the order in which they were last seen, to within `ORDER_MS`. */
  readonly groups: Map<string, Group>;
}

/**
 * Counts which clients call which RPCs, and how they connect. Its memory is bounded: if there are too many rows, the group of
 * clients that was seen longest ago is evicted. Clients without a verified certificate have a bound of their own, so that
 * strangers never evict others.
 */
export class ObservedTraffic {
  readonly #now: () => number;
  readonly #sinceMs: number;
  readonly #pools: Readonly<Record<keyof typeof MAX_OBSERVED_ROWS, Pool>>;
  readonly #evicted = { clients: 0, rpcs: 0 };

  /** @param now - returns the milliseconds since 1970 */
  constructor(now: () => number = Date.now, maxRows: Readonly<typeof MAX_OBSERVED_ROWS> = MAX_OBSERVED_ROWS) {
    this.#now = now;
    this.#sinceMs = now();
    const pool = (max: number): Pool => ({ maxRows: max, rows: 0, groups: new Map() });
    this.#pools = { verified: pool(maxRows.verified), others: pool(maxRows.others) };
  }

  /** Counts a connection of a client that is admitted. */
  connected(properties: ClientProperties): ObservedClient {
    const pool = this.#pools[properties.certificate === 'verified' ? 'verified' : 'others'];
    const key = keyOf(properties);
    let group = this.#group(pool, key, properties);
    group.connections++;
    const countsOf = (rpc: ObservedRpc): CallCounts => {
      if (group.isEvicted) group = this.#group(pool, key, properties);
      return this.#counts(pool, group, rpc);
    };
    return {
      called: (rpc) => {
        const counts = countsOf(rpc);
        counts.calls++;
        counts.lastMs = this.#now();
        touch(pool, key, group, counts.lastMs);
      },
      decided: (rpc, outcome, rule) => {
        const counts = countsOf(rpc);
        counts.decisions[outcome]++;
        counts.rule = rule;
      },
      refused: (rpc) => {
        countsOf(rpc).refusedByUpstream++;
      },
    };
  }

  /** @param limit - the maximum number of groups of clients */
  report(limit: number): TrafficReport {
    const groups = Object.values(this.#pools).flatMap((pool) => [...pool.groups]);
    return {
      since: iso(this.#sinceMs),
      missing_workers: 0,
      evicted: { ...this.#evicted },
      total: groups.length,
      clients: groups
        .sort(([one], [other]) => compare(one, other))
        .slice(0, limit)
        .map(([, group]) => describe(group)),
    };
  }

  #group(pool: Pool, key: string, properties: ClientProperties): Group {
    const nowMs = this.#now();
    let group = pool.groups.get(key);
    if (!group) {
      group = {
        properties,
        connections: 0,
        rpcs: new Map(),
        placedMs: nowMs,
        isEvicted: false,
        firstMs: nowMs,
        lastMs: nowMs,
      };
      pool.groups.set(key, group);
      pool.rows++;
      this.#evict(pool, group);
    }
    touch(pool, key, group, nowMs);
    return group;
  }

  #counts(pool: Pool, group: Group, rpc: ObservedRpc): CallCounts {
    let counts = group.rpcs.get(rpc);
    if (!counts) {
      const nowMs = this.#now();
      const decisions = { allowed: 0, denied: 0, would_deny: 0 };
      counts = { calls: 0, decisions, rule: null, refusedByUpstream: 0, firstMs: nowMs, lastMs: nowMs };
      group.rpcs.set(rpc, counts);
      pool.rows++;
      this.#evict(pool, group);
    }
    return counts;
  }

  /** Evicts other groups while there are too many rows. The RPCs of one group are a closed set. */
  #evict(pool: Pool, kept: Group): void {
    while (pool.rows > pool.maxRows && pool.groups.size > 1) {
      const [first, second] = pool.groups;
      const oldest = first?.[1] === kept ? second : first;
      if (!oldest) return;
      const [key, group] = oldest;
      pool.groups.delete(key);
      pool.rows -= 1 + group.rpcs.size;
      group.isEvicted = true;
      this.#evicted.clients++;
      this.#evicted.rpcs += group.rpcs.size;
    }
  }
}

/** The group was seen. */
function touch(pool: Pool, key: string, group: Group, nowMs: number): void {
  group.lastMs = nowMs;
  if (nowMs - group.placedMs < ORDER_MS) return;
  group.placedMs = nowMs;
  pool.groups.delete(key);
  pool.groups.set(key, group);
}

/** Merges the reports of several processes; `undefined` for one that did not answer. */
export function mergeTraffic(answers: readonly (TrafficReport | undefined)[], limit: number): TrafficReport {
  const reports = answers.filter((answer) => answer !== undefined);
  const clients = new Map<string, ObservedClients>();
  let repeated = 0;
  for (const report of reports)
    for (const one of report.clients) {
      const key = keyOf(one);
      const known = clients.get(key);
      if (known) repeated++;
      clients.set(key, known ? mergeClients(known, one) : one);
    }
  const sum = (of: (report: TrafficReport) => number): number =>
    reports.reduce((total, report) => total + of(report), 0);
  const [first = iso(Date.now()), ...others] = reports.map(({ since }) => since);
  return {
    // A process that was started later has not seen what came before.
    since: others.reduce((one, other) => (other > one ? other : one), first),
    missing_workers: answers.length - reports.length,
    evicted: { clients: sum(({ evicted }) => evicted.clients), rpcs: sum(({ evicted }) => evicted.rpcs) },
    total: sum(({ total }) => total) - repeated,
    clients: [...clients]
      .sort(([one], [other]) => compare(one, other))
      .slice(0, limit)
      .map(([, one]) => one),
  };
}

/** The calls that were neither denied by the policy nor refused by the upstream. */
export function servedCalls({ calls, decisions, refused_by_upstream: refused }: ObservedCalls): number {
  return Math.max(0, calls - decisions.denied - refused);
}

function mergeClients(one: ObservedClients, other: ObservedClients): ObservedClients {
  const rpcs = new Map(one.rpcs.map((calls) => [calls.rpc, calls]));
  for (const calls of other.rpcs) {
    const known = rpcs.get(calls.rpc);
    rpcs.set(calls.rpc, known ? mergeCalls(known, calls) : calls);
  }
  return {
    ...one,
    ...mergeSeen(one, other),
    connections: one.connections + other.connections,
    rpcs: sortedByName([...rpcs.values()]),
  };
}

function mergeCalls(one: ObservedCalls, other: ObservedCalls): ObservedCalls {
  const latest = one.last_seen < other.last_seen ? other : one;
  return {
    ...latest,
    ...mergeSeen(one, other),
    calls: one.calls + other.calls,
    decisions: {
      allowed: one.decisions.allowed + other.decisions.allowed,
      denied: one.decisions.denied + other.decisions.denied,
      would_deny: one.decisions.would_deny + other.decisions.would_deny,
    },
    rule: latest.rule ?? one.rule ?? other.rule,
    refused_by_upstream: one.refused_by_upstream + other.refused_by_upstream,
  };
}

/** ISO 8601 in UTC sorts by time. */
function mergeSeen(one: Seen, other: Seen): Seen {
  return {
    first_seen: one.first_seen < other.first_seen ? one.first_seen : other.first_seen,
    last_seen: one.last_seen > other.last_seen ? one.last_seen : other.last_seen,
  };
}

function describe({ properties, connections, rpcs, firstMs, lastMs }: Group): ObservedClients {
  return {
    ...properties,
    connections,
    ...describeSeen({ firstMs, lastMs }),
    rpcs: sortedByName(
      [...rpcs].map(([{ service, method, operation }, counts]) => ({
        rpc: `${service}/${method}`,
        operation,
        calls: counts.calls,
        decisions: { ...counts.decisions },
        rule: counts.rule,
        refused_by_upstream: counts.refusedByUpstream,
        ...describeSeen(counts),
      })),
    ),
  };
}

function describeSeen({ firstMs, lastMs }: SeenMs): Seen {
  return { first_seen: iso(firstMs), last_seen: iso(lastMs) };
}

function sortedByName(calls: readonly ObservedCalls[]): ObservedCalls[] {
  return [...calls].sort((one, other) => compare(one.rpc, other.rpc));
}

/** Identifies a group of clients; also the order of a report. */
function keyOf(properties: ClientProperties): string {
  const { listener, identities, certificate, tls_version, server_name, authorities } = properties;
  return JSON.stringify([listener, identities, certificate, tls_version, server_name, authorities]);
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
