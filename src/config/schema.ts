import * as z from 'zod';

import { parseAddress } from './address.js';
import { parseCidr } from './cidr.js';
import { HEALTH_CHECK_INTERVAL_MS_MIN, LEAST_ABUSE_LIMITS, LEAST_CALL_RATE, MAX_WORKERS } from '../limits.js';
import { DEFAULTS } from './defaults.js';
import { DURATION_PATTERN, parseDuration } from './duration.js';
import { checkHost, parseHostPort } from './host-port.js';
import { parseAccount, parseMode } from './socket-settings.js';
import { parsePathPrefix } from './path-prefix.js';
import { parseRpcLogging } from './rpc-logging.js';
import { parsed, refused, type Parsed } from './parsed.js';
import { NO_RULE } from '../policy/policy.js';
import { readIdentityPattern } from '../policy/identity-pattern.js';
import { readRpcPattern } from '../policy/rpc-pattern.js';
import { duration, path, textOf, tokenBucket } from './setting-kinds.js';

/**
 * The schema of the configuration file. Each leaf parses its string into the type that the program uses, so that all invalid
 * values are found in one pass; `build.ts` validates combinations of keys. Descriptions, defaults and examples are part of
 * the JSON Schema, and messages contain the examples.
 */

const minVersion = z.enum(['TLS 1.2', 'TLS 1.3']);

const certificatePair = z
  .strictObject({
    certificate_path: path('PEM file: the certificate, then its intermediates.', 'other.pem'),
    key_path: path('PEM file: the private key of that certificate.', 'other.key'),
  })
  .meta({ description: 'A certificate and its key.' });

const tlsShape = {
  certificate_path: path(
    'PEM file: the certificate (leaf first), then its intermediates.',
    'cert.pem',
  ).optional(),
  key_path: path('PEM file: the private key of the certificate.', 'key.pem').optional(),
  min_version: minVersion
    .meta({ description: 'The lowest TLS version that is accepted.', default: DEFAULTS.minVersion })
    .optional(),
  client_auth: z
    .enum(['none', 'report', 'optional', 'require'])
    .meta({
      description:
        'Client certificates: not requested; reported (clients that `require` would refuse are admitted without an identity, counted and logged); verified if presented; or required and verified. No Gitaly client of GitLab can present one by itself.',
      default: DEFAULTS.clientAuth,
    })
    .optional(),
  client_ca_path: path(
    'The CAs that verify client certificates: a PEM file or a directory of them. Required with `client_auth`.',
    'clients-ca.pem',
  ).optional(),
  client_crl_path: path('PEM file: revocation lists of the CAs of the clients.', 'clients.crl').optional(),
  require_alpn: z
    .boolean()
    .meta({
      description:
        'For tls:// listeners: refuse clients that do not offer h2 by ALPN, as current gRPC servers do.',
      default: DEFAULTS.requireAlpn,
    })
    .optional(),
  certificates: z
    .array(certificatePair)
    .meta({ description: 'Further certificates, selected by SNI and their SANs.' })
    .optional(),
};

const proxyProtocolShape = {
  accept_from: z
    .array(
      textOf(parseCidr, {
        description: 'A network in CIDR notation or an IP address.',
        examples: ['10.0.0.0/8', '2001:db8::/32', '192.0.2.10'],
      }),
    )
    .meta({
      description: 'Connections from these networks must start with a PROXY protocol header, v1 or v2.',
    })
    .optional(),
  send: z
    .enum(['v1', 'v2'])
    .meta({ description: 'Send a PROXY protocol header of this version to the upstream.' })
    .optional(),
};

