import { BackchannelInspector, type BackchannelLoss } from './backchannel/backchannel-inspector.js';
import type { Sidechannel } from './backchannel/sidechannel.js';
import { CallPool, type CallShare } from './call-pool.js';
import type { InspectionEvents } from './inspection-events.js';
import { FollowedConnection } from './grpc/followed-connection.js';
import type { Drain } from './drain.js';
import { Http2Drain } from './http2/http2-drain.js';
import { isLimit, limitReason, type ExceededLimit, type LimitReason } from './limit.js';
import { ABUSE_LIMITS } from '../limits.js';
import type { AbuseLimits } from './abuse-limits.js';
import type { Sender } from './sender.js';

/** Why a connection cannot be followed any further, or the limit that its client has exceeded. */
export type InspectionFailure = BackchannelLoss;

/** Label `reason` of `inspector_lost_total`. A closed set. */
export type InspectionFailureReason = Exclude<InspectionFailure, ExceededLimit> | LimitReason;

/** The reason by which a failure is counted and logged. */
export function failureReason(failure: InspectionFailure): InspectionFailureReason {
  return isLimit(failure) ? limitReason(failure) : failure;
}

/** Follows one connection, whichever of the two protocols it speaks. */
export interface ConnectionInspector {
  /** The gRPC connections on it: one, or those on the streams of a backchannel. */
  readonly connections: Iterable<FollowedConnection>;
  readonly sidechannels: Iterable<Sidechannel>;
  /**
   * Reads the bytes of an end.
   * @returns why a part of the connection cannot be followed, which is the same on every later call; the limits on its client
   * still apply. Or which limit was exceeded (`isLimit`): then nothing more is read.
   */
  read(
    sender: Sender,
    bytes: Buffer,
    start: number,
    end: number,
    nowMs: number,
  ): InspectionFailure | undefined;
  /** The limit that the client has exceeded by taking longer than `headerBlockMs` for a header block; called periodically. */
  overdue(nowMs: number, headerBlockMs: number): ExceededLimit | undefined;
  /**
   * Begins to take the connection out of use; from then on its bytes go through the drain and not through `read`.
   * `token`: 8 random bytes. `toClient` sends bytes to the client, behind all that was passed on.
   */
  drain(token: Buffer, toClient: (bytes: Buffer) => void): Drain<InspectionFailure>;
  /** The last frame to a refused client; empty if no frame can be inserted at this point. */
  readonly refusal: Buffer;
  /** The connection has ended; what was open on it is cut. */
  end(nowMs: number): void;
}

/** Begins to follow a connection from its first byte. `share`: the calls that it may follow. */
export function inspectConnection(
  protocol: 'http2' | 'backchannel',
  events: InspectionEvents,
  limits: AbuseLimits = ABUSE_LIMITS,
  share: CallShare = new CallPool(limits.callsPerConnection).share(undefined, limits.callsPerConnection),
): ConnectionInspector {
  if (protocol === 'backchannel') return new BackchannelInspector(events, limits, share);
  const connection = new FollowedConnection({ protocol, direction: 'to_upstream' }, events, limits, share);
  return {
    connections: [connection],
    sidechannels: [],
    read: (sender, bytes, start, end, nowMs) => connection.read(sender, bytes, start, end, nowMs),
    overdue: (nowMs, headerBlockMs) => connection.http2.overdue(nowMs, headerBlockMs),
    drain: (token, toClient) => new Http2Drain(connection.http2, token, toClient),
    get refusal() {
      return connection.http2.refusal;
    },
    end: (nowMs) => connection.end('connection', nowMs),
  };
}
