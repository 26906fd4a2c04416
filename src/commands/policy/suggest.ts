import { servedCalls, type ObservedClients, type TrafficReport } from '../../policy/observed-traffic.js';
import { readIdentityPattern, type IdentityPattern } from '../../policy/identity-pattern.js';
import type { RpcOperation } from '../../policy/known-rpcs.js';

/** How the RPCs of a rule are written: each one, `service/*`, or by operation, such as `accessor`. */
export const ALLOW_FORMS = ['rpcs', 'services', 'operations'] as const;
export type AllowForm = (typeof ALLOW_FORMS)[number];

export interface SuggestOptions {
  readonly form: AllowForm;
  /** Whether calls that were always denied are allowed as well. */
  readonly includesDenied: boolean;
}

/** A rule to add to a policy. */
interface SuggestedRule {
  readonly name: string;
  readonly identities: readonly string[];
  readonly allow: readonly string[];
  /** RPCs that the table does not have. The configuration may name them once `rpcs_path` has them. */
  readonly unknown: readonly string[];
}

/** The rules for one listener; the first that names a client decides. */
interface SuggestedPolicy {
  readonly listen: string;
  readonly rules: readonly SuggestedRule[];
}

export interface Suggestion {
  readonly listeners: readonly SuggestedPolicy[];
  /** Calls that the rules do not cover, in one sentence each. */
  readonly notes: readonly string[];
}

/** Clients with the same identities, and what they may call. */
interface Client {
  readonly identities: readonly string[];
  readonly rpcs: ReadonlyMap<string, Operation>;
}

type Operation = RpcOperation | 'unknown';

/** A rule for some clients, before its identities are chosen. */
interface Group {
  readonly clients: Client[];
  readonly rpcs: Map<string, Operation>;
}

const EVERY_CLIENT = '*';
const OTHER_RPC = 'other/other';
/** Shorter than the names of rules may be, so that a number can be added. */
const MAX_NAME_LENGTH = 50;

/** The minimal rules that allow the observed calls. */
export function suggest({ clients }: TrafficReport, options: SuggestOptions): Suggestion {
  const notes = new Set<string>();
  const byListener = new Map<string, ObservedClients[]>();
  for (const one of clients) byListener.set(one.listener, [...(byListener.get(one.listener) ?? []), one]);
  const listeners: SuggestedPolicy[] = [];
  for (const [listen, observed] of byListener) {
    const called = mergeByIdentities(observed, options, (note) => notes.add(`${listen}: ${note}`));
    if (called.length === 0) continue;
    if (!listen.startsWith('tls:'))
      notes.add(`${listen}: its clients have no identities, so it cannot have a policy: listen on tls://.`);
    else listeners.push({ listen, rules: rulesFor(called, options.form) });
  }
  return { listeners, notes: [...notes] };
}

function mergeByIdentities(
  observed: readonly ObservedClients[],
  { includesDenied }: SuggestOptions,
  note: (sentence: string) => void,
): Client[] {
  const merged = new Map<string, { identities: readonly string[]; rpcs: Map<string, Operation> }>();
  for (const { identities: all, rpcs } of observed) {
    const identities = all.filter((identity) => typeof readIdentityPattern(identity) !== 'string');
    if (identities.length === 0 && all.length > 0)
      note(
        `${all[0] ?? ''} cannot be written as a pattern, so its clients count as clients without a certificate.`,
      );
    const key = JSON.stringify(identities);
    const client = merged.get(key) ?? { identities, rpcs: new Map<string, Operation>() };
    for (const calls of rpcs) {
      if (calls.rpc === OTHER_RPC) {
        if (servedCalls(calls) > 0)
          note(
            `${calls.calls} calls to RPCs that neither the table nor Gitaly's answers identify are not included.`,
          );
      } else if (servedCalls(calls) > 0 || (includesDenied && calls.decisions.denied > 0))
        client.rpcs.set(calls.rpc, calls.operation);
      else if (calls.decisions.denied > 0)
        note('RPCs whose calls were all denied are not included; --denied includes them.');
    }
    if (client.rpcs.size > 0) merged.set(key, client);
  }
  return [...merged.values()];
}

/** Rules of which the first that names a client is the one that was made for it. */
function rulesFor(clients: readonly Client[], form: AllowForm): SuggestedRule[] {
  const anonymous = clients.filter(({ identities }) => identities.length === 0);
  let groups = groupByRpcs(
    clients.filter(({ identities }) => identities.length > 0),
    form,
  );
  let rules = groups.map((group) => ({ group, patterns: choosePatterns(group, groups) }));
  for (;;) {
    // A rule whose names other clients have as well comes after the rules for those clients.
    rules.sort((one, other) => Number(one.patterns.areShared) - Number(other.patterns.areShared));
    const conflict = findConflict(rules);
    if (!conflict) break;
    const [one, other] = conflict;
    groups = [...groups.filter((group) => group !== one && group !== other), mergeGroups(one, other)];
    rules = groups.map((group) => ({ group, patterns: choosePatterns(group, groups) }));
  }
  const names = new Set<string>(['none']);
  const suggested = rules.map(({ group, patterns }) => {
    const identities = [...new Set(patterns.chosen.map(({ text }) => text))].sort();
    return { name: uniqueName(nameFor(identities), names), identities, ...allowOf(group.rpcs, form) };
  });
  const [first] = groupAll(anonymous);
  if (!first) return suggested;
  const name = uniqueName('without-certificate', names);
  return [...suggested, { name, identities: [EVERY_CLIENT], ...allowOf(first.rpcs, form) }];
}