const upstreamTlsShape = {
  ca_path: path(
    'The CAs that verify the upstream: a PEM file or a directory of them. Default: SSL_CERT_FILE and SSL_CERT_DIR, otherwise the trust store of the system.',
    'ca.pem',
  ).optional(),
  certificate_path: path('PEM file: the client certificate to present.', 'client.pem').optional(),
  key_path: path('PEM file: the private key of the client certificate.', 'client.key').optional(),
  server_name: textOf(parseServerName, {
    description:
      'The name that the certificate of the upstream must have as SAN. Default: the host of the upstream.',
    examples: ['gitaly-a.internal'],
  }).optional(),
  min_version: minVersion
    .meta({ description: 'The lowest TLS version to the upstream.', default: DEFAULTS.minVersion })
    .optional(),
};

const pathPrefix = textOf(parsePathPrefix, {
  description: 'The beginning of a path.',
  examples: [...DEFAULTS.http.gatePaths],
  pattern: '^/',
});

const forwardAddress = textOf((text) => parseAddress(text, 'forward'), {
  description:
    'The upstream address: tcp://host:port or dns:host:port (plaintext), unix:/path, tls://host:port or dns+tls:host:port (TLS); for HTTP, http://host, https://host or unix:/path. If a name has several addresses, they are tried in turn.',
  examples: [
    'tcp://127.0.0.1:8075',
    'tls://gitaly.internal:9999',
    'unix:/var/opt/gitlab/gitaly/gitaly.socket',
    'http://127.0.0.1:8181',
    'https://gitlab.example.com',
  ],
  pattern:
    '^([Tt][Ll][Ss]://|[Tt][Cc][Pp]://|[Hh][Tt][Tt][Pp][Ss]?://|[Uu][Nn][Ii][Xx]:/|[Dd][Nn][Ss](\\+[Tt][Ll][Ss])?:)',
});

const gitalyAddress = forwardAddress.meta({
  description:
    'The upstream address for this name: tcp://host:port, dns:host:port, unix:/path, tls://host:port or dns+tls:host:port.',
  examples: ['tcp://10.0.0.1:8075', 'tls://gitaly.internal:9999'],
});

const serverNameKey = z.string().meta({ pattern: '^(\\*\\.)?[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*\\.?$' });

const socketShape = {
  mode: textOf(parseMode, {
    description:
      'The permission bits of the socket, octal and in quotes; clients need write permission. Default: determined by the umask.',
    examples: ['0660'],
    pattern: '^0?[0-7]{3}$',
  }).optional(),
  owner: textOf(parseAccount, {
    description: 'The user who owns the socket, by name or number. Only root may give it to another user.',
    examples: ['git'],
  }).optional(),
  group: textOf(parseAccount, {
    description:
      'The group of the socket, by name or number. Only root may set a group that the user of the proxy does not belong to.',
    examples: ['git'],
  }).optional(),
};

const identityPattern = textOf((text) => parsePattern(text, readIdentityPattern), {
  description:
    'A name in the certificate of a client: dns:, uri:, ip: (an address or a network), email:, cn: or ou:. `*` matches within a label or path segment, `**` across them. "*" alone is every client.',
  examples: ['dns:rails-*.gitlab.internal', 'uri:spiffe://corp/ns/gitlab/**', 'ip:10.0.0.0/8', '*'],
  pattern: '^(\\*$|dns:|uri:|ip:|email:|cn:|ou:)',
});

const rpcPattern = textOf((text) => parsePattern(text, readRpcPattern), {
  description:
    'RPCs: "service/Method", "service/*", "*", or all with an operation: accessor, mutator or maintenance.',
  examples: ['accessor', 'grpc.health.v1.Health/*', 'gitaly.RefService/FindTag', '*'],
  pattern: '^(\\*|accessor|mutator|maintenance|[A-Za-z_][A-Za-z0-9_.]*/([A-Za-z_][A-Za-z0-9_]*|\\*))$',
});

