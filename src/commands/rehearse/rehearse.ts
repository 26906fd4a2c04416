import type { Configuration, ListenerConfiguration, ServerTls } from '../../config/model.js';
import { identityCheck } from '../../policy/identity-pattern.js';
import {
  servedCalls,
  type ObservedAuthority,
  type ObservedClients,
  type TrafficReport,
} from '../../policy/observed-traffic.js';
import { Policy, splitPath } from '../../policy/policy.js';
import { RpcTable } from '../../policy/rpc-table.js';
import { RouteTable } from '../../upstream/route-table.js';

/** The setting of the new file that would refuse a client or its calls. */
type RehearsalReason =
  | 'listen'
  | 'min_version'
  | 'forward_by_server_name'
  | 'client_auth'
  | 'client_ca_path'
  | 'client_allow'
  | 'policy';

/** Observed traffic that the new configuration would refuse. The names are those of the JSON. */
export interface RehearsalFinding {
  readonly reason: RehearsalReason;
  readonly listener: string;
  readonly identities: readonly string[];
  /** `service/Method`; `null` if the whole connection would be refused. */
  readonly rpc: string | null;
  readonly calls: number;
  readonly connections: number;
  readonly last_seen: string;
  readonly message: string;
  readonly fix: string;
}

export interface Rehearsal {
  readonly refused: readonly RehearsalFinding[];
  /** Traffic that is only counted and logged, because `mode` or `client_auth` is `report`. */
  readonly reported: readonly RehearsalFinding[];
}

/** A new configuration with what its files contain. */
export interface NewConfiguration {
  readonly configuration: Configuration;
  /** The CAs of clients, by the URL of the listener. */
  readonly authorities: ReadonlyMap<string, readonly ObservedAuthority[]>;
}

/** The reason for which a connection would be refused. */
interface Objection {
  readonly reason: RehearsalReason;
  readonly message: string;
  readonly fix: string;
  /** Whether the client is admitted nevertheless. */
  readonly isReported: boolean;
}

/** Finds the observed traffic that a new configuration would refuse. */
export function rehearse({ clients }: TrafficReport, next: NewConfiguration): Rehearsal {
  const { configuration } = next;
  const rpcs = new RpcTable(configuration.rpcs);
  const policies = new Map(
    configuration.listeners.map(({ listen, policy }) => [
      listen.url,
      policy &&
        new Policy(
          {
            ...policy,
            // Limits depend on the rate of the calls, which is not observed.
            rules: policy.rules.map((rule) => ({ ...rule, maxCalls: undefined, callsPerSecond: undefined })),
          },
          rpcs,
        ),
    ]),
  );
  const refused: RehearsalFinding[] = [];
  const reported: RehearsalFinding[] = [];
  for (const one of clients) {
    const listener = configuration.listeners.find(({ listen }) => listen.url === one.listener);
    const objection = listener ? objectionTo(one, listener, next) : noListener(one, configuration);
    if (objection) {
      const { reason, message, fix, isReported } = objection;
      (isReported ? reported : refused).push(findingOf(one, reason, message, fix));
      if (!isReported) continue;
    }
    const policy = policies.get(one.listener);
    if (!listener || !policy) continue;
    const denied = deniedCalls(one, identitiesUnder(one, listener.tls), policy);
    (policy.settings.mode === 'report' ? reported : refused).push(...denied);
  }
  return { refused, reported };
}

function findingOf(
  { listener, identities, connections, last_seen, rpcs }: ObservedClients,
  reason: RehearsalReason,
  message: string,
  fix: string,
): RehearsalFinding {
  const calls = rpcs.reduce((sum, one) => sum + servedCalls(one), 0);
  return { reason, listener, identities, rpc: null, calls, connections, last_seen, message, fix };
}

function noListener({ listener }: ObservedClients, { listeners }: Configuration): Objection {
  const known = listeners.map(({ listen }) => listen.url).join(', ');
  return refusal(
    'listen',
    `the new file has no listener ${listener}`,
    `add it, or move its clients first; the new file has ${known}`,
  );
}

function objectionTo(
  client: ObservedClients,
  listener: ListenerConfiguration,
  { authorities }: NewConfiguration,
): Objection | undefined {
  const { tls, forwarding } = listener;
  if (!tls) return undefined;
  return (
    versionObjection(client, tls) ??
    nameObjection(client, new RouteTable(forwarding, ({ url }) => url)) ??
    certificateObjection(client, tls, authorities.get(client.listener) ?? []) ??
    identityObjection(client, listener)
  );
}

