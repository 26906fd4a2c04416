import type { PolicySettings, RuleSettings } from '../policy/policy.js';
import { readRpcFile } from '../policy/rpc-file.js';
import { readRpcPattern } from '../policy/rpc-pattern.js';
import type { Rpc, RpcTable } from '../policy/rpc-table.js';
import { MAX_ADDED_FIELDS } from '../limits.js';
import { isTlsScheme } from './address.js';
import { fileSetting, reportError, reportWarning, type BuildContext } from './build-context.js';
import { DEFAULTS } from './defaults.js';
import type {
  AddedField,
  AuditSettings,
  Inspect,
  KeyPath,
  ListenerConfiguration,
  ServerTls,
} from './model.js';
import { nearest } from './nearest.js';
import { formatKey } from './problem.js';
import type { Draft, DraftListener } from './schema.js';

type DraftPolicy = NonNullable<DraftListener['policy']>;
type DraftRule = NonNullable<NonNullable<DraftPolicy['rules']>[number]>;

/** The properties of a listener that its authorisation depends on. */
interface ListenerFacts {
  readonly key: KeyPath;
  readonly tls: ServerTls | undefined;
  readonly inspect: Inspect;
  readonly forwardsHttp: boolean;
}

const EVERY_CLIENT = '*';

/** Reads `rpcs_path`. Its problems are reported, each with its line. */
export function buildRpcs(context: BuildContext, draft: Draft): readonly Rpc[] {
  const { rpcs_path: path } = draft;
  if (path === undefined) return [];
  const file = fileSetting(context, { value: path, key: ['rpcs_path'] });
  const text = context.textOf(file.path);
  if (typeof text !== 'string') {
    reportError(context, file.key, `cannot read ${file.path}: ${text.reason}`, path);
    return [];
  }
  const { rpcs, problems } = readRpcFile(text);
  for (const problem of problems) reportError(context, file.key, `${file.path}: ${problem}`, path);
  return rpcs;
}

export function buildAudit(context: BuildContext, draft: Draft): AuditSettings | undefined {
  const { audit_log_path: path, audit_required: isRequired = DEFAULTS.auditRequired } = draft;
  if (path === undefined) {
    if (isRequired && !context.isBroken(['audit_log_path']))
      reportError(
        context,
        ['audit_required'],
        'needs `audit_log_path`: set it to the file for the lines',
        true,
      );
    return undefined;
  }
  for (const [index, listener] of (draft.listeners ?? []).entries()) {
    if (listener?.inspect !== false) continue;
    const message = 'the calls of this listener are not followed, so they are missing in `audit_log_path`';
    const key = ['listeners', index, 'inspect'];
    if (isRequired)
      reportError(context, key, `${message}: remove \`inspect: false\` or \`audit_required\``, false);
    else reportWarning(context, key, message, false);
  }
  return { log: fileSetting(context, { value: path, key: ['audit_log_path'] }), isRequired };
}

/** The settings of a listener that depend on the identity of clients, or change calls. Problems are reported. */
export function buildAuthorisation(
  context: BuildContext,
  listener: DraftListener,
  facts: ListenerFacts,
  rpcs: RpcTable,
): Pick<ListenerConfiguration, 'clientAllow' | 'policy' | 'upstreamToken' | 'upstreamMetadata'> {
  const { upstream_token_path: token } = listener;
  const { key } = facts;
  for (const name of ['policy', 'upstream_token_path', 'upstream_metadata'] as const)
    if (listener[name] !== undefined) reportWithoutCalls(context, listener, facts, name);
  return {
    clientAllow: buildClientAllow(context, listener, facts),
    policy: buildPolicy(context, listener, facts, rpcs),
    upstreamToken:
      token === undefined
        ? undefined
        : fileSetting(context, { value: token, key: [...key, 'upstream_token_path'] }),
    upstreamMetadata: buildMetadata(context, listener, facts),
  };
}

/** Reports a setting for gRPC calls on a listener whose calls are not followed. */
function reportWithoutCalls(
  context: BuildContext,
  { listen }: DraftListener,
  { key, inspect, forwardsHttp }: ListenerFacts,
  name: 'policy' | 'upstream_token_path' | 'upstream_metadata',
): void {
  if (forwardsHttp) {
    const instead = name === 'policy' ? 'use `client_allow`, which refuses connections' : 'remove it';
    const message = `\`${name}\` is for gRPC calls, but this listener forwards HTTP${listen ? ` from ${listen.url}` : ''}: ${instead}`;
    reportError(context, [...key, name], message);
  } else if (inspect === 'off')
    reportError(
      context,
      [...key, 'inspect'],
      `\`${name}\` needs calls to be followed: remove \`inspect: false\``,
      false,
    );
}