const ruleShape = {
  name: textOf(parseRuleName, {
    description: 'The label of the rule in metrics and messages. Default: its place, such as rules[0].',
    examples: ['rails'],
    pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$',
  }).optional(),
  identities: z
    .array(identityPattern)
    .min(1)
    .meta({
      description: 'The clients that the rule is for: those with a name that one of the patterns matches.',
      examples: [['dns:rails-*.gitlab.internal']],
    }),
  allow: z.array(rpcPattern).meta({
    description: 'The RPCs that these clients may call; empty: none.',
    examples: [['accessor', 'grpc.health.v1.Health/*']],
  }),
  max_calls: z
    .int()
    .min(1)
    .meta({ description: 'Calls in flight per identity and process. Unlimited unless set.', examples: [50] })
    .optional(),
  calls_per_second: z
    .strictObject({
      rate: z
        .number()
        .min(LEAST_CALL_RATE)
        .meta({ description: 'The refill rate, per second.', examples: [200] }),
      burst: z
        .int()
        .min(1)
        .meta({ description: 'The size of the token bucket. Default: `rate`, at least 1.', examples: [400] })
        .optional(),
    })
    .meta({
      description: 'A token bucket for the calls of each identity, per process. Unlimited unless set.',
      examples: [{ rate: 200, burst: 400 }],
    })
    .optional(),
};

const policyShape = {
  mode: z
    .enum(['enforce', 'report'])
    .meta({
      description:
        'enforce: calls that the policy denies are refused. report: they are forwarded, counted and logged.',
      default: DEFAULTS.policy.mode,
    })
    .optional(),
  rules: z
    .array(z.strictObject(ruleShape).meta({ description: 'Which clients may call which RPCs.' }))
    .min(1)
    .meta({
      description:
        'The first rule that names the client decides on its calls. The calls of a client that no rule names are refused.',
    }),
  read_only: z
    .boolean()
    .meta({
      description:
        'Refuse mutators, maintenance and unknown RPCs of all clients. Calls that have begun continue.',
      default: DEFAULTS.policy.readOnly,
    })
    .optional(),
};

const clientAllow = z
  .array(identityPattern)
  .min(1)
  .meta({
    description:
      'For tls:// and https:// listeners with `client_auth`: the clients that may connect, by the names in their certificates. Others are refused. Default: every client that `client_auth` admits.',
    examples: [['dns:*.gitlab.internal']],
  });

const upstreamMetadata = z.record(z.string().meta({ pattern: '^[a-z0-9_.-]+$' }), z.enum(['identity'])).meta({
  description:
    'Metadata to add to each call: the name of the field, and its value: `identity`, the identity of the client. A client that sends such a field itself is refused.',
  examples: [{ 'x-gitaly-client-identity': 'identity' }],
});

