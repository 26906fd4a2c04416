/** The configuration as the rest of the program sees it: complete, validated, with defaults filled in. */

import type { AbuseLimits } from '../inspect/abuse-limits.js';
import type { PolicySettings } from '../policy/policy.js';
import type { Rpc } from '../policy/rpc-table.js';

/** The location of a setting: the keys from the root of the file (`['listeners', 0, 'listen']`), or the flag (`['--cert']`). */
export type KeyPath = readonly (string | number)[];

/** A problem with the configuration, for the operator. */
export interface Problem {
  readonly severity: 'error' | 'warning';
  readonly key: KeyPath;
  /** The problem and its fix. */
  readonly message: string;
  /** The invalid value as written, unless it is absent or a secret. */
  readonly value?: unknown;
  /** The line in the file, for syntax errors. For other problems, `locate` of the load result finds it by the key. */
  readonly line?: number;
  /** The problem is that a certificate or CRL is out of date. A running proxy logs this separately. */
  readonly isAboutDates?: true;
}

/** An absolute path from the configuration, and its setting. */
export interface FileSetting {
  readonly path: string;
  readonly key: KeyPath;
}

/** An address in Gitaly's syntax. `url` is its normalised form, used as metric label and in the log. */
export type Address = NetworkAddress | UnixAddress;

export interface NetworkAddress {
  readonly scheme: 'tls' | 'tcp' | 'https' | 'http';
  /** A host name or an IP address, IPv6 without brackets. */
  readonly host: string;
  /** 0 to 65535; 0 only for listening. */
  readonly port: number;
  readonly url: string;
}

export interface UnixAddress {
  readonly scheme: 'unix';
  readonly path: string;
  readonly url: string;
}

export interface HostPort {
  /** IPv6 without brackets. Empty for every interface (`":9237"`), as in `server.listen`. */
  readonly host: string;
  readonly port: number;
}

/** `report`: a client that `require` would refuse is admitted without an identity. */
export type ClientAuth = 'none' | 'report' | 'optional' | 'require';
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

/** The TLS settings of a `tls://` or `https://` listener. */
export interface ServerTls {
  /** The first is the default; the others are selected by SNI. Never empty. */
  readonly certificates: readonly CertificatePair[];
  readonly minVersion: TlsVersion;
  readonly clientAuth: ClientAuth;
  /** Set if and only if `clientAuth` is not `none`. */
  readonly clientCa: TrustSource | undefined;
  readonly clientCrl: FileSetting | undefined;
  readonly requireAlpn: boolean;
  /** The protocols that can be selected by ALPN, in order of preference. */
  readonly protocols: readonly ApplicationProtocol[];
}

/** The protocol inside TLS, by its ALPN name (RFC 7301, and IANA's registry). */
export type ApplicationProtocol = 'h2' | 'http/1.1';

/** The TLS settings for a `tls://` or `https://` upstream. */
export interface UpstreamTls {
  /** `undefined`: the system's trust store. */
  readonly ca: TrustSource | undefined;
  readonly certificate: CertificatePair | undefined;
  /**
   * The name that the certificate must have as SAN, also sent as SNI unless it is an IP address; `undefined`: the host of the
   * dialled address.
   */
  readonly serverName: string | undefined;
  readonly minVersion: TlsVersion;
  /** The protocol offered by ALPN. An upstream must select `h2`; for `http/1.1`, it need not support ALPN. */
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
  /** Measured from accept. It varies by a tenth per connection, so that they do not all reconnect at once. */
  readonly ageMs: number;
  /** The time for its calls to end after that; then the connection is reset. `undefined`: unlimited. */
  readonly graceMs: number | undefined;
}

export interface ProxyProtocol {
  /** Networks in CIDR notation whose connections must start with a PROXY header. */
  readonly acceptFrom: readonly string[];
  /** The version of the header sent to the upstream. */
  readonly send: 'v1' | 'v2' | undefined;
}

/** The settings of a listener that forwards HTTP. */
export interface HttpSettings {
  /** A request's path must begin with one of these; `undefined`: all paths are allowed. */
  readonly paths: readonly string[] | undefined;
  /** Whether the client's certificate is forwarded to the upstream in headers. */
  readonly clientCertificateHeaders: boolean;
}

/** An entry of `forward_by_server_name`. */
export interface ServerNameRoute {
  readonly key: KeyPath;
  /** In lower case, without a trailing dot. A leading `*.` matches any one label. */
  readonly name: string;
  readonly upstream: Address;
}

