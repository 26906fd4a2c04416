import type { LogLevel } from '../config/model.js';
import type { CloseReason } from '../connection/connection-end.js';
import type { DropReason } from '../connection/connection-events.js';
import type { StatusCode } from '../inspect/grpc/grpc-status.js';
import { MAX_LEFT_OUT_SOURCES, UNAUTHENTICATED_LINES } from '../limits.js';

/** A field of log lines: the type and the meaning of its value. */
interface FieldDefinition {
  readonly type: 'string' | 'number' | 'boolean';
  readonly meaning: string;
}

/** Every field of a log line except `level`, `time`, `event` and `msg`. A name has the same meaning in all events. */
export const LOG_FIELDS = {
  error: { type: 'string', meaning: 'what happened' },
  fix: { type: 'string', meaning: 'what to do about it' },
  listener: {
    type: 'string',
    meaning: '`listen` of the listener, as configured; `prometheus_listen_addr` for the admin port',
  },
  upstream: { type: 'string', meaning: 'the address that the listener forwards to' },
  result: { type: 'string', meaning: 'a result of `tls_client_certificates_total`, without `would_refuse_`' },
  listen: { type: 'string', meaning: 'the bound address, with its port' },
  addresses: { type: 'string', meaning: 'all bound addresses, if `listen` has a host name' },
  forward: { type: 'string', meaning: 'the address or addresses that connections are forwarded to' },
  inherited: { type: 'boolean', meaning: 'the socket comes from systemd' },
  connections: { type: 'number', meaning: 'number of connections' },
  count: { type: 'number', meaning: 'occurrences since the previous line of this kind' },
  lines: { type: 'number', meaning: 'number of log lines that are missing' },
  reasons: { type: 'string', meaning: 'number of missing lines by reason' },
  sources: {
    type: 'number',
    meaning: `number of addresses that caused them, ${MAX_LEFT_OUT_SOURCES} at most`,
  },
  signal: { type: 'string', meaning: 'name of the signal' },
  variable: { type: 'string', meaning: 'name of the environment variable' },
  worker: { type: 'number', meaning: 'number of the worker, from 1' },
  pid: { type: 'number', meaning: 'process id' },
  reason: {
    type: 'string',
    meaning: 'a reason of `upstream_connect_failures_total`, or why the check failed',
  },
  role: { type: 'string', meaning: 'use of the certificate or CRL, as in the metric `tls_out_of_date`' },
  file: { type: 'string', meaning: 'path of the certificate, CRL or audit log' },
  'peer.address': { type: 'string', meaning: 'the client; from the PROXY header, if there is one' },
  'peer.via': { type: 'string', meaning: 'the load balancer, if a PROXY header names another client' },
  'peer.identity': { type: 'string', meaning: 'the name in the verified client certificate' },
  protocol: { type: 'string', meaning: '`http2`, `backchannel`, `http1` or `unknown`' },
  direction: { type: 'string', meaning: '`to_upstream`, or `to_client` for a call of Gitaly' },
  server_name: { type: 'string', meaning: 'the name in the TLS handshake (SNI)' },
  'tls.version': { type: 'string', meaning: 'TLS version' },
  'tls.cipher': { type: 'string', meaning: 'cipher suite' },
  'tls.resumed': { type: 'boolean', meaning: 'whether the TLS session was resumed' },
  'bytes.to_upstream': { type: 'number', meaning: 'plaintext bytes from the client' },
  'bytes.to_client': { type: 'number', meaning: 'plaintext bytes from upstream' },
  duration_ms: { type: 'number', meaning: 'time since the connection was accepted' },
  'close.reason': {
    type: 'string',
    meaning: 'a reason of `connections_closed_total` or `connections_dropped_total`',
  },
  'close.initiator': { type: 'string', meaning: '`client`, `upstream` or `proxy`' },
  'close.detail': { type: 'string', meaning: 'the problem in detail' },
  'close.advice': { type: 'string', meaning: 'the fix for this problem; it replaces `fix`' },
  'inspection.reason': { type: 'string', meaning: 'a reason of `inspector_lost_total`' },
  'grpc.service': { type: 'string', meaning: 'service of the call' },
  'grpc.method': { type: 'string', meaning: 'method of the call' },
  'grpc.method_type': {
    type: 'string',
    meaning: '`unary`, `client_stream`, `server_stream`, `bidi_stream` or `unknown`',
  },
  'grpc.method_operation': {
    type: 'string',
    meaning: '`accessor`, `mutator`, `maintenance`, `none` or `unknown`',
  },
  'grpc.code': { type: 'string', meaning: 'status of the call' },
  'grpc.ended_by': {
    type: 'string',
    meaning: 'who ended the call: `client`, `server`, `proxy` (it was refused) or `connection`',
  },
  'grpc.time_ms': { type: 'number', meaning: 'duration of the call' },
  'grpc.request.payload_bytes': { type: 'number', meaning: 'bytes of the request messages' },
  'grpc.response.payload_bytes': { type: 'number', meaning: 'bytes of the response messages' },
  'grpc.request.messages': { type: 'number', meaning: 'number of request messages' },
  'grpc.response.messages': { type: 'number', meaning: 'number of response messages' },
  'grpc.request.stalled_ms': { type: 'number', meaning: 'time without flow-control window: a slow Gitaly' },
  'grpc.response.stalled_ms': { type: 'number', meaning: 'time without flow-control window: a slow client' },
  'grpc.request.timeout_ms': { type: 'number', meaning: 'deadline that the client set' },
  'grpc.meta.client_name': { type: 'string', meaning: "the client's name for itself" },
  'sidechannel.bytes.to_upstream': { type: 'number', meaning: 'bytes of the sidechannel to upstream' },
  'sidechannel.bytes.to_client': {
    type: 'number',
    meaning: 'bytes of the sidechannel to the client: the pack',
  },
  'policy.rule': { type: 'string', meaning: 'name of the rule that decided, or `none`' },
  'policy.identity': { type: 'string', meaning: 'the identity of the client that the rule names' },
  correlation_id: { type: 'string', meaning: "GitLab's id of the request" },
  'audit.chain': { type: 'string', meaning: 'id of the chain of audit lines' },
  'audit.sequence': { type: 'number', meaning: 'number of the audit line in its chain' },
  'audit.hash': { type: 'string', meaning: 'hash of the audit line, for `audit verify --hash`' },
  trace_id: { type: 'string', meaning: 'id of the trace (`traceparent`)' },
  'http.method': { type: 'string', meaning: 'method of the request' },
  'http.path': { type: 'string', meaning: 'path of the request, without the query' },
  'http.status': { type: 'number', meaning: 'status of the response' },
  'http.ended_by': { type: 'string', meaning: '`client`, `upstream` or `proxy`' },
  'http.refusal': { type: 'string', meaning: 'a reason of `http_requests_refused_total`' },
  'http.upstream_failure': { type: 'string', meaning: 'a reason of `http_upstream_failures_total`' },
  'http.time_ms': { type: 'number', meaning: 'duration of the request' },
  'http.request.payload_bytes': { type: 'number', meaning: 'bytes of the request content' },
  'http.response.payload_bytes': { type: 'number', meaning: 'bytes of the response content' },
} as const satisfies Readonly<Record<string, FieldDefinition>>;

