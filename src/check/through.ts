import { isTlsScheme } from '../config/address.js';
import { networkCheck } from '../config/cidr.js';
import { upstreamsOf } from '../config/forwarding.js';
import type { Address, Forwarding, ListenerConfiguration, NetworkAddress } from '../config/model.js';
import { encodeProxyHeader } from '../connection/proxy-header.js';
import type { LoadedPair } from '../tls/certificate-pair.js';
import type { ListenerMaterial, UpstreamMaterial } from '../tls/material.js';
import { RouteTable } from '../upstream/route-table.js';
import { namedAnchors, systemAnchors, type Anchors } from './anchors.js';
import type { CheckTarget, TargetTls } from './target.js';

/** As whose client the listeners of a proxy are checked: what the command line says. */
export interface ListenerClient {
  readonly anchors: Anchors;
  readonly pair: LoadedPair | undefined;
  /** The name to ask for instead of that of the certificate. */
  readonly serverName: string | undefined;
}

/** What a listener and its forwards come to: the listener once for each name that leads to another certificate or forward. */
export function targetsOf(
  configuration: ListenerConfiguration,
  { server, upstream }: ListenerMaterial,
  client: ListenerClient,
): CheckTarget[] {
  const { listen, forwarding, http, tls, proxyProtocol } = configuration;
  const speaks = http ? 'http' : 'grpc';
  const address = dialled(listen);
  const expectsHeader = networkCheck(proxyProtocol.acceptFrom);
  const source = address.scheme === 'unix' ? undefined : address.host;
  const listener = {
    role: 'listen',
    address,
    // A check of this machine's own comes from the address that it dials.
    hello: expectsHeader(source) ? encodeProxyHeader('v2', undefined, undefined) : undefined,
    speaks,
    ...(address.scheme !== 'unix' &&
      address.port === 0 && { cannot: 'its port is a free one of each start' }),
  } as const;
  const forwards = upstreamsOf(forwarding).map((forward): CheckTarget => ({
    role: 'forward',
    title: forward.url,
    address: forward,
    tls: upstream && isTls(forward) ? upstreamTls(upstream, forward.host) : undefined,
    hello: proxyProtocol.send && encodeProxyHeader(proxyProtocol.send, undefined, undefined),
    speaks,
  }));
  if (!server || !tls) return [{ ...listener, title: listen.url, tls: undefined }, ...forwards];
  const { anchors, pair } = client;
  const listened = namesOf(server.pairs, forwarding, client).map((serverName, index): CheckTarget => {
    const title = index === 0 ? listen.url : `${listen.url} as ${serverName}`;
    return { ...listener, title, tls: { serverName, anchors, pair, minVersion: 'TLSv1.2' } };
  });
  return [...listened, ...forwards];
}

/** The names to ask a listener for, each once. */
function namesOf(
  pairs: readonly LoadedPair[],
  forwarding: Forwarding,
  { serverName }: ListenerClient,
): string[] {
  if (serverName !== undefined) return [serverName];
  const { routes, fallback } = forwarding;
  const routed = routes.map(({ name }) => someName(name));
  // Without a default, whoever asks for a name that has no route is refused.
  if (!fallback) return [...new Set(routed)];
  const table = new RouteTable(forwarding, ({ url }) => url);
  const certified = pairs.map(({ names }) => allNames(names));
  const toFallback = certified.flat().find((name) => table.find(name) === fallback.url);
  const ofPairs = certified.map(([first = 'localhost']) => first);
  return [...new Set([...ofPairs, ...routed, ...(toFallback === undefined ? [] : [toFallback])])];
}

/** Where a listener is reached from its own machine. */
function dialled(listen: Address): Address {
  if (listen.scheme === 'unix') return listen;
  const host = listen.host === '0.0.0.0' ? '127.0.0.1' : listen.host === '::' ? '::1' : listen.host;
  return { ...listen, host };
}

/** The names that a certificate holds. */
function allNames({ dns, ip }: LoadedPair['names']): string[] {
  return [...dns.map(someName), ...ip];
}

/** Some host's name in place of a wildcard. */
function someName(name: string): string {
  return name.replace(/^\*\./u, 'check.');
}

function isTls(address: Address): address is NetworkAddress {
  return address.scheme !== 'unix' && isTlsScheme(address.scheme);
}

function upstreamTls({ settings, pair, ca, anchors }: UpstreamMaterial, host: string): TargetTls {
  const { serverName, minVersion, ca: source } = settings;
  return {
    serverName: serverName ?? host,
    minVersion,
    pair,
    anchors: source && anchors ? namedAnchors(source, anchors) : systemAnchors(ca),
  };
}
