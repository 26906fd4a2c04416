import type { Logging, LogLevel } from '../../config/model.js';
import type { CallEnd, GrpcCall } from '../../inspect/grpc/call.js';
import type { StatusCode } from '../../inspect/grpc/status.js';
import { traceIdOf } from '../../inspect/grpc/traceparent.js';
import type { Logger } from '../logger.js';
import type { MethodCounts } from './method-table.js';

/** Whose call it is. */
export interface RpcPeer {
  readonly listener: string;
  readonly peerAddress: string;
  readonly identity: string | undefined;
}

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
  readonly #logger: Logger;
  #settings: Logging['rpc'];
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
    const durationMs = end.endedAtMs - call.start.startedAtMs;
    if (!this.#isWanted(call, end, durationMs)) return;
    const level = LEVELS[end.code];
    const kind = TYPE_WORDS[method.type];
    this.#logger[level](fieldsOf(call, method, end, peer), `finished ${kind} call with code ${end.code}`);
  }

  #isWanted(call: GrpcCall, { code }: CallEnd, durationMs: number): boolean {
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

function fieldsOf(call: GrpcCall, method: MethodCounts, end: CallEnd, peer: RpcPeer) {
  const { start, messages, sidechannel, context } = call;
  const [, service = '', name = ''] = start.path.split('/', 3);
  return {
    listener: peer.listener,
    'peer.address': peer.peerAddress,
    'peer.identity': peer.identity,
    protocol: context.protocol,
    direction: context.direction,
    'grpc.service': service,
    'grpc.method': name,
    'grpc.method_type': method.type,
    'grpc.method_operation': method.operation,
    'grpc.code': end.code,
    'grpc.ended_by': end.by,
    'grpc.time_ms': rounded(end.endedAtMs - start.startedAtMs),
    'grpc.request.payload_bytes': messages.client.payloadBytes,
    'grpc.response.payload_bytes': messages.server.payloadBytes,
    'grpc.request.messages': messages.client.messages,
    'grpc.response.messages': messages.server.messages,
    'grpc.request.stalled_ms': rounded(call.windows.client.stalledMs(end.endedAtMs)),
    'grpc.response.stalled_ms': rounded(call.windows.server.stalledMs(end.endedAtMs)),
    'grpc.request.timeout_ms': start.timeoutMs,
    'grpc.meta.client_name': start.clientName,
    'sidechannel.bytes.to_upstream': sidechannel?.contentBytes.client,
    'sidechannel.bytes.to_client': sidechannel?.contentBytes.server,
    correlation_id: start.correlationId,
    trace_id: traceIdOf(start.traceparent),
    error: end.message === undefined ? undefined : decoded(end.message).slice(0, MAX_MESSAGE_LENGTH),
  };
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
