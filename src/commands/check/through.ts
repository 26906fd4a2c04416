import { isTlsScheme } from '../../config/address.js';
import type { Environment } from '../../config/build-context.js';
import { networkCheck } from '../../config/cidr.js';
import { upstreamsOf } from '../../config/forwarding.js';
import { readConfiguration, type LoadResult } from '../../config/load.js';
import type {
  Address,
  Forwarding,
  ListenerConfiguration,
  NetworkAddress,
  Problem,
} from '../../config/model.js';
import { namesFor, normalServerName } from '../../config/server-name.js';
import { encodeProxyHeader } from '../../connection/proxy-header.js';
import type { LoadedPair } from '../../x509/certificate-pair.js';
import { loadMaterial, type ListenerMaterial, type UpstreamMaterial } from '../../tls/material.js';
import { namedAnchors, systemAnchors, type Anchors } from './anchors.js';
import type { CheckTarget, TargetTls } from './named-target.js';

/** The client that checks the listeners of a proxy, from the command line. */
export interface ListenerClient {
  readonly anchors: Anchors;
  readonly pair: LoadedPair | undefined;
  /** The name to request instead of those of the certificate. */
  readonly serverName: string | undefined;
}

/** The targets of a configuration, or the problems that prevent its use. */
type TargetsResult =
  | { readonly targets: CheckTarget[] }
  | { readonly targets?: never; readonly problems: readonly Problem[]; readonly source: LoadResult };

/** Finds every listener and every forward of a configuration file, each forward once. */
export async function targetsThrough(
  file: string,
  client: ListenerClient,
  env: Environment,
): Promise<TargetsResult> {
  const source = await readConfiguration({ kind: 'file', file }, env);
  const { configuration } = source;
  if (!configuration) return { problems: source.problems, source };
  const { listeners, problems } = await loadMaterial(configuration, new Date());
  if (!listeners) return { problems, source };
  const targets = configuration.listeners.flatMap((listener, index) => {
    const material = listeners[index];
    return material ? targetsOf(listener, material, client) : [];
  });
  const isFirst = (target: CheckTarget, index: number): boolean =>
    target.role !== 'forward' ||
    target.tls !== undefined ||
    targets.findIndex(({ role, title }) => role === 'forward' && title === target.title) === index;
  return { targets: targets.filter(isFirst) };
}

/** The targets of a listener and its forwards. The listener is checked once per name that selects another certificate or forward. */
export function targetsOf(
  configuration: ListenerConfiguration,
  { server, upstream }: ListenerMaterial,
  client: ListenerClient,
): CheckTarget[] {
  const { listen, forwarding, http, tls, proxyProtocol } = configuration;
  const protocol = http ? 'http' : 'grpc';
  const address = localAddress(listen);
  const expectsHeader = networkCheck(proxyProtocol.acceptFrom);
  const source = address.scheme === 'unix' ? undefined : address.host;
  const listener = {
    role: 'listen',
    address,
    // A connection to an address of this machine has the same address as its source.
    preamble: expectsHeader(source) ? encodeProxyHeader('v2', undefined, undefined) : undefined,
    protocol,
    ...(address.scheme !== 'unix' &&
      address.port === 0 && { skipReason: 'with port 0, the port is another one after each start' }),
  } as const;
  const forwards = upstreamsOf(forwarding).map((forward): CheckTarget => ({
    role: 'forward',
    title: forward.url,
    address: forward,
    tls: upstream && isTls(forward) ? upstreamTls(upstream, forward.host) : undefined,
    preamble: proxyProtocol.send && encodeProxyHeader(proxyProtocol.send, undefined, undefined),
    protocol,
  }));
  if (!server || !tls) return [{ ...listener, title: listen.url, tls: undefined }, ...forwards];
  const { anchors, pair } = client;
  const listened = namesOf(server.pairs, forwarding, client).map((serverName, index): CheckTarget => {
    const title = index === 0 ? listen.url : `${listen.url} as ${serverName}`;
    return {
      ...listener,
      title,
      tls: { serverName, anchors, pair, pairFrom: 'flags', minVersion: 'TLSv1.2' },
    };
  });
  return [...listened, ...forwards];
}

/** The names to request from a listener, without duplicates. */
function namesOf(
  pairs: readonly LoadedPair[],
  forwarding: Forwarding,
  { serverName }: ListenerClient,
): string[] {
  if (serverName !== undefined) return [serverName];
  const { routes, fallback } = forwarding;
  const held = pairs.map(({ names: { dns, ip } }) => [...dns, ...ip]);
  const names = held.flat();
  const known: ReadonlySet<string> = new Set(routes.map(({ name }) => name));
  const routed = routes.map(({ name }) => nameFor(name, names, known));
  // Without a default route, a client that asks for a name without a route is refused.
  if (!fallback) return [...new Set(routed)];
  const ofPairs = held.map((own) => nameFor(own[0] ?? 'localhost', own, known));
  const toFallback = names.find((name) => routeOf(name, known) === undefined);
  return [
    ...new Set([
      ...ofPairs,
      ...routed,
      ...(toFallback === undefined ? [] : [nameFor(toFallback, names, known)]),
    ]),
  ];
}

/**
 * The name to use for a route. For a wildcard, a name that matches it and no other route: one in the certificate, or otherwise
 * an invented one. Any other name is used as it is.
 */
function nameFor(name: string, held: readonly string[], routes: ReadonlySet<string>): string {
  if (!isWildcardName(name)) return name;
  const fits = (other: string): boolean =>
    !isWildcardName(other) &&
    namesFor(other).includes(name) &&
    [undefined, name].includes(routeOf(other, routes));
  const known = held.find(fits);
  if (known !== undefined) return known;
  for (let number = 1; ; number += 1) {
    const invented = `check${number === 1 ? '' : `-${number}`}${name.slice(1)}`;
    if (fits(invented)) return invented;
  }
}

/** The route of a client that asks for this name; `undefined` for the default. */
function routeOf(name: string, routes: ReadonlySet<string>): string | undefined {
  return namesFor(name).find((each) => routes.has(each));
}

function isWildcardName(name: string): boolean {
  return name.startsWith('*.');
}

/** The address at which a listener is reached from its own machine. */
function localAddress(listen: Address): Address {
  if (listen.scheme === 'unix') return listen;
  const host = listen.host === '0.0.0.0' ? '127.0.0.1' : listen.host === '::' ? '::1' : listen.host;
  return { ...listen, host };
}

function isTls(address: Address): address is NetworkAddress {
  return address.scheme !== 'unix' && isTlsScheme(address.scheme);
}

function upstreamTls({ settings, pair, ca, anchors }: UpstreamMaterial, host: string): TargetTls {
  const { serverName, minVersion, ca: source } = settings;
  return {
    serverName: serverName ?? normalServerName(host),
    minVersion,
    pair,
    pairFrom: 'upstream_tls',
    anchors: source && anchors ? namedAnchors(source, anchors) : systemAnchors(ca),
  };
}
