import { DEFAULT_LOGGING } from '../config/defaults.js';
import { createHash, randomBytes } from 'node:crypto';

import { upstreamsOf } from '../config/forwarding.js';
import type { Configuration, ListenerConfiguration, Problem } from '../config/model.js';
import { encodeProxyHeader } from '../connection/proxy-header.js';
import { loadSocketAccess } from './socket-access.js';
import { DEFAULT_ACCESS, type SocketAccess } from './unix-socket.js';
import type { HealthPlan } from '../gitaly-client/health-watch.js';
import type { CheckedUpstream } from '../gitaly-client/upstream-check.js';
import { TICKET_SECRET_BYTES } from '../limits.js';
import type { Snapshot } from '../telemetry/metrics.js';
import { endOf, type Dated } from '../x509/dated.js';
import { datedOf } from '../tls/material-dates.js';
import { loadToken } from '../gitaly-client/token-file.js';
import { fileSignature, watchedPaths } from '../x509/file-signature.js';
import {
  loadMaterial,
  serverParts,
  upstreamParts,
  type KeptPair,
  type ListenerMaterial,
  type ServerParts,
  type UpstreamParts,
} from '../tls/material.js';
import type { SessionStart } from '../tls/session-epochs.js';
import { createDialer } from '../upstream/dialer.js';
import { TlsClient } from '../upstream/tls-client.js';
import type { ServingPlan } from './serving-plan.js';
import type { ListenerDated } from './validity-watch.js';

/** A configuration and the content of its files, loaded and validated but not yet applied. */
export interface ProxyState {
  readonly configuration: Configuration;
  /** One per listener, in the configuration's order. */
  readonly listeners: readonly ListenerState[];
  /** Gitaly's token for health checks. */
  readonly healthToken: string | undefined;
  /** The `fileSignature` of the certificate files just before they were read. A different signature means newer files. */
  readonly signature: string;
  /** Key pairs that are kept because the new ones in their files are expired or not yet valid. */
  readonly kept: readonly KeptPair[];
}

export const EMPTY_STATE: ProxyState = {
  configuration: {
    listeners: [],
    prometheusListenAddr: undefined,
    adminHosts: [],
    workers: 1,
    gracefulRestartTimeoutMs: 0,
    rpcs: [],
    audit: undefined,
    healthChecks: undefined,
    logging: DEFAULT_LOGGING,
  },
  listeners: [],
  healthToken: undefined,
  signature: '',
  kept: [],
};

/** One listener of a state. */
export interface ListenerState {
  /** Identifies the bound address within the state. A listener whose scheme changes stays bound, so it does not contain the scheme. */
  readonly key: string;
  readonly configuration: ListenerConfiguration;
  /** Set for a unix socket. */
  readonly access: SocketAccess;
  readonly material: ListenerMaterial;
  readonly server: ServerParts | undefined;
  readonly upstream: UpstreamParts | undefined;
  /** Changes with TLS settings, certificates, keys, CAs and CRLs. Until it changes, sessions may be resumed across reloads. */
  readonly fingerprint: string;
  /** Gitaly's token, for calls that have none. */
  readonly upstreamToken: string | undefined;
}

/** A state, or the problems that prevented it. With a state, `problems` contains only warnings. */
export interface StateResult {
  readonly state: ProxyState | undefined;
  readonly problems: readonly Problem[];
}

/** Reads the files named by a configuration. Has no side effects. */
export async function loadState(
  configuration: Configuration,
  previous: ProxyState | undefined,
): Promise<StateResult> {
  const signature = await fileSignature(watchedPaths(configuration));
  const former = previous?.listeners.map(({ material }) => material);
  const loaded = await loadMaterial(configuration, new Date(), former);
  const { listeners: materials, kept } = loaded;
  const problems = [...loaded.problems];
  const access = await loadSocketAccess(configuration, problems);
  const token = configuration.healthChecks?.token;
  const healthToken = token && (await loadToken(token, problems));
  const tokens = await Promise.all(
    configuration.listeners.map(
      async ({ upstreamToken }) => upstreamToken && (await loadToken(upstreamToken, problems)),
    ),
  );
  const isBroken = problems.some(({ severity }) => severity === 'error');
  if (!materials || isBroken || (token && healthToken === undefined)) return { state: undefined, problems };
  const keys = keysOf(configuration.listeners);
  const listeners = configuration.listeners.flatMap((listener, index): ListenerState[] => {
    const material = materials[index];
    if (!material) return [];
    const own = { access: access[index] ?? DEFAULT_ACCESS, upstreamToken: tokens[index] };
    return [{ ...listenerState(keys[index] ?? '', listener, material, previous), ...own }];
  });
  return { state: { configuration, listeners, healthToken, signature, kept }, problems };
}