type FieldName = keyof typeof LOG_FIELDS;

/** The parts of an event that depend on the value of a field. */
export interface EventVariant {
  readonly level?: LogLevel;
  readonly message?: string;
  readonly error?: string;
  readonly fix?: string;
}

/** An event: its level, its line and its documentation. */
export interface EventDefinition {
  readonly level: LogLevel;
  readonly message: string;
  /** When the line is written. */
  readonly meaning: string;
  /** Fields that every line has. */
  readonly fields: readonly FieldName[];
  /** Fields that a line may have. */
  readonly optional?: readonly FieldName[];
  /** Full sentences, written as fields of the line unless the caller has more specific ones. */
  readonly error?: string;
  readonly fix?: string;
  /** By the value of a field. */
  readonly variants?: { readonly field: FieldName; readonly of: Readonly<Record<string, EventVariant>> };
  /** Whether the line is kept when others are dropped. The default is true for warnings and errors. */
  readonly isUrgent?: false;
}

const REPORT = 'Please report this, with `error` and the version of the program.';

/** How a connection can end. `debug`: probes. `warn`: refusals and failures that an operator can fix. */
const CLOSES: Readonly<Record<CloseReason, EventVariant>> = {
  finished: { level: 'info', message: 'connection finished' },
  reset: { level: 'info', message: 'connection reset' },
  probe: { level: 'debug', message: 'connection closed before its first byte' },
  left_early: { level: 'info', message: 'connection closed before its protocol was known' },
  proxy_header_malformed: {
    level: 'warn',
    message: 'connection refused: malformed PROXY header',
    fix: 'Have the load balancer send a PROXY header, or remove its address from proxy_protocol.accept_from.',
  },
  proxy_header_timeout: {
    level: 'warn',
    message: 'connection refused: no PROXY header within timeouts.handshake',
    fix: 'Have the load balancer send a PROXY header, or remove its address from proxy_protocol.accept_from.',
  },
  handshake_failed: {
    level: 'warn',
    message: 'TLS handshake failed',
    fix: 'Run `gitaly-tls-proxy check` on the machine of the client.',
  },
  client_certificate_refused: {
    level: 'warn',
    message: 'client certificate refused',
    fix: 'Give the client a certificate that is valid today and issued by a CA in client_ca_path.',
  },
  client_not_allowed: {
    level: 'warn',
    message: 'client refused: not in client_allow',
    fix: 'Add an identity of the client to client_allow, or find out why it connects.',
  },
  protocol_unknown: {
    level: 'warn',
    message: 'connection refused: neither HTTP/2 nor backchannel',
    fix: 'Identify the client by peer.address; only Gitaly and its clients may connect to this listener.',
  },
  preface_timeout: {
    level: 'warn',
    message: 'connection refused: no preface within timeouts.preface',
    fix: 'Identify the client by peer.address; it must send an HTTP/2 preface or the backchannel magic after it has connected.',
  },
  request_malformed: {
    level: 'warn',
    message: 'connection refused: malformed HTTP request',
    fix: 'Identify the client by peer.address; it does not send valid HTTP, or it speaks TLS to a plaintext listener.',
  },
  // The next two are counted as refused, and `connection_refused` reports them periodically.
  max_unauthenticated_connections: {
    level: 'debug',
    message: 'connection closed: max_unauthenticated_connections exceeded',
  },
  max_connections_per_source: {
    level: 'debug',
    message: 'connection refused: max_connections_per_source exceeded',
  },
  upstream_unreachable: {
    level: 'error',
    message: 'upstream cannot be reached',
    fix: 'Run `gitaly-tls-proxy check` with the address in `upstream` on this machine.',
  },
  idle_timeout: { level: 'info', message: 'connection closed: timeouts.idle exceeded' },
  write_stall: {
    level: 'warn',
    message: 'connection reset: client or upstream stopped reading (timeouts.write_stall)',
    fix: 'Look for a hung process or an overloaded machine at the end that close.initiator names.',
  },
  half_close_timeout: { level: 'info', message: 'connection closed: timeouts.half_close exceeded' },
  drained: { level: 'info', message: 'connection drained' },
  drain_timeout: {
    level: 'warn',
    message: 'connection reset: drain timed out',
    fix: 'Raise graceful_restart_timeout if calls take longer than that.',
  },
  max_connection_age: { level: 'info', message: 'connection closed: max_connection_age_grace exceeded' },
  abuse: {
    level: 'warn',
    message: 'connection closed: client exceeded a limit',
    fix: 'Identify the client by peer.address and peer.identity.',
  },
  inspection_lost: {
    level: 'warn',
    message: 'connection closed: its calls cannot be followed',
    fix: 'Identify the client by peer.address and peer.identity.',
  },
  internal_error: {
    level: 'error',
    message: 'internal error in one connection, which was closed',
    fix: 'Please report this, with close.detail and the version of the program.',
  },
};