/** Reports a setting that needs identities on a listener whose clients have none. Returns whether it did. */
function reportWithoutIdentities(
  context: BuildContext,
  { listen }: DraftListener,
  { key, tls }: ListenerFacts,
  at: KeyPath,
): boolean {
  if (listen === undefined || context.isBroken([...key, 'tls']) || context.isBroken(['tls'])) return false;
  if (!isTlsScheme(listen.scheme)) {
    const message = `needs client certificates, but this listener is ${listen.url} without TLS: listen on tls:// and set \`client_auth\`, or remove it`;
    reportError(context, at, message);
    return true;
  }
  if (tls?.clientAuth !== 'none') return false;
  const message =
    'needs client certificates: set `client_auth` to require, optional or report, and `client_ca_path`';
  reportError(context, at, message);
  return true;
}

function buildClientAllow(
  context: BuildContext,
  listener: DraftListener,
  facts: ListenerFacts,
): readonly string[] | undefined {
  if (listener.client_allow === undefined) return undefined;
  const key = [...facts.key, 'client_allow'];
  reportWithoutIdentities(context, listener, facts, key);
  // Invalid entries are omitted, so that they never allow more clients.
  const patterns = listener.client_allow.flatMap((pattern) => pattern ?? []);
  const every = listener.client_allow.indexOf(EVERY_CLIENT);
  if (every >= 0) {
    const message = 'names every client, so `client_allow` has no effect: remove `client_allow`';
    reportError(context, [...key, every], message, EVERY_CLIENT);
  }
  return patterns;
}

function buildPolicy(
  context: BuildContext,
  listener: DraftListener,
  facts: ListenerFacts,
  rpcs: RpcTable,
): PolicySettings | undefined {
  const { policy } = listener;
  if (policy === undefined) return undefined;
  const key = [...facts.key, 'policy'];
  const written = policy.rules ?? [];
  const namesIdentities = written.some((rule) =>
    rule?.identities?.some((pattern) => pattern !== undefined && pattern !== EVERY_CLIENT),
  );
  const isTls = listener.listen !== undefined && isTlsScheme(listener.listen.scheme);
  // With TLS, a policy that names no identity needs no certificates: `read_only`, or limits.
  if (!facts.forwardsHttp && (namesIdentities || !isTls))
    reportWithoutIdentities(context, listener, facts, key);
  const rules = written.flatMap((rule, index): RuleSettings[] =>
    rule === undefined ? [] : [buildRule(context, rule, [...key, 'rules', index], rpcs)],
  );
  reportRepeatedNames(context, written, rules, key);
  reportUnreachable(context, written, key);
  return {
    mode: policy.mode ?? DEFAULTS.policy.mode,
    readOnly: policy.read_only ?? DEFAULTS.policy.readOnly,
    rules,
  };
}

function buildRule(context: BuildContext, rule: DraftRule, key: KeyPath, rpcs: RpcTable): RuleSettings {
  const { rate, burst } = rule.calls_per_second ?? {};
  for (const [index, text] of (rule.allow ?? []).entries()) {
    const fault = text === undefined ? undefined : unknownRpc(text, rpcs);
    if (fault !== undefined) reportError(context, [...key, 'allow', index], fault, text);
  }
  return {
    name: rule.name ?? `rules[${key.at(-1) ?? 0}]`,
    // Invalid entries are omitted, so that they never allow more.
    identities: (rule.identities ?? []).flatMap((pattern) => pattern ?? []),
    allow: (rule.allow ?? []).flatMap((pattern) => pattern ?? []),
    maxCalls: rule.max_calls,
    callsPerSecond:
      rate === undefined ? undefined : { perSecond: rate, burst: burst ?? Math.max(1, Math.ceil(rate)) },
  };
}

