import { isIPv4, isIPv6, SocketAddress } from 'node:net';
import type { HostPort } from './model.js';
import { parsed, refused, type Parsed } from './parsed.js';

/** The syntax of a `host:port` in a given place, with parts of examples for messages. */
export interface HostPortRules {
  /** The prefix of examples in messages: `tls://`, `dns:` or empty. */
  readonly prefix: string;
  /** Gitaly's usual port in this place, for examples. */
  readonly usualPort: number;
  /** The default port; `undefined` if the port is required. */
  readonly defaultPort?: number | undefined;
  /** Port 0 requests a free port from the system, which only makes sense for listening. */
  readonly allowPortZero: boolean;
  /** Go's `":9236"`, for every interface. The host is then the empty string, as in `server.listen`. */
  readonly allowEmptyHost: boolean;
}

/**
 * Parses `host:port` with IPv6 addresses in brackets.
 *
 * @returns the host in lower case, IPv6 in its shortest form and without brackets.
 */
export function parseHostPort(text: string, rules: HostPortRules): Parsed<HostPort> {
  const example = (host: string, port = rules.usualPort): string => `${rules.prefix}${host}:${port}`;
  if (/[/?#]/u.test(text)) {
    return refused(`nothing may follow the port: write ${example('host')}`);
  }
  const split = splitHostPort(text);
  if (split === undefined) {
    return isIPv6(text) || isIPv6(text.replace(/:[0-9]+$/u, ''))
      ? refused(`an IPv6 address must be in brackets: write ${example('[::1]')}`)
      : refused(`expected a host and a port: write ${example('host')}`);
  }
  const { host } = split;
  const port = split.port ?? rules.defaultPort?.toString();
  if (port === undefined) {
    return refused(`the port is missing: write ${example(host === '' ? 'host' : host)}`);
  }
  if (host === '' && !rules.allowEmptyHost) {
    return refused(
      rules.allowPortZero
        ? `the host is missing: write ${example('0.0.0.0')} or ${example('[::]')} for every interface`
        : `the host is missing: write ${example('host')}`,
    );
  }
  const name = host.startsWith('[') ? host.slice(1, -1) : host;
  const hostError = host === '' ? undefined : checkHost(name, host.startsWith('['));
  if (hostError !== undefined) return refused(hostError);
  const number = /^[0-9]{1,5}$/u.test(port) ? Number(port) : NaN;
  if (!(number <= 65_535))
    return refused(`the port must be a number from 1 to 65535: write ${example(host)}`);
  if (number === 0 && !rules.allowPortZero) {
    return refused(
      'port 0 means "any free port" and is only valid for listening; write the port of the upstream',
    );
  }
  return parsed({ host: normalHost(name), port: number });
}

/** Formats a host and a port, with IPv6 addresses in brackets. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Checks a host name or IP address without a port, such as a server name.
 *
 * @returns the problem, or `undefined`.
 */
export function checkHost(host: string, ipv6Only = false): string | undefined {
  if (isIPv6(host)) return undefined;
  if (ipv6Only) return 'brackets must contain an IPv6 address such as [::1]';
  if (isIPv4(host)) return undefined;
  if (/^[0-9.]+$/u.test(host))
    return 'an IPv4 address must have four numbers from 0 to 255, for example 10.0.0.5';
  const labels = host.replace(/\.$/u, '').split('.');
  // RFC 952 does not allow underscores in host names, but container networks resolve names that contain them.
  const good = host.length <= 254 && labels.every((label) => /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/iu.test(label));
  return good ? undefined : 'expected a host name such as gitaly-a.internal or an IP address';
}

function splitHostPort(text: string): { host: string; port: string | undefined } | undefined {
  const match = /^(\[[^\]]*\]|[^:[\]]*)(?::(.*))?$/u.exec(text);
  if (match === null) return undefined;
  const port = match[2];
  // A second colon belongs to an IPv6 address without brackets, not to the port.
  if (port?.includes(':') === true) return undefined;
  return { host: match[1] ?? '', port };
}

function normalHost(host: string): string {
  if (isIPv6(host) && !host.includes('%')) {
    return new SocketAddress({ address: host, family: 'ipv6' }).address;
  }
  return host.toLowerCase();
}
