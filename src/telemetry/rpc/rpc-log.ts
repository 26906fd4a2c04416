import type { Logging, LogLevel } from '../../config/model.js';
import type { CallContext, CallEnd, GrpcCall } from '../../inspect/grpc/call.js';
import type { StatusCode } from '../../inspect/grpc/status.js';
import { traceIdOf } from '../../inspect/grpc/traceparent.js';
import { MAX_LOGGED } from '../../limits.js';
import { cut } from '../../printable.js';
import { fieldsText, jsonValue, type FieldsText } from '../log-line.js';
import type { SendWindow } from '../../inspect/send-window.js';
import type { Logger } from '../logger.js';
import type { MethodCounts } from './method-table.js';

/** Whose call it is: `listener`, `peer.address`, `peer.identity`. */
export type RpcPeer = FieldsText;

/** The level of each code: that of Gitaly's own log (go-grpc-middleware, `DefaultCodeToLevel`). */
const LEVELS: Readonly<Record<StatusCode, LogLevel>> = {
  OK: 'info',
  Canceled: 'info',
  Unknown: 'error',
  InvalidArgument: 'info',
  DeadlineExceeded: 'warn',
  NotFound: 'info',
  AlreadyExists: 'info',
  PermissionDenied: 'warn',
  ResourceExhausted: 'warn',
  FailedPrecondition: 'warn',
  Aborted: 'warn',
  OutOfRange: 'warn',
  Unimplemented: 'error',
  Internal: 'error',
  Unavailable: 'warn',
  DataLoss: 'error',
  Unauthenticated: 'info',
};

const TYPE_WORDS: Readonly<Record<MethodCounts['type'], string>> = {
  unary: 'unary',
  client_stream: 'client stream',
  server_stream: 'server stream',
  bidi_stream: 'bidi stream',
  unknown: 'unknown',
};

/** One line for each call that `logging.rpc` asks for, in the words and fields of Gitaly's own log. */
export class RpcLog {
  readonly #logger: Logger;
  #settings: Logging['rpc'];
  /** Each method's own fields, once a line has told of it. */
  readonly #methods = new Map<MethodCounts, FieldsText>();
  /** What is left of the next line's turn, where successful calls are sampled. */
  #sampled = 0;

  constructor(logger: Logger, settings: Logging['rpc']) {
    this.#logger = logger;
    this.#settings = settings;
  }

  /** Which calls are logged from now on. */
  configure(settings: Logging['rpc']): void {
    this.#settings = settings;
  }

  ended(call: GrpcCall, method: MethodCounts, end: CallEnd, peer: RpcPeer): void {
    const level = LEVELS[end.code];
    const kind = TYPE_WORDS[method.type];
    const { protocol, direction } = call.context;
    const shared = `${peer}${CONTEXTS[protocol][direction]}${this.#ofMethod(call, method)}`;
    const text = `${shared}${fieldsOf(call, end)}` as FieldsText;
    this.#logger[level](text, `finished ${kind} call with code ${end.code}`, false);
  }

  /** Counts the suppressed lines of a connection's calls. */
  leftOut(lines: number, peer: RpcPeer): void {
    const fields = `${peer},"lines":${lines}` as FieldsText;
    this.#logger.warn(fields, 'lines of failed calls left out: too many of one connection', false);
  }

  #ofMethod(call: GrpcCall, method: MethodCounts): FieldsText {
    const known = this.#methods.get(method);
    if (known !== undefined) return known;
    const [, service = '', name = ''] = call.start.path.split('/', 3);
    const text = fieldsText({
      'grpc.service': cut(service, MAX_LOGGED.grpcName),
      'grpc.method': cut(name, MAX_LOGGED.grpcName),
      'grpc.method_type': method.type,
      'grpc.method_operation': method.operation,
    });
    // Those without a label of their own share their counts, and have a name each.
    if (method.service === service && method.method === name) this.#methods.set(method, text);
    return text;
  }

  /** Whether a call gets a log line; evaluated once per call. */
  isWanted(call: GrpcCall, { code, endedAtMs }: CallEnd): boolean {
    const durationMs = endedAtMs - call.start.startedAtMs;
    const { which, slowMs, sampling } = this.#settings;
    if (which === 'none' || !this.#logger.isEnabled(LEVELS[code])) return false;
    if (code !== 'OK') return true;
    if (which === 'failed' || call.start.path.startsWith('/grpc.health.v1.Health/')) return false;
    if (which === 'slow') return durationMs >= slowMs;
    // Every so-manieth, so that what is logged is the share that was asked for.
    this.#sampled += sampling;
    if (this.#sampled < 1) return false;
    this.#sampled -= 1;
    return true;
  }
}

/** What the calls of one connection have in common. */
const CONTEXTS = { http2: contextsOf('http2'), backchannel: contextsOf('backchannel') } as const;

function contextsOf(protocol: CallContext['protocol']): Record<CallContext['direction'], FieldsText> {
  return {
    to_upstream: fieldsText({ protocol, direction: 'to_upstream' }),
    to_client: fieldsText({ protocol, direction: 'to_client' }),
  };
}

/** Put together by hand: by way of an object, a line for every call would cost as much as to follow the call. */
function fieldsOf({ start, messages, sidechannel, windows }: GrpcCall, end: CallEnd): string {
  const { client, server } = messages;
  return (
    `,"grpc.code":"${end.code}","grpc.ended_by":"${end.by}"` +
    `,"grpc.time_ms":${rounded(end.endedAtMs - start.startedAtMs)}` +
    `,"grpc.request.payload_bytes":${client.payloadBytes},"grpc.response.payload_bytes":${server.payloadBytes}` +
    `,"grpc.request.messages":${client.messages},"grpc.response.messages":${server.messages}` +
    known('grpc.request.stalled_ms', stalled(windows.client, end)) +
    known('grpc.response.stalled_ms', stalled(windows.server, end)) +
    known('grpc.request.timeout_ms', start.timeoutMs) +
    known('grpc.meta.client_name', start.clientName && cut(start.clientName, MAX_LOGGED.grpcName)) +
    known('sidechannel.bytes.to_upstream', sidechannel?.contentBytes.client) +
    known('sidechannel.bytes.to_client', sidechannel?.contentBytes.server) +
    known('correlation_id', start.correlationId && cut(start.correlationId, MAX_LOGGED.grpcName)) +
    known('trace_id', traceIdOf(start.traceparent)) +
    // grpc-go says an empty message with each success.
    known('error', end.message ? cut(decoded(end.message), MAX_LOGGED.grpcMessage) : undefined)
  );
}

/** Milliseconds without window, if there were any. */
function stalled(window: SendWindow, { endedAtMs }: CallEnd): number | undefined {
  const stalledMs = window.stalledMs(endedAtMs);
  return stalledMs === 0 ? undefined : rounded(stalledMs);
}

/** A field, where there is one. */
function known(name: string, value: string | number | undefined): string {
  return value === undefined ? '' : `,"${name}":${jsonValue(value)}`;
}

function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

/** gRPC over HTTP/2, "Percent-Encoded": what is malformed is shown as it came. */
function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}