/** Each reason to refuse connections. */
const DROPS: Readonly<Record<DropReason, EventVariant>> = {
  max_connections: {
    error: 'The listener has max_connections open connections.',
    fix: 'If these clients are legitimate, raise max_connections.',
  },
  max_unauthenticated_connections: {
    error: 'Too many clients have neither a verified certificate nor an answered call.',
    fix: 'If these clients are legitimate, raise max_unauthenticated_connections.',
  },
  max_connections_per_source: {
    error: 'One address has too many connections.',
    fix: 'If this client is legitimate, raise max_connections_per_source.',
  },
  descriptors: {
    error: 'The process is running out of file descriptors.',
    fix: 'Raise the limit of open files (ulimit -n, LimitNOFILE), or lower max_connections.',
  },
  memory: {
    error: 'The process is running out of memory.',
    fix: 'Give the process more memory (--max-old-space-size of Node, MemoryMax), or lower max_connections.',
  },
  no_worker: {
    error: 'No worker is running.',
    fix: 'Read the `worker_exited` lines: they have the reason.',
  },
};

/** The level of each code: that of Gitaly's own log (go-grpc-middleware, `DefaultCodeToLevel`). */
const CODES: Readonly<Record<StatusCode, EventVariant>> = {
  OK: { level: 'info' },
  Canceled: { level: 'info' },
  Unknown: { level: 'error' },
  InvalidArgument: { level: 'info' },
  DeadlineExceeded: { level: 'warn' },
  NotFound: { level: 'info' },
  AlreadyExists: { level: 'info' },
  PermissionDenied: { level: 'warn' },
  ResourceExhausted: { level: 'warn' },
  FailedPrecondition: { level: 'warn' },
  Aborted: { level: 'warn' },
  OutOfRange: { level: 'warn' },
  Unimplemented: { level: 'error' },
  Internal: { level: 'error' },
  Unavailable: { level: 'warn' },
  DataLoss: { level: 'error' },
  Unauthenticated: { level: 'info' },
};

