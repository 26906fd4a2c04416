import type { Logging, LogLevel } from '../../config/model.js';
import type { CallEnd, GrpcCall } from '../../inspect/grpc/call.js';
import type { StatusCode } from '../../inspect/grpc/status.js';
import { traceIdOf } from '../../inspect/grpc/traceparent.js';
import type { LogFields } from '../log-line.js';
import type { SendWindow } from '../../inspect/send-window.js';
import type { LevelLogger } from '../logger.js';
import type { MethodCounts } from './method-table.js';

/** A gRPC message is at most this long in the log. */
const MAX_MESSAGE_LENGTH = 1000;

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
  #settings: Logging['rpc'];
  /** What is left of the next line's turn, where successful calls are sampled. */
  #sampled = 0;

  constructor(settings: Logging['rpc']) {
    this.#settings = settings;
  }

  /** Which calls are logged from now on. */
  configure(settings: Logging['rpc']): void {
    this.#settings = settings;
  }

  /** `logger`: has the fields of the connection and the method. */
  ended(call: GrpcCall, method: MethodCounts, end: CallEnd, logger: LevelLogger): void {
    const level = LEVELS[end.code];
    const kind = TYPE_WORDS[method.type];
    logger[level](fieldsOf(call, end), `finished ${kind} call with code ${end.code}`, false);
  }

  /** Counts the suppressed lines of a connection's calls. */
  leftOut(lines: number, peer: LevelLogger): void {
    peer.warn({ lines }, 'lines of failed calls left out: too many of one connection', false);
  }

  /** Whether a call gets a log line; evaluated once per call. */
  isWanted(call: GrpcCall, { code, endedAtMs }: CallEnd): boolean {
    const durationMs = endedAtMs - call.start.startedAtMs;
    const { which, slowMs, sampling } = this.#settings;
    if (which === 'none') return false;
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

/** The fields of a method. */
export function methodFields(
  { start }: GrpcCall,
  { type, operation }: MethodCounts,
): Readonly<Record<'grpc.service' | 'grpc.method' | 'grpc.method_type' | 'grpc.method_operation', string>> {
  const [, service = '', name = ''] = start.path.split('/', 3);
  return {
    'grpc.service': service,
    'grpc.method': name,
    'grpc.method_type': type,
    'grpc.method_operation': operation,
  };
}

function fieldsOf({ start, messages, sidechannel, windows }: GrpcCall, end: CallEnd): LogFields {
  const { client, server } = messages;
  return {
    'grpc.code': end.code,
    'grpc.ended_by': end.by,
    'grpc.time_ms': rounded(end.endedAtMs - start.startedAtMs),
    'grpc.request.payload_bytes': client.payloadBytes,
    'grpc.response.payload_bytes': server.payloadBytes,
    'grpc.request.messages': client.messages,
    'grpc.response.messages': server.messages,
    'grpc.request.stalled_ms': stalled(windows.client, end),
    'grpc.response.stalled_ms': stalled(windows.server, end),
    'grpc.request.timeout_ms': start.timeoutMs,
    'grpc.meta.client_name': start.clientName,
    'sidechannel.bytes.to_upstream': sidechannel?.contentBytes.client,
    'sidechannel.bytes.to_client': sidechannel?.contentBytes.server,
    correlation_id: start.correlationId,
    trace_id: traceIdOf(start.traceparent),
    // grpc-go sends an empty message with each success.
    error: end.message ? decoded(end.message).slice(0, MAX_MESSAGE_LENGTH) : undefined,
  };
}

/** Milliseconds without window, if there were any. */
function stalled(window: SendWindow, { endedAtMs }: CallEnd): number | undefined {
  const stalledMs = window.stalledMs(endedAtMs);
  return stalledMs === 0 ? undefined : rounded(stalledMs);
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
