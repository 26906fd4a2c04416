import type { CallJudge, CallPermit, CallRefusal } from '../../policy/call-judge.js';
import { MAX_FIELD_VALUE_BYTES } from '../../limits.js';
import type { FieldValues, StreamObserver } from '../http2/stream-observer.js';
import type { SendWindows, StallTallies } from '../send-window.js';
import type { Sender } from '../sender.js';
import { GrpcField, type JudgedFields } from './fields.js';
import { MessageCounter } from './message-counter.js';
import { statusCode, statusCodeOfHttp, statusCodeOfReset, type StatusCode } from './grpc-status.js';
import { isOverdue, timeoutMs } from './timeout.js';

/** Facts that are the same for all calls of one gRPC connection. */
export interface CallContext {
  readonly protocol: 'http2' | 'backchannel';
  /** The direction of the calls: `to_client` for those that Gitaly makes, on a backchannel. */
  readonly direction: 'to_upstream' | 'to_client';
}

/** Bytes that were sent for a call outside of its messages, by sender. */
export interface CallSidechannel {
  readonly contentBytes: Readonly<Record<Sender, number>>;
}

/** The request of a call. */
export interface CallStart {
  /** `:path`, `/package.Service/Method` in a correct request. */
  readonly path: string;
  readonly clientName: string | undefined;
  readonly correlationId: string | undefined;
  readonly sidechannelId: string | undefined;
  readonly traceparent: string | undefined;
  /** By the clock that the inspector was given. */
  readonly startedAtMs: number;
  /** Milliseconds that the client allows, from `startedAtMs`. */
  readonly timeoutMs: number | undefined;
}

/** Judges the calls of a client. */
export interface CallJudging {
  readonly judge: CallJudge;
  readonly fields: JudgedFields;
}

/** How a call ended, and which end did it: `proxy` if it was refused, `connection` if its connection ended first. */
export interface CallEnd {
  readonly code: StatusCode;
  readonly by: Sender | 'proxy' | 'connection';
  /** Whether a gRPC server has looked at the method: HTTP status 200, and a `grpc-status`. */
  readonly answered: boolean;
  /** `grpc-message` as it came, percent-encoded. */
  readonly message: string | undefined;
  readonly endedAtMs: number;
}

/** Observes one call. */
export interface CallObserver {
  /** While it runs: an end has sent `messages` messages, of `bytes` bytes. */
  moved(sender: Sender, messages: number, bytes: number): void;
  /** Bytes of the client's messages, with their prefixes; a view that is used again after the call. */
  request?(bytes: Buffer, start: number, end: number): void;
  ended(end: CallEnd): void;
  /** The inspector could not follow any further: how the call ends is not known. */
  lost(nowMs: number): void;
}

/** Called for each call that starts; returns the observer of its further events. */
export interface CallEvents {
  started(call: GrpcCall): CallObserver;
  /** Counts how long calls of this kind wait for a window. */
  stallsOf?(context: CallContext): StallTallies | undefined;
  /** It is no longer followed. */
  released?(call: GrpcCall): void;
}

const NO_START: CallStart = {
  path: '',
  clientName: undefined,
  correlationId: undefined,
  sidechannelId: undefined,
  traceparent: undefined,
  startedAtMs: 0,
  timeoutMs: undefined,
};

/** One gRPC call, followed on its HTTP/2 stream. */
export class GrpcCall implements StreamObserver {
  readonly streamId: number;
  readonly context: CallContext;
  /** The flow-control windows of its stream. */
  readonly windows: SendWindows;
  readonly messages: Readonly<Record<Sender, MessageCounter>> = {
    client: new MessageCounter(),
    server: new MessageCounter(),
  };
  start = NO_START;
  /** The sidechannel that Gitaly opened for it. */
  sidechannel: CallSidechannel | undefined;
  /** The decision on it; `undefined` before it has begun, and if its calls are not judged. */
  verdict: CallPermit | CallRefusal | undefined;
  readonly #events: CallEvents;
  readonly #judging: CallJudging | undefined;
  #observer: CallObserver | undefined;
  #state: 'begun' | 'running' | 'ended' = 'begun';
  #httpStatus: string | undefined;
  #grpcStatus: string | undefined;
  #grpcMessage: string | undefined;