/** Explains each reason to stop following the calls of a connection that has a cause other than malformed bytes. */
const LOSSES: Readonly<Record<string, EventVariant>> = {
  call_budget: {
    error:
      'There is not enough memory to follow more calls, or Gitaly has opened more than `abuse_limits.calls_per_connection`. They are still relayed, and the limits on frames still apply.',
    fix: 'Give the process more memory, or find the clients that open most calls at /-/connections. If Gitaly opened them, raise `abuse_limits.calls_per_connection`.',
  },
  unjudged_block: {
    error: 'The client sent a header block that does not begin a call. The policy cannot judge it.',
    fix: 'No gRPC client does this: find out what the client is. To relay such a client, give it a listener without a policy.',
  },
  large_block: {
    error: 'The client sent a header block that is too large to be held until the policy has judged it.',
    fix: 'Have the client send less metadata, or give it a listener without a policy.',
  },
  refused_call_answered: {
    error: 'The upstream has answered a call that the policy refused, instead of resetting it.',
    fix: 'Check that the upstream is Gitaly or Praefect. A policy cannot be enforced in front of other servers.',
  },
  stream_kind: { error: 'A stream of its backchannel carries neither HTTP/2 nor a sidechannel.' },
  sidechannel: { error: 'A sidechannel began with bytes that Gitaly and its clients do not send.' },
  second_stream: {
    error:
      'The client opened a second stream in its backchannel. Gitaly serves calls on the first one only, and only this is checked.',
  },
  yamux_window: {
    error:
      'More than 4 MiB of calls or answers had to wait in the proxy, because one end of the backchannel stopped reading.',
  },
};

const REQUEST_FIELDS = [
  'listener',
  'upstream',
  'peer.address',
  'protocol',
  'http.ended_by',
  'http.time_ms',
  'http.request.payload_bytes',
  'http.response.payload_bytes',
] as const satisfies readonly FieldName[];

