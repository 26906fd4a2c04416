import { StallTally, type StallTallies } from '../../inspect/send-window.js';
import { DurationCounts } from './duration-counts.js';
import type { RpcOperation } from './known-rpcs.js';

/** A group of calls: their protocol and where they go. Over plain HTTP/2 only clients call. */
export type CallGroup = 'http2 to_upstream' | 'backchannel to_upstream' | 'backchannel to_client';

/** What is counted of the calls of one group, on one listener. */
export class CallGroupCounts {
  /** By what the RPC does to a repository. */
  readonly started = new Map<RpcOperation | 'unknown', number>();
  inFlight = 0;
  /** Calls whose end is not known. */
  lost = 0;
  readonly payloadBytes = { request: 0, response: 0 };
  /** Time in which an end had no window to send in; the client sends requests. */
  readonly stalls: StallTallies = { client: new StallTally(), server: new StallTally() };
}

/** What is counted of the sidechannels of one listener. */
export class SidechannelCounts {
  opened = 0;
  active = 0;
  /** Sidechannels that did not end on both sides. */
  cut = 0;
  readonly bytes = { to_upstream: 0, to_client: 0 };
  readonly stalls: StallTallies = { client: new StallTally(), server: new StallTally() };
  readonly durations = new DurationCounts();
}

/** What is counted of one listener's traffic by looking inside. */
export class ListenerCounts {
  readonly groups: Readonly<Record<CallGroup, CallGroupCounts>> = {
    'http2 to_upstream': new CallGroupCounts(),
    'backchannel to_upstream': new CallGroupCounts(),
    'backchannel to_client': new CallGroupCounts(),
  };
  readonly sidechannels = new SidechannelCounts();
  /** Connections that could not be followed, by reason. */
  readonly lost = new Map<string, number>();
}
