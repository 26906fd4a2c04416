import { posix } from 'node:path';
import { formatHostPort, parseHostPort } from './host-port.js';
import type { Address } from './model.js';
import { parsed, refused, type Parsed } from './parsed.js';

export type AddressSide = 'listen' | 'forward';

/** `sockaddr_un.sun_path` holds 108 bytes on Linux, the closing NUL included; a longer path would be cut. */
const MAX_UNIX_PATH_BYTES = 107;

const EXAMPLES: Readonly<Record<AddressSide, string>> = {
  listen: 'tls://0.0.0.0:9999, tcp://127.0.0.1:8076 or unix:/run/gitaly.socket',
  forward:
    'tcp://127.0.0.1:8075, tls://gitaly.internal:9999, dns:gitaly.internal:8075 or unix:/run/gitaly.socket',
};

/**
 * Reads an address as Gitaly writes them: `tls://host:port`, `tcp://host:port`, `unix:/path` (and `unix:///path`),
 * and on the forward side `dns:host:port` (and `dns:///host:port`), which is plaintext TCP by name.
 */
export function parseAddress(text: string, side: AddressSide): Parsed<Address> {
  if (/[\s\p{Cc}]/u.test(text))
    return refused(`an address has no spaces: write for example ${EXAMPLES[side]}`);
  const scheme = /^([a-z][a-z0-9+.-]*):/iu.exec(text)?.[1]?.toLowerCase();
  const rest = text.slice((scheme?.length ?? 0) + 1);
  switch (scheme) {
    case 'tls':
    case 'tcp':
      return parseNetwork(scheme, rest, side);
    case 'unix':
      return parseUnix(rest);
    case 'dns':
      return side === 'forward'
        ? parseDns(rest)
        : refused('dns: names an upstream and stands in `forward` only; listen on tls://, tcp:// or unix:');
    case 'http':
    case 'https':
      return refused(
        `${scheme}:// is not supported yet by this version; supported are tls://, tcp:// and unix:`,
      );
    case undefined:
    default:
      return refused(`expected an address with its scheme: ${EXAMPLES[side]}`);
  }
}

function parseNetwork(scheme: 'tls' | 'tcp', rest: string, side: AddressSide): Parsed<Address> {
  const usualPort = scheme === 'tls' ? 9999 : 8075;
  if (!rest.startsWith('//'))
    return refused(`two slashes follow ${scheme}: write ${scheme}://host:${usualPort}`);
  const authority = rest.slice(2);
  if (authority.includes('@'))
    return refused(`an address has no user or password: write ${scheme}://host:${usualPort}`);
  return networkAddress(scheme, authority, { prefix: `${scheme}://`, usualPort, side });
}

function parseDns(rest: string): Parsed<Address> {
  if (rest.startsWith('//') && !rest.startsWith('///')) {
    return refused(
      'a DNS server cannot be chosen: write dns:host:8075, or dns:///host:8075 with three slashes',
    );
  }
  const authority = rest.startsWith('///') ? rest.slice(3) : rest;
  return networkAddress('tcp', authority, { prefix: 'dns:', usualPort: 8075, side: 'forward' });
}

function networkAddress(
  scheme: 'tls' | 'tcp',
  authority: string,
  { prefix, usualPort, side }: { prefix: string; usualPort: number; side: AddressSide },
): Parsed<Address> {
  const allowPortZero = side === 'listen';
  const hostPort = parseHostPort(authority, { prefix, usualPort, allowPortZero, allowEmptyHost: false });
  if (!hostPort.ok) return hostPort;
  return parsed({ scheme, ...hostPort.value, url: `${scheme}://${formatHostPort(hostPort.value)}` });
}

function parseUnix(rest: string): Parsed<Address> {
  if (rest.startsWith('//') && !rest.startsWith('///')) {
    return refused(
      'the path of a unix socket is absolute: write unix:/run/gitaly.socket, with one slash or three',
    );
  }
  if (!rest.startsWith('/')) {
    return refused('the path of a unix socket is absolute: write for example unix:/run/gitaly.socket');
  }
  const path = posix.normalize(rest.startsWith('//') ? rest.slice(2) : rest);
  if (path.endsWith('/'))
    return refused('a unix socket is a file, not a directory: write unix:/run/gitaly.socket');
  if (Buffer.byteLength(path) > MAX_UNIX_PATH_BYTES) {
    return refused(`the path of a unix socket has at most ${MAX_UNIX_PATH_BYTES} bytes`);
  }
  return parsed({ scheme: 'unix', path, url: `unix:${path}` });
}
