/** The configuration as the rest of the program sees it: complete, validated, with defaults filled in. */

import type { AbuseLimits } from '../inspect/abuse-limits.js';

/** Where a setting stands: the keys from the root of the file (`['listeners', 0, 'listen']`), or the flag (`['--cert']`). */
export type KeyPath = readonly (string | number)[];

/** One thing wrong with the configuration, in words for the operator. */
export interface Problem {
  readonly severity: 'error' | 'warning';
  readonly key: KeyPath;
  /** What is wrong and what would be right. */
  readonly message: string;
  /** The offending value as written, where there is one and it is no secret. */
  readonly value?: unknown;
  /** The line in the file where the key does not tell it: syntax errors. `locate` of the load result knows the others. */
  readonly line?: number;
  /** A certificate or CRL is out of date; while the proxy runs, it logs this itself. */
  readonly isAboutDates?: true;
}

/** A path from the configuration, absolute, and the setting that named it. */
export interface FileSetting {
  readonly path: string;
  readonly key: KeyPath;
}

/** An address as Gitaly writes them. `url` is the normalised text, used as metric label and in the log. */
export type Address = NetworkAddress | UnixAddress;

export interface NetworkAddress {
  readonly scheme: 'tls' | 'tcp' | 'https' | 'http';
  /** A host name or an IP address, IPv6 without brackets. */
  readonly host: string;
  /** 0 to 65535; 0 only where it is listened on. */
  readonly port: number;
  readonly url: string;
}

export interface UnixAddress {
  readonly scheme: 'unix';
  readonly path: string;
  readonly url: string;
}

export interface HostPort {
  /** IPv6 without brackets. Empty for every interface (`":9237"`), as `server.listen` understands it. */
  readonly host: string;
  readonly port: number;
}

export type ClientAuth = 'none' | 'optional' | 'require';
export type TlsVersion = 'TLSv1.2' | 'TLSv1.3';
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFormat = 'json' | 'text';

/** Certificate authorities to trust: all PEM certificates of these files and of all files in these directories. */
export interface TrustSource {
  readonly files: readonly FileSetting[];
  readonly directories: readonly FileSetting[];
}

export interface CertificatePair {
  readonly certificate: FileSetting;
  readonly key: FileSetting;
}

/** How a `tls://` or `https://` listener does TLS. */
export interface ServerTls {
  /** The first is the default; the others are chosen by SNI. Never empty. */
  readonly certificates: readonly CertificatePair[];
  readonly minVersion: TlsVersion;
  readonly clientAuth: ClientAuth;
  /** Set if and only if `clientAuth` is not `none`. */
  readonly clientCa: TrustSource | undefined;
  readonly clientCrl: FileSetting | undefined;
  readonly requireAlpn: boolean;
  /** What is selected by ALPN, the best first. */
  readonly protocols: readonly ApplicationProtocol[];
}

/** What is spoken inside TLS, by its name in ALPN (RFC 7301, and IANA's registry). */
export type ApplicationProtocol = 'h2' | 'http/1.1';

/** How a `tls://` or `https://` upstream is reached. */
export interface UpstreamTls {
  /** `undefined`: the system's trust store. */
  readonly ca: TrustSource | undefined;
  readonly certificate: CertificatePair | undefined;
  /**
   * The name that the certificate must hold as SAN, and the SNI sent (not for IP addresses); `undefined`: the host of the
   * address that is dialled.
   */
  readonly serverName: string | undefined;
  readonly minVersion: TlsVersion;
  /** What is asked for by ALPN. An upstream must select `h2`; one that knows no ALPN speaks `http/1.1`. */
  readonly protocol: ApplicationProtocol;
}

/** Milliseconds, all above 0. */
export interface Timeouts {
  readonly handshakeMs: number;
  readonly prefaceMs: number;
  readonly dialMs: number;
  readonly halfCloseMs: number;
  readonly writeStallMs: number;
  readonly idleMs: number;
}

/** Milliseconds. */
export interface MaxConnectionAge {
  /** From accept; each connection has a tenth more or less, so that not all leave at once. */
  readonly ageMs: number;
  /** How long its calls may take to end then; after it the connection is cut. `undefined`: as long as they need. */
  readonly graceMs: number | undefined;
}

export interface ProxyProtocol {
  /** Networks in CIDR notation whose connections must start with a PROXY header. */
  readonly acceptFrom: readonly string[];
  /** The version of the header sent to upstream. */
  readonly send: 'v1' | 'v2' | undefined;
}

