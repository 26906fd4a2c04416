import { percentDecoded } from '../../percent-encoding.js';
import type { Logging } from '../../config/model.js';
import type { CallEnd, GrpcCall } from '../../inspect/grpc/call.js';
import { traceIdOf } from '../../inspect/grpc/traceparent.js';
import { MAX_LOGGED } from '../../limits.js';
import { cut } from '../../printable.js';
import type { SendWindow } from '../../inspect/send-window.js';
import { LOG_EVENTS, type EventFields } from '../events.js';
import type { LogBound, Logger } from '../logger.js';
import type { MethodCounts } from './method-table.js';

const [BEFORE_TYPE, BEFORE_CODE] = LOG_EVENTS.call_finished.message.split(/TYPE|CODE/);

const TYPE_WORDS: Readonly<Record<MethodCounts['type'], string>> = {
  unary: 'unary',
  client_stream: 'client stream',
  server_stream: 'server stream',
  bidi_stream: 'bidi stream',
  unknown: 'unknown',
};

/** The fields of a connection that its call lines contain. */
export type RpcPeer = Pick<
  EventFields<'call_finished'>,
  'listener' | 'upstream' | 'peer.address' | 'peer.identity'
>;

type MethodField =
  'protocol' | 'direction' | 'grpc.service' | 'grpc.method' | 'grpc.method_type' | 'grpc.method_operation';

/** Logs the calls of a connection to one method. */
export type LogCall = LogBound<'call_finished', keyof RpcPeer | MethodField>;

type CallFields = Parameters<LogCall>[0];

/** Writes one line per call that `logging.rpc` selects, with the messages and fields of Gitaly's own log. */
export class RpcLog {
  readonly #logger: Logger;
  #settings: Logging['rpc'];
  /** If successful calls are sampled: the accumulated share, which allows a line when it reaches 1. */
  #sampled = 0;

  constructor(logger: Logger, settings: Logging['rpc']) {
    this.#logger = logger;
    this.#settings = settings;
  }

  /** Sets which later calls are logged. */
  configure(settings: Logging['rpc']): void {
    this.#settings = settings;
  }

  /** Serialises the fields that all calls of a connection to one method share. */
  logCallsOf(call: GrpcCall, method: MethodCounts, peer: RpcPeer): LogCall {
    const [service, name] = namesOf(call);
    const { protocol, direction } = call.context;
    return this.#logger.bind('call_finished', {
      listener: peer.listener,
      upstream: peer.upstream,
      'peer.address': peer['peer.address'],
      'peer.identity': peer['peer.identity'],
      protocol,
      direction,
      'grpc.service': cut(service, MAX_LOGGED.grpcName),
      'grpc.method': cut(name, MAX_LOGGED.grpcName),
      'grpc.method_type': method.type,
      'grpc.method_operation': method.operation,
    });
  }

  ended(call: GrpcCall, method: MethodCounts, end: CallEnd, log: LogCall): void {
    log(fieldsOf(call, end), `${BEFORE_TYPE}${TYPE_WORDS[method.type]}${BEFORE_CODE}${end.code}`);
  }

  /** Counts the suppressed lines of a connection's calls. */
  leftOut(lines: number, peer: RpcPeer): void {
    this.#logger.log('call_lines_suppressed', { ...peer, lines });
  }

  /** Whether a call gets a log line; evaluated once per call. */
  isWanted(call: GrpcCall, { code, endedAtMs }: CallEnd): boolean {
    const durationMs = endedAtMs - call.start.startedAtMs;
    const { which, slowMs, sampling } = this.#settings;
    if (which === 'none' || !this.#logger.isEnabled('call_finished', { 'grpc.code': code })) return false;
    if (code !== 'OK') return true;
    if (which === 'failed' || call.start.path.startsWith('/grpc.health.v1.Health/')) return false;
    if (which === 'slow') return durationMs >= slowMs;
    // Logs calls at regular intervals, so that their share is the configured one.
    this.#sampled += sampling;
    if (this.#sampled < 1) return false;
    this.#sampled -= 1;
    return true;
  }
}

/** The service and the method of a call. */
export function namesOf({ start }: GrpcCall): readonly [service: string, method: string] {
  const [, service = '', method = ''] = start.path.split('/', 3);
  return [service, method];
}

function fieldsOf({ start, messages, sidechannel, windows }: GrpcCall, end: CallEnd): CallFields {
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
    'grpc.meta.client_name': start.clientName && cut(start.clientName, MAX_LOGGED.grpcName),
    'sidechannel.bytes.to_upstream': sidechannel?.contentBytes.client,
    'sidechannel.bytes.to_client': sidechannel?.contentBytes.server,
    correlation_id: start.correlationId && cut(start.correlationId, MAX_LOGGED.grpcName),
    trace_id: traceIdOf(start.traceparent),
    // grpc-go sends an empty message with each success.
    error: end.message ? cut(percentDecoded(end.message), MAX_LOGGED.grpcMessage) : undefined,
  };
}

/** Milliseconds without window; `undefined` if 0. */
function stalled(window: SendWindow, { endedAtMs }: CallEnd): number | undefined {
  const stalledMs = window.stalledMs(endedAtMs);
  return stalledMs === 0 ? undefined : rounded(stalledMs);
}

function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