const listenerShape = {
  listen: textOf((text) => parseAddress(text, 'listen'), {
    description:
      'The address for clients: tls://host:port, tcp://host:port or unix:/path; for HTTP, https://host:port, http://host:port or unix:/path. Port 0 selects a free port.',
    examples: [
      'tls://0.0.0.0:9999',
      'tcp://127.0.0.1:8076',
      'unix:/run/gitaly-tls-proxy/gitaly.socket',
      'https://0.0.0.0:8443',
      'http://127.0.0.1:8180',
    ],
    pattern: '^([Tt][Ll][Ss]://|[Tt][Cc][Pp]://|[Hh][Tt][Tt][Pp][Ss]?://|[Uu][Nn][Ii][Xx]:/)',
  }),
  forward: forwardAddress.optional(),
  forward_by_server_name: z
    .record(serverNameKey, gitalyAddress)
    .meta({
      description:
        'Instead of `forward`, for tls:// listeners: the upstream address for each server name (SNI). A leading *. (in quotes) matches one label. `default` is for all other names and for clients that send no name; without it they are refused.',
      examples: [{ 'gitaly-a.internal': 'tcp://10.0.0.1:8075', default: 'tcp://10.0.0.9:8075' }],
    })
    .optional(),
  tls: z
    .strictObject(tlsShape)
    .meta({ description: 'Overrides of the top-level `tls`, key by key, for this listener.' })
    .optional(),
  socket: z
    .strictObject(socketShape)
    .meta({ description: 'For unix: listeners: the access to the socket.' })
    .optional(),
  inspect: z
    .union([z.boolean(), z.literal('required')], { error: 'expected true, false or "required"' })
    .meta({
      description:
        'Follow the calls on its connections, for the metrics and the log of RPCs, and close connections that exceed an abuse limit. Bytes are never changed. `required` also closes connections whose calls cannot be followed.',
      default: DEFAULTS.inspect,
      examples: [true, false, 'required'],
    })
    .optional(),
  client_allow: clientAllow.optional(),
  policy: z
    .strictObject(policyShape)
    .meta({
      description:
        'For tls:// listeners: which clients may call which RPCs. Connections whose calls cannot be followed are closed, as with `inspect: required`.',
    })
    .optional(),
  upstream_token_path: path(
    'A file with the token of Gitaly, which is added to calls that have no `authorization`.',
    'gitaly.token',
  ).optional(),
  upstream_metadata: upstreamMetadata.optional(),
  proxy_protocol: z
    .strictObject(proxyProtocolShape)
    .meta({
      description: 'PROXY protocol, which passes the address of the client through TCP load balancers.',
    })
    .optional(),
  upstream_tls: z
    .strictObject(upstreamTlsShape)
    .meta({
      description: 'TLS to a tls:// or https:// upstream: its verification, and the client certificate.',
    })
    .optional(),
  paths: z
    .array(pathPrefix)
    .min(1)
    .meta({
      description:
        'For https:// and http:// listeners: prefixes of the allowed request paths; other requests get 404. Default for https://: /api/v4/internal/, for others: every path.',
      examples: [[...DEFAULTS.http.gatePaths]],
    })
    .optional(),
  client_certificate_headers: z
    .boolean()
    .meta({
      description:
        'For https:// listeners: forward the verified certificate of the client to the upstream in X-SSL-Client-* headers.',
      default: DEFAULTS.http.clientCertificateHeaders,
    })
    .optional(),
};

const adminHost = textOf(parseAdminHost, {
  description: 'A host name. A leading *. (in quotes) matches one label.',
  examples: ['gitaly-a.internal', '*.gitlab.svc.cluster.local'],
});

const abuseLimitsShape = {
  resets: tokenBucket(
    'RST_STREAM within 100 ms of the start of a call that Gitaly has not begun to answer, and those that Gitaly sends for an error of the client.',
    DEFAULTS.abuseLimits.resets,
    LEAST_ABUSE_LIMITS.resets,
  ).optional(),
  late_resets: tokenBucket(
    'RST_STREAM of calls that are older, or that Gitaly has begun to answer.',
    DEFAULTS.abuseLimits.lateResets,
    LEAST_ABUSE_LIMITS.lateResets,
  ).optional(),
  control_frames: tokenBucket(
    'PING and SETTINGS. DATA of Gitaly adds tokens.',
    DEFAULTS.abuseLimits.controlFrames,
    LEAST_ABUSE_LIMITS.controlFrames,
  ).optional(),
  small_frames: tokenBucket(
    'Frames without content, of HTTP/2 (WINDOW_UPDATE, PRIORITY, empty DATA) and of yamux. DATA of Gitaly adds tokens.',
    DEFAULTS.abuseLimits.smallFrames,
    LEAST_ABUSE_LIMITS.smallFrames,
  ).optional(),
  oversized_headers: tokenBucket(
    'Calls whose header list is larger than `header_list_bytes`, or more than 64 times as large as its encoding.',
    DEFAULTS.abuseLimits.oversizedHeaders,
    LEAST_ABUSE_LIMITS.oversizedHeaders,
  ).optional(),
  header_list_bytes: z
    .int()
    .min(LEAST_ABUSE_LIMITS.headerListBytes)
    .meta({
      description: 'The size of the metadata of a call, as RFC 7541 defines it: 32 bytes per field included.',
      default: DEFAULTS.abuseLimits.headerListBytes,
      examples: [DEFAULTS.abuseLimits.headerListBytes],
    })
    .optional(),
  calls_per_connection: z
    .int()
    .min(LEAST_ABUSE_LIMITS.callsPerConnection)
    .meta({
      description: 'Open calls on one connection, including those inside a backchannel.',
      default: DEFAULTS.abuseLimits.callsPerConnection,
      examples: [DEFAULTS.abuseLimits.callsPerConnection],
    })
    .optional(),
};