function versionObjection({ tls_version: version }: ObservedClients, { minVersion }: ServerTls) {
  if (version === null || version >= minVersion) return undefined;
  return refusal(
    'min_version',
    `the client negotiated ${version}, and min_version is ${minVersion}`,
    'update the TLS library of the client first, or lower min_version',
  );
}

function nameObjection({ server_name: name }: ObservedClients, routes: RouteTable<string>) {
  // Without routes, no name is observed, and every client goes to the only upstream.
  if (routes.find(name ?? undefined) !== undefined) return undefined;
  return refusal(
    'forward_by_server_name',
    name === null
      ? 'forward_by_server_name has no default, and no server name of the client is known'
      : `forward_by_server_name has no entry for ${JSON.stringify(name)}, and no default`,
    'add the name, or a default',
  );
}

function certificateObjection(
  { certificate, authorities }: ObservedClients,
  { clientAuth }: ServerTls,
  next: readonly ObservedAuthority[],
): Objection | undefined {
  if (clientAuth === 'none') return undefined;
  const isReported = clientAuth === 'report';
  switch (certificate) {
    case 'absent':
      if (clientAuth === 'optional') return undefined;
      return {
        reason: 'client_auth',
        message: 'the client sends no certificate, and client_auth is require',
        fix: 'configure the client with a certificate that a CA of client_ca_path has issued',
        isReported,
      };
    case 'not_requested':
      if (clientAuth !== 'require') return undefined;
      return {
        reason: 'client_auth',
        message:
          'client_auth is require, and whether the client has a certificate is not known: none was requested',
        fix: 'set client_auth to report first, and rehearse again after the clients have connected',
        isReported,
      };
    case 'verified':
    case 'unknown_authority': {
      if (authorities.some((one) => next.some((other) => isSame(one, other)))) return undefined;
      const names = authorities.map(({ name }) => name).join(', ');
      return {
        reason: 'client_ca_path',
        message: `no CA of client_ca_path verifies the client, whose certificate was issued by ${names === '' ? 'an unknown CA' : names}`,
        fix: 'keep that CA in client_ca_path until its clients have certificates of another CA',
        isReported,
      };
    }
    default:
      return {
        reason: 'client_auth',
        message: `the certificate of the client is refused (${certificate}), and client_auth is ${clientAuth}`,
        fix: 'renew the certificate of the client',
        isReported,
      };
  }
}

function identityObjection(
  client: ObservedClients,
  { tls, clientAllow }: ListenerConfiguration,
): Objection | undefined {
  const { identities } = client;
  if (!clientAllow || !areIdentitiesKnown(client) || identityCheck(clientAllow)(identities)) return undefined;
  return {
    reason: 'client_allow',
    message: 'client_allow names none of the identities of the client',
    fix: 'add an identity of the client to client_allow',
    isReported: tls?.clientAuth === 'report',
  };
}

/** The identities that the client would have. */
function identitiesUnder({ identities }: ObservedClients, tls: ServerTls | undefined): readonly string[] {
  return tls === undefined || tls.clientAuth === 'none' ? [] : identities;
}

function deniedCalls(
  client: ObservedClients,
  identities: readonly string[],
  policy: Policy,
): RehearsalFinding[] {
  return client.rpcs.flatMap((calls): RehearsalFinding[] => {
    const served = servedCalls(calls);
    if (served === 0) return [];
    const { service, method } = splitPath(calls.rpc);
    const { refusal: denied } = policy.decide(identities, service, method, 0);
    if (!denied) return [];
    const reason = areIdentitiesKnown(client)
      ? denied.reason
      : `${denied.reason}; its certificate was not verified, so its identities are not known`;
    const finding = findingOf(client, 'policy', reason, denied.fix);
    return [{ ...finding, rpc: calls.rpc, calls: served, last_seen: calls.last_seen }];
  });
}

/** A client whose certificate was not requested, or not accepted, may have identities under another configuration. */
function areIdentitiesKnown({ certificate }: ObservedClients): boolean {
  return certificate === 'verified' || certificate === 'absent';
}

function isSame(one: ObservedAuthority, other: ObservedAuthority): boolean {
  return one.name === other.name && (one.key_sha256 === null || one.key_sha256 === other.key_sha256);
}

function refusal(reason: RehearsalReason, message: string, fix: string): Objection {
  return { reason, message, fix, isReported: false };
}
