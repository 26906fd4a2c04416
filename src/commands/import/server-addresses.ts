import { posix } from 'node:path';

import { parseAddress } from '../../config/address.js';
import { formatHostPort, parseHostPort } from '../../config/host-port.js';
import type { HostPort } from '../../config/model.js';
import type { ServerRole, ServerSettings } from './found.js';
import { placeOf } from './server-settings.js';
import type { Unread } from './setting.js';

/** The ports that GitLab's documentation uses. */
export const USUAL_PORTS: Readonly<Record<ServerRole, { readonly plain: number; readonly tls: number }>> = {
  gitaly: { plain: 8075, tls: 9999 },
  praefect: { plain: 2305, tls: 3305 },
};

/** The port of each server's own metrics. */
const METRICS_PORTS: Readonly<Record<ServerRole, number>> = { gitaly: 9236, praefect: 9652 };

/** The present and future addresses of a server. */
export interface ServerAddresses {
  /** The plaintext address that other machines can reach; the proxy takes it over. */
  readonly openPlain: HostPort | undefined;
  /** The address at which the server terminates TLS itself today. */
  readonly ownTls: HostPort | undefined;
  /** The address at which the proxy terminates TLS. */
  readonly tls: HostPort;
  /** Whether that address is only the usual one, because the file contains none. */
  readonly tlsIsAssumed: boolean;
  /** The proxy's upstream. */
  readonly forward: string;
  /** The `listen_addr` that the server needs for that, if it differs from the present one. */
  readonly newListenAddr: HostPort | undefined;
  /** The port of the proxy while the server still has the port of `tls`. */
  readonly interimPort: number;
  /** The proxy's metrics address, next to the server's. */
  readonly prometheus: HostPort | undefined;
  /** The server's own metrics address, on its node. */
  readonly ownMetrics: HostPort;
}

/**
 * Finds addresses with which no client is refused during the migration.
 *
 * A server has one `listen_addr`. If the server terminates TLS itself, that address can change once all clients use TLS.
 * If not, the proxy connects to the server's unix socket, which does not change, or else to its present address.
 */
export function serverAddresses(settings: ServerSettings, unread: Unread[]): ServerAddresses {
  const { role, unknown } = settings;
  const usual = USUAL_PORTS[role];
  const addressOf = (
    name: string,
    text: string | undefined,
    usualPort: number,
    defaultPort?: number,
  ): HostPort | undefined => {
    if (text === undefined) return undefined;
    const address = parseHostPort(text, {
      prefix: '',
      usualPort,
      defaultPort,
      allowPortZero: false,
      allowEmptyHost: true,
    });
    // Go listens on 127.0.0.1 for this name, even if it also resolves to ::1.
    if (address.ok) return isLocalhost(address.value.host) ? loopback(address.value.port) : address.value;
    unread.push({ ...placeOf(settings, name), reason: 'expected host:port' });
    return undefined;
  };
  const plain = addressOf('listen_addr', settings.listenAddr, usual.plain);
  const metricsPort = METRICS_PORTS[role];
  const prometheus = addressOf(
    'prometheus_listen_addr',
    settings.prometheusListenAddr,
    metricsPort,
    metricsPort,
  );
  const readTls = addressOf('tls_listen_addr', settings.tlsListenAddr, usual.tls);
  const terminatesTls = settings.tlsListenAddr !== undefined || unknown.has('tls_listen_addr');
  const taken = new Set([plain, prometheus, readTls].flatMap((address) => address?.port ?? []));
  const tls = readTls ?? { host: '0.0.0.0', port: free(usual.tls, 1, taken) };
  taken.add(tls.port);
  const socket = socketOf(settings, unread);
  const isOpen = plain !== undefined && !isLoopback(plain);
  const newListenAddr = ((): HostPort | undefined => {
    // A port that is used on all addresses of this machine is not free on loopback either.
    if (isOpen && (terminatesTls || socket !== undefined))
      return loopback(isWildcard(plain) ? free(plain.port + 1, 1, taken) : plain.port);
    return plain === undefined && terminatesTls && !unknown.has('listen_addr')
      ? loopback(free(usual.plain, 1, taken))
      : undefined;
  })();
  if (newListenAddr !== undefined) taken.add(newListenAddr.port);
  const forward = ((): string => {
    if (!terminatesTls && (isOpen || plain === undefined) && socket !== undefined) return socket;
    const target = newListenAddr ?? plain ?? loopback(usual.plain);
    return `tcp://${formatHostPort(isWildcard(target) ? loopback(target.port) : target)}`;
  })();
  return {
    openPlain: isOpen ? plain : undefined,
    ownTls: terminatesTls ? tls : undefined,
    tls,
    tlsIsAssumed: readTls === undefined,
    forward,
    newListenAddr,
    interimPort: free(tls.port - 1, -1, taken),
    ownMetrics:
      prometheus === undefined || isWildcard(prometheus)
        ? loopback(prometheus?.port ?? metricsPort)
        : prometheus,
    prometheus: prometheus && { ...prometheus, port: free(prometheus.port + 1, 1, taken) },
  };
}

/** The TLS port for each plaintext port that other machines can reach. */
export function tlsPorts(servers: readonly ServerSettings[]): ReadonlyMap<number, number> {
  const usual = Object.values(USUAL_PORTS).map(({ plain, tls }) => [plain, tls] as const);
  const known = servers.flatMap((server) => {
    const { openPlain, tls } = serverAddresses(server, []);
    return openPlain === undefined ? [] : [[openPlain.port, tls.port] as const];
  });
  return new Map([...usual, ...known]);
}

function socketOf(settings: ServerSettings, unread: Unread[]): string | undefined {
  const { socketPath } = settings;
  if (socketPath === undefined) return undefined;
  const address = posix.isAbsolute(socketPath) ? parseAddress(`unix:${socketPath}`, 'forward') : undefined;
  if (address?.ok === true) return address.value.url;
  const reason = 'the path of a unix socket must be absolute, with at most 107 bytes';
  unread.push({ ...placeOf(settings, 'socket_path'), reason });
  return undefined;
}

/** An address to listen on. Go's empty host is replaced by its meaning. */
export function listenUrl(scheme: 'tls' | 'tcp', { host, port }: HostPort): string {
  return `${scheme}://${formatHostPort({ host: host === '' ? '::' : host, port })}`;
}

export function isWildcard({ host }: HostPort): boolean {
  return host === '' || host === '0.0.0.0' || host === '::';
}

/** Whether a host can be reached from this machine only. */
export function isLoopback({ host }: HostPort): boolean {
  return isLocalhost(host) || host === '::1' || /^(?:::ffff:)?127\./u.test(host);
}

/** RFC 6761 section 6.3, and the entries of Linux distributions in /etc/hosts. */
function isLocalhost(host: string): boolean {
  return /^(?:(?:.+\.)?localhost|localhost4?\.localdomain4?)\.?$/u.test(host);
}

function loopback(port: number): HostPort {
  return { host: '127.0.0.1', port };
}

/** The first free port from this one on, up or down. */
function free(from: number, step: 1 | -1, taken: ReadonlySet<number>): number {
  let port = from;
  while (taken.has(port) || port < 1024 || port > 65_535)
    port = port < 1024 || port > 65_535 ? 10_000 : port + step;
  return port;
}