const rootShape = {
  tls: z
    .strictObject(tlsShape)
    .meta({ description: 'TLS towards clients: the default for every tls:// and https:// listener.' })
    .optional(),
  listeners: z
    .array(
      z.strictObject(listenerShape).meta({
        description: 'One pair of addresses.',
        oneOf: [{ required: ['forward'] }, { required: ['forward_by_server_name'] }],
      }),
    )
    .min(1)
    .meta({ description: 'Pairs of addresses: connections to `listen` are relayed to `forward`.' }),
  prometheus_listen_addr: textOf(parsePrometheusAddress, {
    description:
      'host:port of the admin port, which serves /metrics, /-/liveness, /-/readiness, /-/connections, /-/rpcs and /-/policy. Disabled unless set.',
    examples: ['127.0.0.1:9237'],
  }).optional(),
  admin_hosts: z
    .array(adminHost)
    .meta({
      description:
        'Further host names that clients, such as Prometheus, may use for the admin port. IP addresses, localhost, the host of prometheus_listen_addr and the host name of the machine are always accepted; requests for other names are refused, because web pages can make them (DNS rebinding).',
      examples: [['gitaly-a.internal']],
    })
    .optional(),
  workers: z
    .union([z.literal('auto'), z.int().min(1).max(MAX_WORKERS)])
    .meta({
      description:
        'Processes that serve connections: a number, or auto for one per core. A process uses one core. Changes require a restart.',
      default: DEFAULTS.workers,
      examples: ['auto', 2],
    })
    .optional(),
  graceful_restart_timeout: duration(
    'Maximum duration of a drain after SIGTERM. Connections that are still open are then reset.',
    DEFAULTS.gracefulRestartTimeout,
  ).optional(),
  logging: z
    .strictObject({
      level: z
        .enum(['debug', 'info', 'warn', 'error'])
        .meta({ description: 'The lowest level that is logged.', default: DEFAULTS.logging.level })
        .optional(),
      format: z
        .enum(['json', 'text'])
        .meta({ description: 'json, or text for a terminal.', default: DEFAULTS.logging.format })
        .optional(),
      rpc: textOf(parseRpcLogging, {
        description:
          'The calls that are logged: all, failed, those slower than a duration (and the failed ones), or none. Successful health checks are never logged.',
        default: DEFAULTS.logging.rpc,
        examples: ['failed', 'all', 'slow:1s', 'none'],
        pattern: '^(all|failed|none|slow:.+)$',
      }).optional(),
      rpc_sampling: z
        .number()
        .min(0)
        .max(1)
        .meta({
          description: 'With `rpc: all`, the share of successful calls that is logged.',
          default: DEFAULTS.logging.rpcSampling,
          examples: [0.01],
        })
        .optional(),
    })
    .meta({ description: 'The log, which is written to stdout.' })
    .optional(),
  timeouts: z
    .strictObject({
      handshake: duration(
        'TLS handshake and PROXY header of a client.',
        DEFAULTS.timeouts.handshake,
      ).optional(),
      preface: duration(
        'From the end of the handshake to the first bytes that identify the protocol; also the time for a header block of HTTP/2.',
        DEFAULTS.timeouts.preface,
      ).optional(),
      dial: duration(
        'Connecting to the upstream, including its TLS handshake; then, for an HTTP/2 client, waiting for the first bytes of the upstream.',
        DEFAULTS.timeouts.dial,
      ).optional(),
      half_close: duration(
        'How long one direction may stay open after the other has ended.',
        DEFAULTS.timeouts.half_close,
      ).optional(),
      write_stall: duration(
        'How long a peer may stop reading its socket while data is queued for it.',
        DEFAULTS.timeouts.write_stall,
      ).optional(),
      idle: duration(
        'How long a connection may be without a byte in either direction.',
        DEFAULTS.timeouts.idle,
      ).optional(),
    })
    .meta({
      description: 'Timeouts. None of them limits the total duration: long clones are never interrupted.',
    })
    .optional(),
  max_connections: z
    .int()
    .min(1)
    .meta({
      description: 'Open connections per listener. Further connections are closed immediately and counted.',
      default: DEFAULTS.maxConnections,
      examples: [DEFAULTS.maxConnections],
    })
    .optional(),
  max_unauthenticated_connections: z
    .int()
    .min(1)
    .meta({
      description:
        'Maximum number of `max_connections` per listener that may be unauthenticated: without a verified client certificate, and without a response of the upstream to a call or request. A new one replaces the oldest that is older than a second, or is closed immediately; both are counted. Default: half of `max_connections`.',
      examples: [DEFAULTS.maxConnections / 2],
    })
    .optional(),
  max_connections_per_source: z
    .int()
    .min(1)
    .meta({
      description:
        'Open connections per listener and source address, which is that of the PROXY header if present. Further connections are closed and counted. Unlimited unless set.',
      examples: [100],
    })
    .optional(),
  abuse_limits: z
    .strictObject(abuseLimitsShape)
    .meta({
      description:
        'Limits on each inspected client connection. A connection that exceeds one is closed, and the log has the name of the limit. Each token bucket has a burst and a refill rate per second.',
      examples: [{ resets: { rate: 100, burst: 5000 } }],
    })
    .optional(),
  rpcs_path: path(
    'A table of RPCs, tab-separated, as `gitaly-tls-proxy rpcs` writes it: its rows are added to the built-in table, or replace them. Read at startup and on SIGHUP.',
    'gitaly-rpcs.tsv',
  ).optional(),
  audit_log_path: path(
    'A file to which one line is appended for each mutating call and each refusal.',
    '/var/log/gitaly-tls-proxy/audit.log',
  ).optional(),
  audit_required: z
    .boolean()
    .meta({
      description: 'Refuse mutators while lines cannot be written to `audit_log_path`.',
      default: DEFAULTS.auditRequired,
    })
    .optional(),
  health_check_interval: textOf(parseHealthCheckInterval, {
    description:
      'Interval of health checks, for upstream_up and the log: gRPC health checks, or connection attempts for HTTP upstreams. Disabled unless set.',
    examples: ['15s'],
    pattern: DURATION_PATTERN,
  }).optional(),
  health_check_token_path: path(
    'A file with the token of Gitaly, which signs health checks. Without it, an upstream that refuses unsigned health checks counts as up.',
    'gitaly-token',
  ).optional(),
  readiness_requires_upstream: z
    .boolean()
    .meta({
      description:
        'Report not ready while no upstream is up. By default, readiness does not depend on upstreams, and clients get an error that Gitaly is down.',
      default: DEFAULTS.readinessRequiresUpstream,
    })
    .optional(),
  max_connection_age: textOf(parseDuration, {
    description:
      'Drain connections at this age, plus or minus a tenth: HTTP/2 clients receive a GOAWAY and reconnect, so that a load balancer distributes them again; open calls finish. Disabled unless set.',
    examples: ['30m'],
    pattern: DURATION_PATTERN,
  }).optional(),
  max_connection_age_grace: textOf(parseDuration, {
    description:
      'How long the calls of a connection may continue after `max_connection_age`; then it is reset. Unlimited unless set. A client that ignores GOAWAY can start calls for half of this time, at most 10 s.',
    examples: ['6h'],
    pattern: DURATION_PATTERN,
  }).optional(),
};

