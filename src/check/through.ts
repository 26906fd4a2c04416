import { networkCheck } from '../config/cidr.js';
import type { Address, ListenerConfiguration } from '../config/model.js';
import { encodeProxyHeader } from '../connection/proxy-header.js';
import type { LoadedPair } from '../tls/certificate-pair.js';
import type { ListenerMaterial, UpstreamMaterial } from '../tls/material.js';
import { namedAnchors, systemAnchors, type Anchors } from './anchors.js';
import type { CheckTarget, TargetTls } from './target.js';

/** As whose client the listeners of a proxy are checked: what the command line says. */
export interface ListenerClient {
  readonly anchors: Anchors;
  readonly pair: LoadedPair | undefined;
  /** The name to ask for instead of that of the certificate. */
  readonly serverName: string | undefined;
}

/** What a listener and its forward come to: the listener once for each of its certificates. */
export function targetsOf(
  configuration: ListenerConfiguration,
  { server, upstream }: ListenerMaterial,
  client: ListenerClient,
): CheckTarget[] {
  const { listen, forward, http, tls, proxyProtocol } = configuration;
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
  const forwarded = {
    role: 'forward',
    title: forward.url,
    address: forward,
    tls: upstream && upstreamTls(upstream),
    hello: proxyProtocol.send && encodeProxyHeader(proxyProtocol.send, undefined, undefined),
    speaks,
  } as const;
  if (!server || !tls) return [{ ...listener, title: listen.url, tls: undefined }, forwarded];
  return [
    ...server.pairs.map(({ names }, index): CheckTarget => {
      const serverName = client.serverName ?? firstName(names) ?? 'localhost';
      const title = index === 0 ? listen.url : `${listen.url} as ${serverName}`;
      const { anchors, pair } = client;
      return { ...listener, title, tls: { serverName, anchors, pair, minVersion: 'TLSv1.2' } };
    }),
    forwarded,
  ];
}

/** Where a listener is reached from its own machine. */
function dialled(listen: Address): Address {
  if (listen.scheme === 'unix') return listen;
  const host = listen.host === '0.0.0.0' ? '127.0.0.1' : listen.host === '::' ? '::1' : listen.host;
  return { ...listen, host };
}

/** A name that the certificate holds; some host's in place of a wildcard. */
function firstName({ dns, ip }: LoadedPair['names']): string | undefined {
  return dns[0]?.replace(/^\*\./u, 'check.') ?? ip[0];
}

function upstreamTls({ settings, pair, ca, anchors }: UpstreamMaterial): TargetTls {
  const { serverName, minVersion, ca: source } = settings;
  return {
    serverName,
    minVersion,
    pair,
    anchors: source && anchors ? namedAnchors(source, anchors) : systemAnchors(ca),
  };
}