  constructor(
    streamId: number,
    context: CallContext,
    windows: SendWindows,
    events: CallEvents,
    judging?: CallJudging,
  ) {
    this.streamId = streamId;
    this.context = context;
    this.windows = windows;
    this.#events = events;
    this.#judging = judging;
  }

  /** Whether it was reported as started and not yet as ended. */
  get isRunning(): boolean {
    return this.#state === 'running';
  }

  headers(sender: Sender, values: FieldValues, nowMs: number): void {
    if (sender === 'server') {
      const httpStatus = values[GrpcField.status];
      // RFC 9113 section 8.1: interim answers come before the one that counts.
      if (httpStatus?.startsWith('1')) return;
      this.#httpStatus ??= httpStatus;
      // In trailers, or in the only block of an answer without content ("Trailers-Only").
      this.#grpcStatus = values[GrpcField.grpcStatus] ?? this.#grpcStatus;
      this.#grpcMessage = values[GrpcField.grpcMessage] ?? this.#grpcMessage;
      return;
    }
    if (this.#state !== 'begun') return;
    this.#state = 'running';
    const timeout = values[GrpcField.grpcTimeout];
    this.start = {
      path: values[GrpcField.path] ?? '',
      clientName: values[GrpcField.clientName],
      correlationId: values[GrpcField.correlationId],
      sidechannelId: values[GrpcField.sidechannelId],
      traceparent: values[GrpcField.traceparent],
      startedAtMs: nowMs,
      timeoutMs: timeout === undefined ? undefined : timeoutMs(timeout),
    };
    this.#observer = this.#events.started(this);
    if (this.#judging) this.verdict = this.#judge(this.#judging, values, nowMs);
  }

  data(sender: Sender, bytes: Buffer, start: number, end: number): void {
    const counter = sender === 'client' ? this.messages.client : this.messages.server;
    const { messages, payloadBytes } = counter;
    counter.count(bytes, start, end);
    if (sender === 'client') this.#observer?.request?.(bytes, start, end);
    this.#observer?.moved(sender, counter.messages - messages, counter.payloadBytes - payloadBytes);
  }

  ended(sender: Sender, nowMs: number): void {
    if (sender === 'client') return;
    const code =
      this.#grpcStatus === undefined ? statusCodeOfHttp(this.#httpStatus) : statusCode(this.#grpcStatus);
    this.#end(code, 'server', nowMs);
  }

  reset(sender: Sender, errorCode: number, nowMs: number): void {
    const code = sender === 'client' ? 'Canceled' : statusCodeOfReset(errorCode);
    const { startedAtMs, timeoutMs: allowedMs } = this.start;
    const overdue = allowedMs !== undefined && isOverdue(nowMs - startedAtMs, allowedMs);
    // Both ends have a timer, and grpc-go's server as well lets a call go by a reset with CANCEL when its own is first.
    this.#end(code === 'Canceled' && overdue ? 'DeadlineExceeded' : code, sender, nowMs);
  }

  cut(why: 'refused' | 'connection' | 'lost', nowMs: number): void {
    if (why !== 'lost') this.#end('Unavailable', why === 'refused' ? 'server' : 'connection', nowMs);
    else if (this.#state === 'running') {
      this.#state = 'ended';
      this.#observer?.lost(nowMs);
    }
  }

  #judge({ judge, fields }: CallJudging, values: FieldValues, nowMs: number): CallPermit | CallRefusal {
    const { path, correlationId } = this.start;
    const call = {
      // A longer path was cut, and must not be mistaken for the shorter one.
      path: path.length < MAX_FIELD_VALUE_BYTES ? path : '',
      correlationId,
      hasAuthorization: fields.hasAuthorization(values),
      reservedField: fields.reservedField(values),
    };
    return judge.judge(call, nowMs);
  }

  #end(code: StatusCode, by: Sender | 'connection', endedAtMs: number): void {
    if (this.#state !== 'running') return;
    this.#state = 'ended';
    const isRefused = this.verdict?.kind === 'refuse';
    this.#observer?.ended({
      code,
      by: isRefused && by === 'server' ? 'proxy' : by,
      answered: !isRefused && this.#httpStatus === '200' && this.#grpcStatus !== undefined,
      message: this.#grpcMessage,
      endedAtMs,
    });
  }
}