/** The schema of a valid file. */
export const settingsSchema = z.strictObject(rootShape).meta({ title: 'Configuration of gitaly-tls-proxy' });

/**
 * The schema of a file without its invalid values, so that the rest can still be validated: required keys and array elements
 * may be absent.
 */
export const draftSchema = z.strictObject({
  ...rootShape,
  tls: z.strictObject(draftTlsShape()).optional(),
  listeners: z
    .array(
      z
        .strictObject({ ...listenerShape, tls: z.strictObject(draftTlsShape()).optional() })
        .partial({ listen: true })
        .extend({
          forward_by_server_name: z.record(z.string(), gitalyAddress.optional()).optional(),
          proxy_protocol: z.strictObject(draftProxyProtocolShape()).optional(),
          paths: z.array(pathPrefix.optional()).optional(),
          client_allow: z.array(identityPattern.optional()).optional(),
          policy: z.strictObject(draftPolicyShape()).optional(),
          upstream_metadata: z.record(z.string(), upstreamMetadata.valueType.optional()).optional(),
        })
        .optional(),
    )
    .optional(),
  admin_hosts: z.array(adminHost.optional()).optional(),
});

/** The valid parts of a file. */
export type Draft = z.output<typeof draftSchema>;
export type DraftListener = NonNullable<NonNullable<Draft['listeners']>[number]>;
export type DraftTls = NonNullable<Draft['tls']>;