/** Describes an RPC or service that the table does not have; `undefined` if it has it. */
function unknownRpc(text: string, rpcs: RpcTable): string | undefined {
  const pattern = readRpcPattern(text);
  if (typeof pattern === 'string' || pattern.kind === 'all' || pattern.kind === 'operation') return undefined;
  const { service } = pattern;
  const fix = 'if your Gitaly has it, add it to the file of `rpcs_path` (see `gitaly-tls-proxy rpcs`)';
  if (pattern.kind === 'service') {
    if (rpcs.hasService(service)) return undefined;
    const meant = nearest(service, rpcs.services);
    return `unknown service; ${meant === undefined ? '' : `did you mean ${JSON.stringify(`${meant}/*`)}? `}${fix}`;
  }
  if (rpcs.find(service, pattern.method)) return undefined;
  const meant = nearest(text, rpcs.names);
  return `unknown RPC; ${meant === undefined ? '' : `did you mean ${JSON.stringify(meant)}? `}${fix}`;
}

function reportRepeatedNames(
  context: BuildContext,
  written: NonNullable<DraftPolicy['rules']>,
  rules: readonly RuleSettings[],
  key: KeyPath,
): void {
  const taken = new Set<string>();
  for (const { name } of rules) {
    if (taken.has(name)) {
      const index = written.findLastIndex((rule) => rule?.name === name);
      reportError(
        context,
        [...key, 'rules', index, 'name'],
        'another rule has this name: choose another',
        name,
      );
    }
    taken.add(name);
  }
}

/** Reports rules that can never match, because earlier ones name all of their clients. */
function reportUnreachable(
  context: BuildContext,
  written: NonNullable<DraftPolicy['rules']>,
  key: KeyPath,
): void {
  const named = new Map<string, number>();
  for (const [index, rule] of written.entries()) {
    const patterns = (rule?.identities ?? []).flatMap((pattern) => pattern ?? []);
    const isWhole = rule?.identities?.length === patterns.length;
    const earlier =
      named.get(EVERY_CLIENT) ?? Math.max(...patterns.map((pattern) => named.get(pattern) ?? Infinity));
    if (isWhole && patterns.length > 0 && Number.isFinite(earlier)) {
      const place = formatKey(context.nameKey([...key, 'rules', earlier]));
      const message = `the rule can never match, because ${place} already names all of its clients: move it before that rule, or remove it`;
      reportError(context, [...key, 'rules', index, 'identities'], message);
    }
    for (const pattern of patterns) if (!named.has(pattern)) named.set(pattern, index);
  }
}

/** RFC 9113 section 8.2.2, and fields that gRPC defines. */
const RESERVED_FIELDS: ReadonlySet<string> = new Set([
  'authorization',
  'connection',
  'content-length',
  'content-type',
  'host',
  'keep-alive',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
  'user-agent',
]);

/** Metadata that the clients of Gitaly send, so that a client would be refused for it. */
const SENT_BY_CLIENTS: ReadonlySet<string> = new Set([
  'client_name',
  'gitaly-servers',
  'gitaly-session-id',
  'gitaly-sidechannel-id',
  'traceparent',
  'tracestate',
  'x-gitlab-client-name',
  'x-gitlab-correlation-id',
]);

function buildMetadata(
  context: BuildContext,
  listener: DraftListener,
  facts: ListenerFacts,
): readonly AddedField[] {
  const entries = Object.entries(listener.upstream_metadata ?? {});
  const key = [...facts.key, 'upstream_metadata'];
  if (entries.length > 0 && !facts.forwardsHttp) reportWithoutIdentities(context, listener, facts, key);
  if (entries.length > MAX_ADDED_FIELDS)
    reportError(
      context,
      key,
      `has ${entries.length} fields: at most ${MAX_ADDED_FIELDS} can be added to a call`,
    );
  return entries.flatMap(([name, value]): AddedField[] => {
    const fault = fieldNameFault(name);
    if (fault !== undefined) reportError(context, [...key, name], fault, name);
    return fault === undefined && value !== undefined ? [{ name, value }] : [];
  });
}

function fieldNameFault(name: string): string | undefined {
  const example = 'write for example x-gitaly-client-identity';
  if (name.startsWith(':')) return `a pseudo-header cannot be added: ${example}`;
  if (name !== name.toLowerCase()) return `names of metadata are in lower case: write ${name.toLowerCase()}`;
  if (!/^[a-z\d_.-]+$/u.test(name))
    return `expected lower-case letters, digits, "-", "_" and ".": ${example}`;
  if (name.startsWith('grpc-') || RESERVED_FIELDS.has(name))
    return `is reserved by gRPC or HTTP/2 and cannot be added: ${example}`;
  if (name.endsWith('-bin')) return `names that end in -bin are for binary values: ${example}`;
  if (SENT_BY_CLIENTS.has(name))
    return `clients of Gitaly send this field themselves, and would be refused: ${example}`;
  return undefined;
}