const OPTIONAL_REQUEST_FIELDS = [
  'peer.identity',
  'http.method',
  'http.path',
  'http.status',
  'http.refusal',
  'http.upstream_failure',
  'correlation_id',
  'error',
] as const satisfies readonly FieldName[];

const DECISION_FIELDS = [
  'listener',
  'upstream',
  'peer.address',
  'grpc.service',
  'grpc.method',
  'grpc.method_operation',
  'grpc.code',
  'policy.rule',
  'count',
  'error',
  'fix',
] as const satisfies readonly FieldName[];

const OPTIONAL_DECISION_FIELDS = [
  'peer.identity',
  'policy.identity',
  'correlation_id',
] as const satisfies readonly FieldName[];

const DATE_FIELDS = ['listener', 'role', 'file'] as const satisfies readonly FieldName[];

/** Every event of the log, in the order of docs/log-events.md, which is generated from this table. Ids are stable: alerts and tests match them. */
export const LOG_EVENTS = {
  listening: {
    level: 'info',
    message: 'listening',
    meaning: 'An address was bound at startup or by a reload.',
    fields: ['listener', 'listen'],
    optional: ['addresses', 'forward', 'inherited'],
  },
  ready: {
    level: 'info',
    message: 'ready',
    meaning: 'All addresses are bound and connections are accepted.',
    fields: [],
  },
  reloaded: {
    level: 'info',
    message: 'reloaded',
    meaning: 'The configuration and all certificates, or only certificates, were read and applied.',
    fields: [],
  },
  reload_failed: {
    level: 'error',
    message: 'reload failed, still serving the previous configuration',
    meaning: 'The configuration or a certificate on disk cannot be applied. Nothing has changed.',
    fields: ['error'],
    fix: 'Correct what `error` names; the proxy tries again every second and then logs `reloaded`.',
  },
  listener_removed: {
    level: 'info',
    message: 'listener removed',
    meaning: 'A reload removed a listener. Its connections are drained.',
    fields: ['listener', 'connections'],
  },
  draining: {
    level: 'info',
    message: 'draining: waiting for open connections',
    meaning: 'The process received a signal to stop. It accepts no new connections.',
    fields: ['connections'],
  },
  stopped: {
    level: 'info',
    message: 'stopped, all connections drained',
    meaning: 'The last line of a process that reset no connection.',
    fields: [],
  },
  stop_incomplete: {
    level: 'warn',
    message: 'stopped, some connections were reset',
    meaning: 'The last line of a process that reset connections. The exit code is 1.',
    fields: ['connections'],
    error:
      'Connections were still open after graceful_restart_timeout, or when a second signal was received.',
    fix: 'Raise graceful_restart_timeout if calls take longer than that.',
  },
  stopped_before_ready: {
    level: 'info',
    message: 'stopped before it was ready',
    meaning: 'The process received a signal to stop during startup.',
    fields: [],
  },
  configuration_warning: {
    level: 'warn',
    message: 'configuration warning',
    meaning: 'The configuration was applied, but one of its settings probably does not do what was intended.',
    fields: ['error'],
    fix: 'Correct the setting or file that `error` names.',
  },
  listening_incomplete: {
    level: 'warn',
    message: 'listening on some addresses of the name only',
    meaning: 'The host name in `listen` also resolves to addresses of other machines.',
    fields: ['listener', 'error'],
    fix: 'Correct the name in DNS or the hosts file, or listen on an IP address.',
  },
  socket_settings_ignored: {
    level: 'warn',
    message: 'socket settings have no effect',
    meaning: 'A listener has `socket` settings, but systemd created its socket.',
    fields: ['listener'],
    error: 'The socket comes from systemd, so `socket` of this listener has no effect.',
    fix: 'Set SocketMode=, SocketUser= and SocketGroup= in the socket unit, and remove `socket`.',
  },
  environment_warning: {
    level: 'warn',
    message: 'environment variable affects the program or is ignored',
    meaning: 'An environment variable of Node or OpenSSL is set.',
    fields: ['variable', 'error', 'fix'],
  },
  debugger_open: {
    level: 'warn',
    message: 'debugger is open',
    meaning: 'Node was started with --inspect.',
    fields: [],
    error: 'The command line of Node enables its debugger, so every local user can read the keys.',
    fix: 'Start the program without --inspect.',
  },
  signal_ignored: {
    level: 'warn',
    message: 'signal ignored',
    meaning: 'The process received a signal that it does not use.',
    fields: ['signal', 'error'],
    fix: 'Send SIGHUP to reload, or SIGTERM to drain and stop.',
  },
  sd_notify_failed: {
    level: 'warn',
    message: 'sd_notify failed',
    meaning: 'systemd could not be notified. Traffic is not affected. Repeated failures are not logged.',
    fields: ['error'],
    fix: 'Install systemd-notify, and check NotifyAccess= of the unit.',
  },
  certificate_expired: {
    level: 'warn',
    message: 'certificate or CRL has expired',
    meaning: 'A certificate or CRL in use has expired. It is still used.',
    fields: [...DATE_FIELDS, 'error', 'fix'],
  },
  certificate_not_yet_valid: {
    level: 'warn',
    message: 'certificate or CRL is not yet valid',
    meaning: 'A certificate or CRL in use is not yet valid. It is used nevertheless.',
    fields: [...DATE_FIELDS, 'error', 'fix'],
  },
  certificate_valid_again: {
    level: 'info',
    message: 'certificate or CRL is valid again',
    meaning: 'A certificate or CRL in use that was out of date has become valid.',
    fields: DATE_FIELDS,
  },
  upstream_down: {
    level: 'error',
    message: 'upstream is down, its health check failed',
    meaning: 'A health check failed for the first time. The event `upstream_up` reports the recovery.',
    fields: ['listener', 'upstream', 'reason', 'error'],
    fix: 'Run `gitaly-tls-proxy check` with the address in `upstream` on this machine.',
  },
  upstream_up: {
    level: 'info',
    message: 'upstream is up again, its health check passed',
    meaning: 'A health check passed after a failed one.',
    fields: ['listener', 'upstream'],
  },
  upstream_warning: {
    level: 'warn',
    message: 'health check passed with a warning',
    meaning: 'The upstream is up, but its health check found a problem.',
    fields: ['listener', 'upstream', 'error'],
    fix: 'Run `gitaly-tls-proxy check` with the address in `upstream` on this machine.',
  },
  health_check_error: {
    level: 'error',
    message: 'health check failed unexpectedly',
    meaning: 'An internal error interrupted a health check. The next check runs as usual.',
    fields: ['listener', 'upstream', 'error'],
    fix: REPORT,
  },
  connection_closed: {
    level: 'info',
    message: 'connection finished',
    meaning: 'A connection ended, for any reason. Every accepted connection has one line.',
    fields: [
      'listener',
      'peer.address',
      'protocol',
      'bytes.to_upstream',
      'bytes.to_client',
      'duration_ms',
      'close.reason',
      'close.initiator',
    ],
    optional: [
      'upstream',
      'peer.via',
      'peer.identity',
      'tls.version',
      'tls.cipher',
      'tls.resumed',
      'server_name',
      'close.detail',
      'close.advice',
    ],
    variants: { field: 'close.reason', of: CLOSES },
  },
  connection_refused: {
    level: 'warn',
    message: 'connections refused',
    meaning:
      'Connections were refused because a limit was exceeded. At most one line per listener every 10 s.',
    fields: ['listener', 'peer.address', 'close.reason', 'count'],
    variants: { field: 'close.reason', of: DROPS },
  },
  inspection_lost: {
    level: 'warn',
    message: "connection's calls can no longer be followed",
    meaning:
      'The bytes of a connection cannot be parsed. They are still relayed, but its calls are not counted.',
    fields: ['listener', 'upstream', 'peer.address', 'inspection.reason'],
    optional: ['peer.identity'],
    error: 'The client, or Gitaly, sends malformed HTTP/2 or yamux.',
    fix: 'Identify the client software. If only Gitaly and its clients should connect, set `inspect: required`.',
    variants: { field: 'inspection.reason', of: LOSSES },
  },
  call_finished: {
    level: 'info',
    message: 'finished TYPE call with code CODE',
    meaning:
      "A gRPC call ended; `logging.rpc` sets which calls are logged. Level and text are those of Gitaly's own log. `error` is the message of the status.",
    fields: [
      'listener',
      'upstream',
      'peer.address',
      'protocol',
      'direction',
      'grpc.service',
      'grpc.method',
      'grpc.method_type',
      'grpc.method_operation',
      'grpc.code',
      'grpc.ended_by',
      'grpc.time_ms',
      'grpc.request.payload_bytes',
      'grpc.response.payload_bytes',
      'grpc.request.messages',
      'grpc.response.messages',
    ],
    optional: [
      'peer.identity',
      'grpc.request.stalled_ms',
      'grpc.response.stalled_ms',
      'grpc.request.timeout_ms',
      'grpc.meta.client_name',
      'sidechannel.bytes.to_upstream',
      'sidechannel.bytes.to_client',
      'correlation_id',
      'trace_id',
      'error',
    ],
    variants: { field: 'grpc.code', of: CODES },
    isUrgent: false,
  },
  call_refused: {
    level: 'warn',
    message: 'call refused by the policy',
    meaning:
      'The policy denied a call, which was answered with `grpc.code`. The first refusal of each identity and RPC is logged, then one per minute.',
    fields: DECISION_FIELDS,
    optional: OPTIONAL_DECISION_FIELDS,
    isUrgent: false,
  },
  call_would_be_refused: {
    level: 'warn',
    message: 'call would be refused by the policy',
    meaning:
      'The policy denies a call, which was forwarded because its mode is `report`. The first such call of each identity and RPC is logged, then one per minute.',
    fields: DECISION_FIELDS,
    optional: OPTIONAL_DECISION_FIELDS,
    isUrgent: false,
  },
  client_would_be_refused: {
    level: 'warn',
    message: 'client would be refused by its certificate',
    meaning:
      'A client was admitted although its certificate is missing, invalid or not allowed, because `client_auth` is `report`. The first of each address and result is logged, then one per minute.',
    fields: ['listener', 'peer.address', 'result', 'count', 'error', 'fix'],
    isUrgent: false,
  },
  call_lines_suppressed: {
    level: 'warn',
    message: 'log lines suppressed: too many failed calls',
    meaning: 'Failed calls of one connection exceeded the rate limit of their log lines.',
    fields: ['listener', 'upstream', 'peer.address', 'lines'],
    optional: ['peer.identity'],
    error: 'More calls of this connection failed than the rate limit of log lines allows.',
    fix: 'Read the earlier `call_finished` lines of this connection: they have the reason.',
    isUrgent: false,
  },
  unauthenticated_lines_suppressed: {
    level: 'warn',
    message: 'log lines suppressed: too many unauthenticated clients',
    meaning: `Lines about unauthenticated clients exceeded their rate limit: a burst of ${UNAUTHENTICATED_LINES.burst} and ${UNAUTHENTICATED_LINES.perSecond} per second, half of it for calls and requests. \`reasons\` contains the number of suppressed lines by reason. The metrics count all clients.`,
    fields: ['lines', 'reasons', 'sources', 'peer.address'],
    error:
      'Unauthenticated clients cause more log lines than the rate limit allows; the metrics count all of these clients.',
    fix: 'Block the sources, or require client certificates. /-/connections lists the open connections.',
  },
  http_request_finished: {
    level: 'info',
    message: 'HTTP request finished',
    meaning: 'An HTTP request was answered by upstream.',
    fields: REQUEST_FIELDS,
    optional: OPTIONAL_REQUEST_FIELDS,
  },
  http_request_canceled: {
    level: 'info',
    message: 'HTTP request canceled by the client',
    meaning: 'The client closed its connection or stream before the response was complete.',
    fields: REQUEST_FIELDS,
    optional: OPTIONAL_REQUEST_FIELDS,
  },
  http_request_refused: {
    level: 'warn',
    message: 'HTTP request refused',
    meaning: 'The proxy answered an HTTP request itself, because it must not be forwarded.',
    fields: REQUEST_FIELDS,
    optional: OPTIONAL_REQUEST_FIELDS,
    fix: 'Look up http.refusal in docs/metrics.md, http_requests_refused_total.',
  },
  http_request_failed: {
    level: 'error',
    message: 'HTTP request failed upstream',
    meaning: 'Upstream could not be reached, or did not answer an HTTP request with a valid response.',
    fields: REQUEST_FIELDS,
    optional: OPTIONAL_REQUEST_FIELDS,
    fix: 'Look up http.upstream_failure in docs/metrics.md, http_upstream_failures_total.',
  },
  http_request_aborted: {
    level: 'warn',
    message: 'HTTP request aborted by the proxy',
    meaning: 'The proxy closed the connection before the response was complete.',
    fields: REQUEST_FIELDS,
    optional: OPTIONAL_REQUEST_FIELDS,
    fix: 'Read the `connection_closed` line with the same peer.address: it has the reason.',
  },
  admin_request_refused: {
    level: 'warn',
    message: 'admin request refused: unknown host or origin',
    meaning: 'A request to the admin port has an unknown host name or origin. At most one line every 10 s.',
    fields: ['error', 'peer.address', 'count'],
    fix: 'If clients of the admin port may use this name, add it to admin_hosts.',
  },
  worker_exited: {
    level: 'error',
    message: 'worker exited, its connections were lost; restarting it',
    meaning: 'A worker process ended unexpectedly.',
    fields: ['worker', 'connections', 'error'],
    optional: ['pid'],
    fix: 'If this repeats, look for the out-of-memory killer in the kernel log, and report exits that it does not explain.',
  },
  log_lines_dropped: {
    level: 'warn',
    message: 'log lines dropped: output is not read fast enough',
    meaning: 'Lines before this one are missing.',
    fields: ['lines'],
    error: 'The reader of the log is too slow, or the disk is full.',
    fix: 'Check the program that reads standard output, or log less: logging.level, logging.rpc.',
  },
  audit_log_head: {
    level: 'info',
    message: 'last line of the audit log',
    meaning:
      'The file of the audit log was opened or closed, or lines were written for 10 minutes. The hash shows later that no line up to it was removed.',
    fields: ['file', 'audit.chain', 'audit.sequence', 'audit.hash'],
  },
  audit_log_failed: {
    level: 'error',
    message: 'audit log cannot be written',
    meaning:
      'Lines wait, and are dropped once too many wait. With `audit_required`, mutating calls are refused. Logged once a minute.',
    fields: ['error', 'file'],
    fix: 'Free space on the disk, or correct the access to the file; send SIGHUP if the file was removed.',
  },
  audit_log_recovered: {
    level: 'info',
    message: 'audit log can be written again',
    meaning: 'Waiting lines are written, and mutating calls are admitted.',
    fields: ['file'],
  },
  internal_error: {
    level: 'error',
    message: 'internal error outside of any connection',
    meaning: 'A bug in the proxy that does not concern a connection. Traffic is not interrupted.',
    fields: ['error'],
    fix: REPORT,
  },
} as const satisfies Readonly<Record<string, EventDefinition>>;

/** The stable id of an event; field `event` of its lines. */
export type EventId = keyof typeof LOG_EVENTS;

type ValueOf<Name extends FieldName> = {
  readonly string: string;
  readonly number: number;
  readonly boolean: boolean;
}[(typeof LOG_FIELDS)[Name]['type']];

type Definition<Id extends EventId> = (typeof LOG_EVENTS)[Id];
type RequiredOf<Id extends EventId> = Definition<Id>['fields'][number];
type OptionalOf<Id extends EventId> =
  Definition<Id> extends { readonly optional: readonly (infer Name extends FieldName)[] } ? Name : never;

/** The fields of an event. */
export type EventFields<Id extends EventId> = {
  readonly [Name in RequiredOf<Id>]: ValueOf<Name>;
} & {
  readonly [Name in OptionalOf<Id>]?: ValueOf<Name> | undefined;
};
