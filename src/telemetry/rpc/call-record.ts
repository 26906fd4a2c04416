import type { CallEnd, CallObserver, GrpcCall } from '../../inspect/grpc/call.js';
import { traceIdOf } from '../../inspect/grpc/traceparent.js';
import type { CallGroupCounts } from './listener-counts.js';
import type { MethodCounts, MethodTable } from './method-table.js';

/** Told of each call that has ended. */
export type CallEnded = (call: GrpcCall, method: MethodCounts, end: CallEnd) => void;

/** Counts one call: what it has moved since it was asked last, and how it ended. */
export class CallRecord implements CallObserver {
  readonly #call: GrpcCall;
  readonly #method: MethodCounts;
  readonly #methods: MethodTable;
  readonly #group: CallGroupCounts;
  readonly #onEnd: CallEnded;
  #received = 0;
  #sent = 0;
  #requestBytes = 0;
  #responseBytes = 0;
  #requestStalledMs = 0;
  #responseStalledMs = 0;

  constructor(call: GrpcCall, methods: MethodTable, group: CallGroupCounts, onEnd: CallEnded) {
    const method = methods.find(call.start.path);
    this.#call = call;
    this.#method = method;
    this.#methods = methods;
    this.#group = group;
    this.#onEnd = onEnd;
    method.started++;
    group.started.set(method.operation, (group.started.get(method.operation) ?? 0) + 1);
    group.inFlight++;
  }

  report(nowMs: number): void {
    const { messages, windows } = this.#call;
    const { client, server } = messages;
    const [method, group] = [this.#method, this.#group];
    method.received += client.messages - this.#received;
    method.sent += server.messages - this.#sent;
    group.payloadBytes.request += client.payloadBytes - this.#requestBytes;
    group.payloadBytes.response += server.payloadBytes - this.#responseBytes;
    this.#received = client.messages;
    this.#sent = server.messages;
    this.#requestBytes = client.payloadBytes;
    this.#responseBytes = server.payloadBytes;
    const requestStalledMs = windows.client.stalledMs(nowMs);
    const responseStalledMs = windows.server.stalledMs(nowMs);
    group.stalledMs.request += requestStalledMs - this.#requestStalledMs;
    group.stalledMs.response += responseStalledMs - this.#responseStalledMs;
    this.#requestStalledMs = requestStalledMs;
    this.#responseStalledMs = responseStalledMs;
  }

  ended(end: CallEnd): void {
    this.report(end.endedAtMs);
    const { start } = this.#call;
    const method = this.#method;
    this.#group.inFlight--;
    method.handled.set(end.code, (method.handled.get(end.code) ?? 0) + 1);
    method.durations.observe((end.endedAtMs - start.startedAtMs) / 1000, traceIdOf(start.traceparent));
    // Only what upstream has said of a method shows that there is one: a malformed request it refuses before it looks.
    if (method === this.#methods.other && end.answered && end.code !== 'Unimplemented')
      this.#methods.learn(start.path);
    this.#onEnd(this.#call, method, end);
  }

  lost(nowMs: number): void {
    this.report(nowMs);
    this.#group.inFlight--;
    this.#group.lost++;
  }
}