function listenerState(
  key: string,
  configuration: ListenerConfiguration,
  material: ListenerMaterial,
  previous: ProxyState | undefined,
): Omit<ListenerState, 'access' | 'upstreamToken'> {
  const server = material.server && serverParts(material.server, NO_SESSIONS);
  const upstream = material.upstream && upstreamParts(material.upstream);
  const fingerprint = createHash('sha256')
    .update(JSON.stringify([server, upstream]))
    .digest('hex');
  const same = previous?.listeners.find((other) => other.key === key && other.fingerprint === fingerprint);
  const sessions = same?.server?.sessions ?? {
    secret: randomBytes(TICKET_SECRET_BYTES),
    sinceMs: Date.now(),
  };
  return { key, configuration, material, server: server && { ...server, sessions }, upstream, fingerprint };
}

const NO_SESSIONS: SessionStart = { secret: new Uint8Array(0), sinceMs: 0 };

/** Returns the `ListenerState.key` of each listener. An index distinguishes several listeners on port 0 of the same host. */
function keysOf(listeners: readonly ListenerConfiguration[]): string[] {
  const seen = new Map<string, number>();
  return listeners.map(({ listen }) => {
    const address = listen.scheme === 'unix' ? `unix:${listen.path}` : `${listen.host} ${listen.port}`;
    const nth = seen.get(address) ?? 0;
    seen.set(address, nth + 1);
    return `${address} ${nth}`;
  });
}

/** Returns the part of a state that the traffic needs. `ids` has the id of each listener, by `ListenerState.key`. */
export function planOf(state: ProxyState, ids: ReadonlyMap<string, number>): ServingPlan {
  const listeners = state.listeners.map(
    ({ key, configuration, server, upstream, upstreamToken, fingerprint }) => ({
      listenerId: ids.get(key) ?? 0,
      configuration,
      server,
      upstream,
      upstreamToken,
      fingerprint,
    }),
  );
  const { logging, rpcs, audit } = state.configuration;
  return { listeners, logging, rpcs, audit: audit && { isRequired: audit.isRequired } };
}

/** The certificates and CRLs of a state, with their dates. */
export function datedOfState({ listeners }: ProxyState): ListenerDated[] {
  return listeners.flatMap(({ configuration, material }) =>
    datedOf(material).map((dated) => ({ listener: configuration.listen.url, dated })),
  );
}

/** The earliest expiry of the certificates and CRLs of a state, per listener and role. */
export function expiries(state: ProxyState): Pick<Snapshot, 'certificates' | 'revocationLists'> {
  const earliest = new Map<string, { listener: string; role: Dated['role']; end: Date }>();
  for (const { listener, dated } of datedOfState(state)) {
    const end = endOf(dated);
    const key = `${listener} ${dated.role}`;
    const known = earliest.get(key);
    if (end && (!known || end < known.end)) earliest.set(key, { listener, role: dated.role, end });
  }
  const all = [...earliest.values()];
  return {
    certificates: all.flatMap(({ listener, role, end }) =>
      role === 'client_crl' ? [] : [{ listener, role, notAfter: end }],
    ),
    revocationLists: all.flatMap(({ listener, role, end }) =>
      role === 'client_crl' ? [{ listener, nextUpdate: end }] : [],
    ),
  };
}

/** Returns the health checks of a state, or `undefined` if they are disabled. */
export function checksOf({ configuration, listeners, healthToken }: ProxyState): HealthPlan | undefined {
  const { healthChecks } = configuration;
  if (!healthChecks) return undefined;
  const upstreams = listeners.flatMap(({ configuration: listener, upstream }) => {
    const { listen, forwarding, http, proxyProtocol, timeouts } = listener;
    const tls = upstream && new TlsClient(upstream);
    return upstreamsOf(forwarding).map((address): CheckedUpstream => ({
      listener: listen.url,
      dialer: createDialer(address, tls, timeouts.dialMs),
      hello: proxyProtocol.send && encodeProxyHeader(proxyProtocol.send, undefined, undefined),
      speaks: http ? 'http' : 'grpc',
      timeoutMs: timeouts.dialMs,
      token: healthToken,
    }));
  });
  return { intervalMs: healthChecks.intervalMs, upstreams };
}
