import type { Sidechannel, SidechannelObserver } from '../../inspect/backchannel/sidechannel.js';
import type { InspectionEvents } from '../../inspect/inspection-events.js';
import type { CallContext, CallEnd, CallObserver, GrpcCall } from '../../inspect/grpc/call.js';
import type { StallTallies } from '../../inspect/send-window.js';
import type { CallLines } from './call-lines.js';
import { CallRecord } from './call-record.js';
import type { CallGroupCounts, ListenerCounts } from './listener-counts.js';
import type { MethodCounts, MethodTable } from './method-table.js';
import { SidechannelRecord } from './sidechannel-record.js';

/** Counts and logs the calls of one connection. */
export class ConnectionRpcs implements InspectionEvents {
  readonly #methods: MethodTable;
  readonly #counts: ListenerCounts;
  readonly #ended: (call: GrpcCall, method: MethodCounts, end: CallEnd) => void;

  constructor(methods: MethodTable, counts: ListenerCounts, lines: CallLines) {
    this.#methods = methods;
    this.#counts = counts;
    this.#ended = (call, method, end) => lines.ended(call, method, end);
  }

  started(call: GrpcCall): CallObserver {
    return new CallRecord(call, this.#methods, this.#groupOf(call.context), this.#ended);
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
