import { BackchannelInspector, type BackchannelFailure } from './backchannel/inspector.js';
import type { Sidechannel } from './backchannel/sidechannel.js';
import type { InspectionEvents } from './events.js';
import { GrpcConnection } from './grpc/connection.js';
import type { Drain } from './drain.js';
import { Http2Drain } from './http2/drain.js';
import type { Sender } from './sender.js';

/** Why a connection cannot be followed any further; label `reason` of `inspector_lost_total`. A closed set. */
export type InspectionFailure = BackchannelFailure;

/**
 * What costs Gitaly and this program more than the client that does it: such a connection is not only lost but closed. Of
 * what Gitaly sends it is lost alone. Plain errors of protocol are Gitaly's to judge.
 */
const ABUSES: ReadonlySet<InspectionFailure> = new Set([
  'reset_flood',
  'control_flood',
  'frame_flood',
  'continuation',
  'hpack_too_large',
  'too_many_streams',
  'too_many_connections',
  'yamux_flood',
] satisfies InspectionFailure[]);

/** Whether a connection is to be closed that failed so while this end's bytes were read. */
export function isAbuse(failure: InspectionFailure, sender: Sender): boolean {
  // A client can make Gitaly reset its streams (CVE-2025-8671).
  return failure === 'reset_flood' || (sender === 'client' && ABUSES.has(failure));
}

/** Follows one connection, whichever of the two protocols it speaks. */
export interface ConnectionInspector {
  /** The gRPC connections on it: one, or those on the streams of a backchannel. */
  readonly connections: Iterable<GrpcConnection>;
  readonly sidechannels: Iterable<Sidechannel>;
  /** Reads what an end has sent; why it cannot be followed, and ever after the same. */
  read(
    sender: Sender,
    bytes: Buffer,
    start: number,
    end: number,
    nowMs: number,
  ): InspectionFailure | undefined;
  /** Why the client is to be given up although it may have sent nothing; asked now and then. */
  overdue(nowMs: number): InspectionFailure | undefined;
  /**
   * Begins to take the connection out of use; from then on its bytes go through the drain and not through `read`.
   * `token`: 8 random bytes. `toClient` sends bytes to the client, behind all that was passed on.
   */
  drain(token: Buffer, toClient: (bytes: Buffer) => void): Drain<InspectionFailure>;
  /** What the client is told when it is refused; empty where a frame cannot be put in. */
  readonly refusal: Buffer;
  /** The connection has ended; what was open on it is cut. */
  end(nowMs: number): void;
}

/** Begins to follow a connection, from its first byte on. */
export function inspectConnection(
  protocol: 'http2' | 'backchannel',
  events: InspectionEvents,
): ConnectionInspector {
  if (protocol === 'backchannel') return new BackchannelInspector(events);
  const connection = new GrpcConnection({ protocol, direction: 'to_upstream' }, events);
  return {
    connections: [connection],
    sidechannels: [],
    read: (sender, bytes, start, end, nowMs) => connection.read(sender, bytes, start, end, nowMs),
    overdue: (nowMs) => connection.http2.overdue(nowMs),
    drain: (token, toClient) => new Http2Drain(connection.http2, token, toClient),
    get refusal() {
      return connection.http2.refusal;
    },
    end: (nowMs) => connection.end('connection', nowMs),
  };
}
