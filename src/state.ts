import { createHash, randomBytes } from 'node:crypto';

import { upstreamsOf } from './config/forwarding.js';
import type { Configuration, ListenerConfiguration, Problem } from './config/model.js';
import { encodeProxyHeader } from './connection/proxy-header.js';
import type { HealthPlan } from './health/health-watch.js';
import type { CheckedUpstream } from './health/upstream-check.js';
import { TICKET_SECRET_BYTES } from './limits.js';
import type { CertificateRole, Snapshot } from './telemetry/metrics.js';
import { loadToken } from './tls/token-file.js';
import { fileSignature, watchedPaths } from './tls/file-signature.js';
import {
  loadMaterial,
  serverParts,
  upstreamParts,
  type ListenerMaterial,
  type ServerParts,
  type UpstreamParts,
} from './tls/material.js';
import { createDialer } from './upstream/dialer.js';
import { TlsClient } from './upstream/tls-client.js';

/** Everything that a configuration and its files come to, read and checked and not yet in force. */
export interface ProxyState {
  readonly configuration: Configuration;
  /** One a listener, in the configuration's order. */
  readonly listeners: readonly ListenerState[];
  /** Gitaly's token, to check its health with. */
  readonly healthToken: string | undefined;
  /** The certificate files as they were just before they were read (`fileSignature`): what differs is newer. */
  readonly signature: string;
}

/** One listener of a state. */
export interface ListenerState {
  readonly configuration: ListenerConfiguration;
  readonly material: ListenerMaterial;
  readonly server: ServerParts | undefined;
  readonly upstream: UpstreamParts | undefined;
  /** Changes with what TLS is made of; while it stays, sessions may be resumed across a reload. */
  readonly fingerprint: string;
}

/** A state, or why there is none. `problems` may hold warnings beside a state. */
export interface StateResult {
  readonly state: ProxyState | undefined;
  readonly problems: readonly Problem[];
}

/** Reads the files that a configuration names; changes nothing. */
export async function loadState(
  configuration: Configuration,
  previous: ProxyState | undefined,
): Promise<StateResult> {
  const signature = await fileSignature(watchedPaths(configuration));
  const { listeners: materials, problems: ofMaterial } = await loadMaterial(configuration, new Date());
  const problems = [...ofMaterial];
  const token = configuration.healthChecks?.token;
  const healthToken = token && (await loadToken(token, problems));
  if (!materials || (token && healthToken === undefined)) return { state: undefined, problems };
  const listeners = configuration.listeners.flatMap((listener, index): ListenerState[] => {
    const material = materials[index];
    return material ? [listenerState(listener, material, previous)] : [];
  });
  return { state: { configuration, listeners, healthToken, signature }, problems };
}

function listenerState(
  configuration: ListenerConfiguration,
  material: ListenerMaterial,
  previous: ProxyState | undefined,
): ListenerState {
  const server = material.server && serverParts(material.server, NO_SECRET);
  const upstream = material.upstream && upstreamParts(material.upstream);
  const fingerprint = createHash('sha256')
    .update(JSON.stringify([server, upstream]))
    .digest('hex');
  const key = bindKey(configuration);
  const same = previous?.listeners.find(
    (other) => other.fingerprint === fingerprint && bindKey(other.configuration) === key,
  );
  const ticketSecret = same?.server?.ticketSecret ?? randomBytes(TICKET_SECRET_BYTES);
  return { configuration, material, server: server && { ...server, ticketSecret }, upstream, fingerprint };
}

const NO_SECRET = new Uint8Array(0);

/** What is bound, whatever is spoken there: a listener keeps its port when only its scheme changes. */
export function bindKey({ listen }: ListenerConfiguration): string {
  return listen.scheme === 'unix' ? `unix:${listen.path}` : `${listen.host} ${listen.port}`;
}

/** The dates of all certificates and CRLs of a state, the earliest of each role. */
export function expiries(state: ProxyState): Pick<Snapshot, 'certificates' | 'revocationLists'> {
  const certificates: { listener: string; role: CertificateRole; notAfter: Date }[] = [];
  const revocationLists: { listener: string; nextUpdate: Date }[] = [];
  for (const { configuration, material } of state.listeners) {
    const listener = configuration.listen.url;
    const add = (role: CertificateRole, dates: readonly Date[]): void => {
      const readable = dates.filter((date) => !Number.isNaN(date.getTime()));
      const first = readable.sort((a, b) => a.getTime() - b.getTime())[0];
      if (first) certificates.push({ listener, role, notAfter: first });
    };
    const { server, upstream } = material;
    add('server', server?.pairs.map(({ leaf }) => leaf.validTo) ?? []);
    add('client_ca', server?.clientCa?.map(({ x509 }) => x509.validTo) ?? []);
    add('upstream_client', upstream?.pair ? [upstream.pair.leaf.validTo] : []);
    add('upstream_ca', upstream?.anchors?.map(({ x509 }) => x509.validTo) ?? []);
    const nextUpdate = server?.revocations?.nextUpdate;
    if (nextUpdate) revocationLists.push({ listener, nextUpdate });
  }
  return { certificates, revocationLists };
}

/** What of a state its health checks are made of; `undefined` where none are to be made. */
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
