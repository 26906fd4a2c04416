import type { CallEnd, CallObserver, GrpcCall } from '../../inspect/grpc/call.js';
import { traceIdOf } from '../../inspect/grpc/traceparent.js';
import type { Sender } from '../../inspect/sender.js';
import type { CallGroupCounts } from './listener-counts.js';
import type { MethodCounts, MethodTable } from './method-table.js';

/** Called for each call that has ended. */
export type CallEnded = (call: GrpcCall, method: MethodCounts, end: CallEnd) => void;

/** Counts one call: its messages and bytes, and its result. */
export class CallRecord implements CallObserver {
  readonly #call: GrpcCall;
  readonly #method: MethodCounts;
  readonly #methods: MethodTable;
  readonly #group: CallGroupCounts;
  readonly #onEnd: CallEnded;

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
    this.#onEnd(this.#call, method, end);
  }

  lost(): void {
    this.#group.inFlight--;
    this.#group.lost++;
  }
}
