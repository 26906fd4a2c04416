import type { Sidechannel, SidechannelObserver } from '../../inspect/backchannel/sidechannel.js';
import type { InspectionEvents } from '../../inspect/inspection-events.js';
import type { CallContext, CallEnd, CallObserver, GrpcCall } from '../../inspect/grpc/call.js';
import type { StallTallies } from '../../inspect/send-window.js';
import type { AuditedCalls } from '../audit/audited-calls.js';
import type { CallLines } from './call-lines.js';
import type { CallGroupCounts, ListenerCounts, SidechannelCounts } from './listener-counts.js';
import type { MethodCounts, MethodTable } from './method-table.js';
import type { Sender } from '../../inspect/sender.js';
import type { StatusCode } from '../../inspect/grpc/grpc-status.js';
import type { ObservedClient } from '../../policy/observed-traffic.js';
import { NO_RULE } from '../../policy/policy.js';
import { traceIdOf } from '../../inspect/grpc/traceparent.js';

/** Counts and logs the calls of one connection. */
export class ConnectionRpcs implements InspectionEvents {
  readonly #methods: MethodTable;
  readonly #counts: ListenerCounts;
  readonly #audit: AuditedCalls;
  readonly #observed: ObservedClient | undefined;
  readonly #ended: (call: GrpcCall, method: MethodCounts, end: CallEnd) => void;

  constructor(
    methods: MethodTable,
    counts: ListenerCounts,
    lines: CallLines,
    audit: AuditedCalls,
    observed: ObservedClient | undefined,
  ) {
    this.#methods = methods;
    this.#counts = counts;
    this.#audit = audit;
    this.#observed = observed;
    this.#ended = (call, method, end) => lines.ended(call, method, end);
  }

  started(call: GrpcCall): CallObserver {
    // Only calls of clients need a rule of the policy.
    const observed = call.context.direction === 'to_upstream' ? this.#observed : undefined;
    const record = new CallRecord(call, this.#methods, this.#groupOf(call.context), observed, this.#ended);
    return this.#audit.follow(call, record.operation, record);
  }

  stallsOf(context: CallContext): StallTallies {
    return this.#groupOf(context).stalls;
  }

  get sidechannelStalls(): StallTallies {
    return this.#counts.sidechannels.stalls;
  }

  sidechannelOpened(sidechannel: Sidechannel): SidechannelObserver {
    return new SidechannelRecord(sidechannel, this.#counts.sidechannels);
  }
  #groupOf({ protocol, direction }: CallContext): CallGroupCounts {
    const group = protocol === 'http2' ? 'http2 to_upstream' : (`backchannel ${direction}` as const);
    return this.#counts.groups[group];
  }
}

/** Counts the bytes and the result of one sidechannel. */
class SidechannelRecord implements SidechannelObserver {
  readonly #sidechannel: Sidechannel;
  readonly #counts: SidechannelCounts;

  constructor(sidechannel: Sidechannel, counts: SidechannelCounts) {
    this.#sidechannel = sidechannel;
    this.#counts = counts;
    counts.opened++;
    counts.active++;
  }

  moved(sender: Sender, bytes: number): void {
    this.#counts.bytes[sender === 'client' ? 'to_upstream' : 'to_client'] += bytes;
  }

  ended(how: 'finished' | 'reset' | 'connection' | 'lost', nowMs: number): void {
    this.#counts.active--;
    if (how !== 'finished') this.#counts.cut++;
    this.#counts.durations.observe((nowMs - this.#sidechannel.openedAtMs) / 1000, undefined);
  }
}

/**
 * The codes with which Gitaly refuses calls without a token, with an invalid one, or to an RPC that it does not have. An RPC that
 * a client is always refused needs no rule of the policy.
 */
const REFUSED_BY_UPSTREAM: ReadonlySet<StatusCode> = new Set([
  'Unauthenticated',
  'PermissionDenied',
  'Unimplemented',
]);

/** Called for each call that has ended. */
type CallEnded = (call: GrpcCall, method: MethodCounts, end: CallEnd) => void;

/** Counts one call: its messages and bytes, and its result. */
class CallRecord implements CallObserver {
  readonly #call: GrpcCall;
  readonly #method: MethodCounts;
  readonly #methods: MethodTable;
  readonly #group: CallGroupCounts;
  readonly #observed: ObservedClient | undefined;
  readonly #onEnd: CallEnded;

  constructor(
    call: GrpcCall,
    methods: MethodTable,
    group: CallGroupCounts,
    observed: ObservedClient | undefined,
    onEnd: CallEnded,
  ) {
    const method = methods.find(call.start.path);
    this.#call = call;
    this.#method = method;
    this.#methods = methods;
    this.#group = group;
    this.#observed = observed;
    this.#onEnd = onEnd;
    // The name of another RPC is not known before it is answered.
    if (method !== methods.other) observed?.called(method);
    method.started++;
    group.started.set(method.operation, (group.started.get(method.operation) ?? 0) + 1);
    group.inFlight++;
  }

  get operation(): MethodCounts['operation'] {
    return this.#method.operation;
  }

  moved(sender: Sender, messages: number, bytes: number): void {
    const { payloadBytes } = this.#group;
    if (sender === 'client') {
      this.#method.received += messages;
      payloadBytes.request += bytes;
    } else {
      this.#method.sent += messages;
      payloadBytes.response += bytes;
    }
  }

  ended(end: CallEnd): void {
    const { start } = this.#call;
    const method = this.#method;
    this.#group.inFlight--;
    method.handled.set(end.code, (method.handled.get(end.code) ?? 0) + 1);
    method.durations.observe((end.endedAtMs - start.startedAtMs) / 1000, traceIdOf(start.traceparent));
    // Only a response of the upstream shows that a method exists. A malformed request is refused before the method is looked up.
    if (method === this.#methods.other && end.answered && end.code !== 'Unimplemented')
      this.#methods.learn(start.path);
    if (this.#observed) this.#observe(this.#observed, end);
    this.#onEnd(this.#call, method, end);
  }

  #observe(observed: ObservedClient, { code, by }: CallEnd): void {
    let method = this.#method;
    if (method === this.#methods.other) {
      method = this.#methods.find(this.#call.start.path);
      observed.called(method);
      if (by === 'proxy') observed.decided(method, 'denied', NO_RULE);
    }
    if (by === 'server' && REFUSED_BY_UPSTREAM.has(code)) observed.refused(method);
  }

  lost(): void {
    this.#group.inFlight--;
    this.#group.lost++;
  }
}