/** What is particular to a pair that speaks HTTP. */
export interface HttpSettings {
  /** A request's path must begin with one of these; `undefined`: all paths are let through. */
  readonly paths: readonly string[] | undefined;
  /** Whether upstream is told of the client's certificate. */
  readonly clientCertificateHeaders: boolean;
}

/** Where the clients of one `forward_by_server_name` entry go. */
export interface ServerNameRoute {
  readonly key: KeyPath;
  /** In lower case, without a dot at its end. With `*.` at the start it stands for every name with one label there. */
  readonly name: string;
  readonly upstream: Address;
}

/** Which upstream a client goes to. A plain `forward` is a `fallback` without routes. */
export interface Forwarding {
  /** By the name that the client asks for (SNI); the names differ. Empty where the listener is not `tls`. */
  readonly routes: readonly ServerNameRoute[];
  /** Where all other clients go; `undefined`: they are refused. Set where there is no route. */
  readonly fallback: Address | undefined;
}

/** Whether calls are inspected. */
export type Inspect = 'off' | 'on' | 'required';

/** The access to a `unix:` listener; undefined settings keep the system's default. */
export interface SocketSettings {
  readonly key: KeyPath;
  /** Permission bits. */
  readonly mode: number | undefined;
  /** A name or a number. */
  readonly owner: string | undefined;
  readonly group: string | undefined;
}

/** The limits on a listener's open connections. */
export interface ConnectionLimits {
  readonly maxConnections: number;
  /** How many of them may belong to unauthenticated clients. */
  readonly maxUnauthenticatedConnections: number;
  /** The limit per source address; `undefined`: unlimited. */
  readonly maxConnectionsPerSource: number | undefined;
}

export interface ListenerConfiguration extends ConnectionLimits {
  /** Where the listener stands in the file: `['listeners', 0]`, or `['--listen']` for flags. */
  readonly key: KeyPath;
  readonly listen: Address;
  readonly forwarding: Forwarding;
  /** Set only where `listen` is `unix`. */
  readonly socket: SocketSettings | undefined;
  /** Set if and only if `listen` is `tls` or `https`. */
  readonly tls: ServerTls | undefined;
  /** Set if and only if an upstream is `tls` or `https`; for all of them that are. */
  readonly upstreamTls: UpstreamTls | undefined;
  /** Set if and only if HTTP is what passes: `listen` or `forward` is `https` or `http`. */
  readonly http: HttpSettings | undefined;
  readonly proxyProtocol: ProxyProtocol;
  readonly timeouts: Timeouts;
  /** When a connection is drained by itself; `undefined`: never. */
  readonly maxConnectionAge: MaxConnectionAge | undefined;
  /** What one connection may do while it is inspected. */
  readonly abuseLimits: AbuseLimits;
  /** Whether the calls on its connections are followed; `required`: a connection whose calls cannot be followed is closed. */
  readonly inspect: Inspect;
}

/** Which calls have a line in the log. */
export interface RpcLogging {
  /** `failed`: those that ended with another code than OK; `slow`: these, and those that took `slowMs` or longer. */
  readonly which: 'all' | 'failed' | 'slow' | 'none';
  /** Milliseconds; of meaning with `slow` alone. */
  readonly slowMs: number;
  /** With `all`, the share of successful calls that are logged: 0 to 1. */
  readonly sampling: number;
}

/** Health checks of the upstreams, which the proxy makes by itself. */
export interface HealthChecks {
  /** Milliseconds, from the beginning of one to that of the next. */
  readonly intervalMs: number;
  /** What holds Gitaly's token; `undefined`: none is sent. */
  readonly token: FileSetting | undefined;
  /** Whether the proxy is not ready while none of its upstreams is up. */
  readonly readinessRequiresUpstream: boolean;
}

export interface Logging {
  readonly level: LogLevel;
  readonly format: LogFormat;
  readonly rpc: RpcLogging;
}

export interface Configuration {
  /** Never empty; their `listen` addresses differ (but for port 0). */
  readonly listeners: readonly ListenerConfiguration[];
  readonly prometheusListenAddr: HostPort | undefined;
  /** Host names that clients of the admin port may use, in lower case; a leading `*.` matches any one label. */
  readonly adminHosts: readonly string[];
  /** Processes that serve connections; with 1 it is the program's own. */
  readonly workers: number;
  readonly gracefulRestartTimeoutMs: number;
  /** `undefined`: upstreams are not checked. */
  readonly healthChecks: HealthChecks | undefined;
  readonly logging: Logging;
}