function groupByRpcs(clients: readonly Client[], form: AllowForm): Group[] {
  const groups = new Map<string, Group>();
  for (const client of clients) {
    const { allow, unknown } = allowOf(client.rpcs, form);
    const key = JSON.stringify([allow, unknown]);
    const group = groups.get(key);
    if (group) {
      group.clients.push(client);
      for (const [rpc, operation] of client.rpcs) group.rpcs.set(rpc, operation);
    } else groups.set(key, { clients: [client], rpcs: new Map(client.rpcs) });
  }
  return [...groups.values()];
}

function groupAll(clients: readonly Client[]): Group[] {
  return clients.length === 0
    ? []
    : [{ clients: [...clients], rpcs: new Map(clients.flatMap(({ rpcs }) => [...rpcs])) }];
}

function mergeGroups(one: Group, other: Group): Group {
  return {
    clients: [...one.clients, ...other.clients],
    rpcs: new Map([...one.rpcs, ...other.rpcs]),
  };
}

interface Patterns {
  readonly chosen: readonly IdentityPattern[];
  /** Whether one of them also names a client of another group. */
  readonly areShared: boolean;
}

/** Chooses one identity of each client: the first that no client of another group has, if there is one. */
function choosePatterns(group: Group, groups: readonly Group[]): Patterns {
  const others = new IdentityIndex(groups.filter((other) => other !== group));
  let areShared = false;
  const chosen = group.clients.flatMap(({ identities }): IdentityPattern[] => {
    // As a pattern, a name with a wildcard names other clients as well.
    const candidates = [...identities]
      .sort((one, other) => Number(one.includes('*')) - Number(other.includes('*')))
      .map(readIdentityPattern)
      .filter((pattern) => typeof pattern !== 'string');
    const own = candidates.find((pattern) => !others.hasMatch(pattern));
    if (!own) areShared = true;
    const [first] = candidates;
    const pattern = own ?? first;
    return pattern ? [pattern] : [];
  });
  return { chosen, areShared };
}

/** The identities of some groups. */
class IdentityIndex {
  readonly #byName = new Map<string, string[]>();

  constructor(groups: readonly Group[]) {
    for (const { clients } of groups)
      for (const { identities } of clients)
        for (const identity of identities) {
          const name = indexName(identity);
          this.#byName.set(name, [...(this.#byName.get(name) ?? []), identity]);
        }
  }

  hasMatch(pattern: IdentityPattern): boolean {
    const candidates = pattern.text.includes('*')
      ? [...this.#byName.values()].flat()
      : (this.#byName.get(indexName(pattern.text)) ?? []);
    return candidates.some((identity) => pattern.matches(identity));
  }
}

/** Equal for names that a pattern without wildcards does not distinguish. */
function indexName(identity: string): string {
  return identity.toLowerCase().replace(/\.$/u, '');
}

interface ChosenRule {
  readonly group: Group;
  readonly patterns: Patterns;
}

/** Finds a group with a client that an earlier rule names. */
function findConflict(rules: readonly ChosenRule[]): readonly [Group, Group] | undefined {
  for (const [index, { group }] of rules.entries()) {
    const identities = new IdentityIndex([group]);
    for (const earlier of rules.slice(0, index))
      if (earlier.patterns.chosen.some((pattern) => identities.hasMatch(pattern)))
        return [earlier.group, group];
  }
  return undefined;
}

function allowOf(
  rpcs: ReadonlyMap<string, Operation>,
  form: AllowForm,
): Pick<SuggestedRule, 'allow' | 'unknown'> {
  const known = [...rpcs].filter(([, operation]) => operation !== 'unknown');
  const unknown = [...rpcs].flatMap(([rpc, operation]) => (operation === 'unknown' ? [rpc] : []));
  const allow = known.map(([rpc, operation]) => {
    if (form === 'services') return rpc.replace(/\/[^/]*$/u, '/*');
    return form === 'operations' && operation !== 'none' ? operation : rpc;
  });
  return { allow: [...new Set(allow)].sort(), unknown: unknown.sort() };
}

/** A name by what the identities have in common: `rails` for `dns:rails-1.internal` and `dns:rails-2.internal`. */
function nameFor(identities: readonly string[]): string {
  const labels = identities.map((identity) => {
    const value = identity.slice(identity.indexOf(':') + 1);
    const kind = identity.slice(0, identity.indexOf(':'));
    const label = kind === 'dns' ? value.split('.', 1)[0] : kind === 'uri' ? value.split('/').at(-1) : value;
    return (label ?? '').replaceAll(/[^A-Za-z0-9_.-]+/gu, '-').replace(/^[^A-Za-z0-9]+/u, '');
  });
  const [first = '', ...others] = labels;
  let common = first;
  for (const label of others) while (!label.startsWith(common)) common = common.slice(0, -1);
  const name = others.length > 0 ? common.replace(/[-_.\d]+$/u, '') : common;
  return name.slice(0, MAX_NAME_LENGTH) || 'clients';
}

function uniqueName(name: string, taken: Set<string>): string {
  let unique = name;
  for (let number = 2; taken.has(unique); number++) unique = `${name}-${number}`;
  taken.add(unique);
  return unique;
}
