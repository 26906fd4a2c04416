import { posix } from 'node:path';
import { MAX_UNIX_PATH_BYTES } from '../limits.js';
import { formatHostPort, parseHostPort } from './host-port.js';
import type { Address, NetworkAddress } from './model.js';
import { parsed, refused, type Parsed } from './parsed.js';

export type AddressSide = 'listen' | 'forward';

const EXAMPLES: Readonly<Record<AddressSide, string>> = {
  listen:
    'tls://0.0.0.0:9999, tcp://127.0.0.1:8076, unix:/run/gitaly-tls-proxy/gitaly.socket or https://0.0.0.0:8443',
  forward:
    'tcp://127.0.0.1:8075, tls://gitaly.internal:9999, dns:gitaly.internal:8075, unix:/var/opt/gitlab/gitaly/gitaly.socket or https://gitlab.example.com',
};

/** The ports in examples: Gitaly's own, the gate's, and for upstreams the default ports of the schemes. */
const USUAL_PORTS: Readonly<Record<NetworkAddress['scheme'], Readonly<Record<AddressSide, number>>>> = {
  tls: { listen: 9999, forward: 9999 },
  tcp: { listen: 8075, forward: 8075 },
  https: { listen: 8443, forward: 443 },
  http: { listen: 8180, forward: 80 },
};

/**
 * Parses an address in one of Gitaly's forms: `tls://host:port`, `tcp://host:port`, `unix:/path` (or `unix:///path`). An
 * upstream may also be `dns:host:port` (or `dns:///host:port`) for plaintext TCP, or `dns+tls:host:port` for TLS.
 * `https://host:port` and `http://host:port` are addresses of GitLab; for upstreams the port is optional.
 */
export function parseAddress(text: string, side: AddressSide): Parsed<Address> {
  if (/[\s\p{Cc}]/u.test(text))
    return refused(`an address must not contain spaces: write for example ${EXAMPLES[side]}`);
  const scheme = /^([a-z][a-z0-9+.-]*):/iu.exec(text)?.[1]?.toLowerCase();
  const rest = text.slice((scheme?.length ?? 0) + 1);
  switch (scheme) {
    case 'tls':
    case 'tcp':
      return parseNetwork(scheme, rest, side);
    case 'unix':
      return parseUnix(rest);
    case 'dns':
    case 'dns+tls':
      return side === 'forward'
        ? parseDns(scheme, rest)
        : refused(
            `${scheme}: is only valid in \`forward\`; listen on tls://, tcp://, unix:, https:// or http://`,
          );
    case 'https':
    case 'http':
      return parseNetwork(scheme, rest.replace(/(?<=[^/])\/$/u, ''), side);
    case undefined:
    default:
      return refused(`expected an address with its scheme: ${EXAMPLES[side]}`);
  }
}

function parseNetwork(scheme: NetworkAddress['scheme'], rest: string, side: AddressSide): Parsed<Address> {
  const usualPort = USUAL_PORTS[scheme][side];
  if (!rest.startsWith('//'))
    return refused(`${scheme}: must be followed by two slashes: write ${scheme}://host:${usualPort}`);
  const authority = rest.slice(2);
  if (authority.includes('@'))
    return refused(`an address must not contain a user or password: write ${scheme}://host:${usualPort}`);
  return networkAddress(scheme, authority, { prefix: `${scheme}://`, side });
}

/** Parses gRPC's name syntax: a DNS server follows two slashes, the name follows three. */
function parseDns(scheme: 'dns' | 'dns+tls', rest: string): Parsed<Address> {
  const dials = scheme === 'dns' ? 'tcp' : 'tls';
  if (rest.startsWith('//') && !rest.startsWith('///')) {
    const host = `host:${USUAL_PORTS[dials].forward}`;
    return refused(
      `a DNS server cannot be specified: write ${scheme}:${host}, or ${scheme}:///${host} with three slashes`,
    );
  }
  const authority = rest.startsWith('///') ? rest.slice(3) : rest;
  return networkAddress(dials, authority, { prefix: `${scheme}:`, side: 'forward' });
}

function networkAddress(
  scheme: NetworkAddress['scheme'],
  authority: string,
  { prefix, side }: { prefix: string; side: AddressSide },
): Parsed<Address> {
  const usualPort = USUAL_PORTS[scheme][side];
  // RFC 9110 section 4.2: these schemes have default ports. They apply to upstreams only.
  const defaultPort = side === 'forward' && isHttpScheme(scheme) ? usualPort : undefined;
  const hostPort = parseHostPort(authority, {
    prefix,
    usualPort,
    defaultPort,
    allowPortZero: side === 'listen',
    allowEmptyHost: false,
  });
  if (!hostPort.ok) return hostPort;
  const { host, port } = hostPort.value;
  const written = formatHostPort({ host, port });
  const url = port === defaultPort ? written.slice(0, -`:${port}`.length) : written;
  return parsed({ scheme, host, port, url: `${scheme}://${url}` });
}

/** Whether addresses of this scheme use HTTP. */
export function isHttpScheme(scheme: Address['scheme']): scheme is 'https' | 'http' {
  return scheme === 'https' || scheme === 'http';
}

/** Whether addresses of this scheme use TLS. */
export function isTlsScheme(scheme: Address['scheme']): scheme is 'tls' | 'https' {
  return scheme === 'tls' || scheme === 'https';
}

/** The part of an address that is bound or dialled, independent of the protocol. */
export function place(address: Address): string {
  return address.scheme === 'unix' ? address.url : formatHostPort(address);
}

/** Whether the address stands for any free port. */
export function isAnyPort(address: Address): boolean {
  return address.scheme !== 'unix' && address.port === 0;
}

function parseUnix(rest: string): Parsed<Address> {
  if (rest.startsWith('//') && !rest.startsWith('///')) {
    return refused(
      'the path of a unix socket must be absolute: write unix:/run/gitaly-tls-proxy/gitaly.socket, with one slash or three',
    );
  }
  if (!rest.startsWith('/')) {
    return refused(
      'the path of a unix socket must be absolute: write for example unix:/run/gitaly-tls-proxy/gitaly.socket',
    );
  }
  const path = posix.normalize(rest.startsWith('//') ? rest.slice(2) : rest);
  if (path.endsWith('/'))
    return refused(
      'a unix socket is a file, not a directory: write unix:/run/gitaly-tls-proxy/gitaly.socket',
    );
  if (Buffer.byteLength(path) > MAX_UNIX_PATH_BYTES) {
    return refused(`the path of a unix socket must not exceed ${MAX_UNIX_PATH_BYTES} bytes`);
  }
  return parsed({ scheme: 'unix', path, url: `unix:${path}` });
}
