import { createHash } from 'node:crypto';
import { BlockList, isIPv6 } from 'node:net';

import type { Configuration, ListenerConfiguration, Problem } from './config/model.js';
import type { ConnectionSettings } from './connection/settings.js';
import type { ConnectionEvents } from './connection/events.js';
import type { CertificateRole, Snapshot } from './telemetry/metrics.js';
import { fileSignature, watchedPaths } from './tls/file-signature.js';
import { loadMaterial, type ListenerMaterial } from './tls/material.js';
import { TlsTerminator } from './tls/terminator.js';
import { createDialer } from './upstream/dialer.js';
import { TlsClient } from './upstream/tls-client.js';

/** Everything that a configuration and its files come to, built and validated and not yet in force. */
export interface ProxyState {
  readonly configuration: Configuration;
  /** One a listener, in the configuration's order. */
  readonly listeners: readonly ListenerState[];
  /** The certificate files as they were just before they were read (`fileSignature`): what differs is newer. */
  readonly signature: string;
}

/** One listener of a state. */
export interface ListenerState {
  readonly settings: ConnectionSettings;
  readonly material: ListenerMaterial;
  /** Changes with what TLS is made of; while it stays, sessions may be resumed across a reload. */
  readonly fingerprint: string;
}

/** A state, or why there is none. `problems` may hold warnings beside a state. */
export interface StateResult {
  readonly state: ProxyState | undefined;
  readonly problems: readonly Problem[];
}

/** Reads the files that a configuration names and builds what serves it; changes nothing. */
export async function buildState(
  configuration: Configuration,
  previous: ProxyState | undefined,
  eventsFor: (listener: ListenerConfiguration) => ConnectionEvents,
): Promise<StateResult> {
  const signature = await fileSignature(watchedPaths(configuration));
  const { listeners: materials, problems } = await loadMaterial(configuration, new Date());
  if (!materials) return { state: undefined, problems };
  const found = [...problems];
  const listeners: ListenerState[] = [];
  configuration.listeners.forEach((listener, index) => {
    const material = materials[index];
    if (!material) return;
    try {
      listeners.push(buildListener(listener, material, previous, eventsFor));
    } catch (error) {
      const message = `the TLS library refuses the settings: ${error instanceof Error ? error.message : String(error)}`;
      found.push({ severity: 'error', key: listener.key, message });
    }
  });
  const complete = listeners.length === configuration.listeners.length;
  return { state: complete ? { configuration, listeners, signature } : undefined, problems: found };
}

function buildListener(
  configuration: ListenerConfiguration,
  material: ListenerMaterial,
  previous: ProxyState | undefined,
  eventsFor: (listener: ListenerConfiguration) => ConnectionEvents,
): ListenerState {
  const fingerprint = fingerprintOf(material);
  const key = bindKey(configuration);
  const same = previous?.listeners.find(
    (other) => other.fingerprint === fingerprint && bindKey(other.settings.configuration) === key,
  );
  const terminator = same?.settings.terminator ?? (material.server && new TlsTerminator(material.server));
  const tlsClient = material.upstream && new TlsClient(material.upstream);
  const { listen, forward, timeouts, proxyProtocol } = configuration;
  const sameLabels =
    same?.settings.configuration.listen.url === listen.url &&
    same.settings.configuration.forward.url === forward.url;
  return {
    material,
    fingerprint,
    settings: {
      configuration,
      terminator,
      dialer: createDialer(forward, tlsClient, timeouts.dialMs),
      expectsProxyHeader: networkCheck(proxyProtocol.acceptFrom),
      events: same && sameLabels ? same.settings.events : eventsFor(configuration),
    },
  };
}

/** What is bound, whatever is spoken there: a listener keeps its socket when only its scheme changes. */
export function bindKey({ listen }: ListenerConfiguration): string {
  return listen.scheme === 'unix' ? `unix:${listen.path}` : `${listen.host} ${listen.port}`;
}

function fingerprintOf(material: ListenerMaterial): string {
  const { server, upstream } = material;
  const parts = [
    server?.settings.minVersion,
    server?.settings.clientAuth,
    ...(server?.pairs ?? []).flatMap((pair) => [pair.certificatePem, pair.keyPem]),
    'client ca',
    ...(server?.clientCa ?? []).map(({ pem }) => pem),
    'crl',
    ...(server?.revocations?.pem ?? []),
    'upstream',
    upstream?.pair?.certificatePem,
    upstream?.pair?.keyPem,
    ...(upstream?.ca ?? []),
  ];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

function networkCheck(networks: readonly string[]): (address: string | undefined) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', prefix] = network.split('/');
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    list.addSubnet(address, Number(prefix ?? (family === 'ipv6' ? 128 : 32)), family);
  }
  if (networks.length === 0) return () => false;
  return (address) => address !== undefined && list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

/** The dates of all certificates and CRLs of a state, the earliest of each role. */
export function expiries(state: ProxyState): Pick<Snapshot, 'certificates' | 'revocationLists'> {
  const certificates: { listener: string; role: CertificateRole; notAfter: Date }[] = [];
  const revocationLists: { listener: string; nextUpdate: Date }[] = [];
  for (const { settings, material } of state.listeners) {
    const listener = settings.configuration.listen.url;
    const add = (role: CertificateRole, dates: readonly string[]): void => {
      const first = dates.map((date) => new Date(date)).sort((a, b) => a.getTime() - b.getTime())[0];
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