/** The upstreams of a listener. A plain `forward` is a `fallback` without routes. */
export interface Forwarding {
  /** By the server name (SNI) of the client; the names are distinct. Empty if the listener is not `tls`. */
  readonly routes: readonly ServerNameRoute[];
  /** The upstream of all other clients; `undefined`: they are refused. Always set if `routes` is empty. */
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
  /** The limit on unauthenticated clients among them. */
  readonly maxUnauthenticatedConnections: number;
  /** The limit per source address; `undefined`: unlimited. */
  readonly maxConnectionsPerSource: number | undefined;
}

/** A field that is added to the metadata of each call. */
export interface AddedField {
  /** Lower case. */
  readonly name: string;
  readonly value: 'identity';
}

export interface ListenerConfiguration extends ConnectionLimits {
  /** The location of the listener in the file: `['listeners', 0]`, or `['--listen']` for flags. */
  readonly key: KeyPath;
  readonly listen: Address;
  readonly forwarding: Forwarding;
  /** Set only if `listen` is `unix`. */
  readonly socket: SocketSettings | undefined;
  /** Set if and only if `listen` is `tls` or `https`. */
  readonly tls: ServerTls | undefined;
  /** Set if and only if an upstream is `tls` or `https`; applies to all such upstreams. */
  readonly upstreamTls: UpstreamTls | undefined;
  /** Set if and only if the listener forwards HTTP: `listen` or `forward` is `https` or `http`. */
  readonly http: HttpSettings | undefined;
  readonly proxyProtocol: ProxyProtocol;
  readonly timeouts: Timeouts;
  /** The age at which a connection is drained; `undefined`: never. */
  readonly maxConnectionAge: MaxConnectionAge | undefined;
  /** The limits on one inspected connection. */
  readonly abuseLimits: AbuseLimits;
  /** Patterns of the identities that may connect; `undefined`: all clients that `clientAuth` admits. */
  readonly clientAllow: readonly string[] | undefined;
  /** Set only if calls are followed and clients may have identities; `undefined`: every call is forwarded. */
  readonly policy: PolicySettings | undefined;
  /** The file with Gitaly's token for calls that have none; set only if calls are followed. */
  readonly upstreamToken: FileSetting | undefined;
  /** Empty unless calls are followed. The names are distinct. */
  readonly upstreamMetadata: readonly AddedField[];
  /** Whether the calls on its connections are followed; `required`: a connection whose calls cannot be followed is closed. */
  readonly inspect: Inspect;
}

/** Which calls have a line in the log. */
export interface RpcLogging {
  /** `failed`: calls that ended with a code other than OK; `slow`: these, and calls that took `slowMs` or longer. */
  readonly which: 'all' | 'failed' | 'slow' | 'none';
  /** Milliseconds; only used with `slow`. */
  readonly slowMs: number;
  /** With `all`, the share of successful calls that are logged: 0 to 1. */
  readonly sampling: number;
}

/** The settings of periodic health checks of the upstreams. */
export interface HealthChecks {
  /** Milliseconds from the start of one check to the start of the next. */
  readonly intervalMs: number;
  /** The file with Gitaly's token; `undefined`: no token is sent. */
  readonly token: FileSetting | undefined;
  /** Whether the proxy is not ready while none of its upstreams is up. */
  readonly readinessRequiresUpstream: boolean;
}

/** The audit log. */
export interface AuditSettings {
  readonly log: FileSetting;
  /** Whether mutators are refused while lines cannot be written. */
  readonly isRequired: boolean;
}

export interface Logging {
  readonly level: LogLevel;
  readonly format: LogFormat;
  readonly rpc: RpcLogging;
}

export interface Configuration {
  /** Never empty. The `listen` addresses are distinct, except with port 0. */
  readonly listeners: readonly ListenerConfiguration[];
  readonly prometheusListenAddr: HostPort | undefined;
  /** Host names that clients of the admin port may use, in lower case; a leading `*.` matches any one label. */
  readonly adminHosts: readonly string[];
  /** The number of processes that serve connections; with 1, the main process does. */
  readonly workers: number;
  readonly gracefulRestartTimeoutMs: number;
  /** The RPCs of `rpcs_path`, in addition to the built-in ones, or instead of them. */
  readonly rpcs: readonly Rpc[];
  /** `undefined`: no audit log is written. */
  readonly audit: AuditSettings | undefined;
  /** `undefined`: upstreams are not checked. */
  readonly healthChecks: HealthChecks | undefined;
  readonly logging: Logging;
}