function draftTlsShape() {
  return { ...tlsShape, certificates: z.array(certificatePair.partial().optional()).optional() };
}

function draftProxyProtocolShape() {
  return {
    ...proxyProtocolShape,
    accept_from: z.array(proxyProtocolShape.accept_from.unwrap().element.optional()).optional(),
  };
}

function draftPolicyShape() {
  const rule = z.strictObject({
    ...ruleShape,
    identities: z.array(identityPattern.optional()).optional(),
    allow: z.array(rpcPattern.optional()).optional(),
    calls_per_second: ruleShape.calls_per_second.unwrap().partial().optional(),
  });
  return { ...policyShape, rules: z.array(rule.optional()).optional() };
}

/** Validates a pattern. Its text is kept, because the configuration consists of plain values. */
function parsePattern(text: string, read: (text: string) => object | string): Parsed<string> {
  const pattern = read(text);
  return typeof pattern === 'string' ? refused(pattern) : parsed(text);
}

function parseRuleName(text: string): Parsed<string> {
  if (text === NO_RULE)
    return refused(`\`${NO_RULE}\` is the label of clients that no rule names: choose another`);
  if (/^[A-Za-z0-9][\w.-]{0,62}$/u.test(text)) return parsed(text);
  return refused('expected at most 63 letters, digits, "-", "_" and ".", such as "rails"');
}

function parseHealthCheckInterval(text: string): Parsed<number> {
  const interval = parseDuration(text);
  if (!interval.ok || interval.value >= HEALTH_CHECK_INTERVAL_MS_MIN) return interval;
  return refused(`must be at least ${HEALTH_CHECK_INTERVAL_MS_MIN}ms, for example "15s"`);
}

function parseServerName(text: string): Parsed<string> {
  const message = checkHost(text);
  return message === undefined ? parsed(text.toLowerCase().replace(/\.$/u, '')) : refused(message);
}

function parsePrometheusAddress(text: string): Parsed<{ host: string; port: number }> {
  if (/^[a-z]+:\/\//iu.test(text))
    return refused('expected host:port without a scheme, for example 127.0.0.1:9237');
  return parseHostPort(text, { prefix: '', usualPort: 9237, allowPortZero: true, allowEmptyHost: true });
}

function parseAdminHost(text: string): Parsed<string> {
  const withoutPort = /^([^:]+):\d*$/u.exec(text)?.[1];
  if (withoutPort !== undefined) return refused(`a host name must not have a port: write ${withoutPort}`);
  if (checkHost(text.replace(/^\*\./u, '')) !== undefined)
    return refused('expected a host name such as gitaly-a.internal or "*.gitlab.svc.cluster.local"');
  return parsed(text.toLowerCase().replace(/\.$/u, ''));
}
