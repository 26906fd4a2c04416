import { BackchannelInspector, type BackchannelLoss } from './backchannel/backchannel-inspector.js';
import type { Sidechannel } from './backchannel/sidechannel.js';
import { CallPool, type CallShare } from './call-pool.js';
import type { InspectionEvents } from './inspection-events.js';
import { FollowedConnection } from './grpc/followed-connection.js';
import type { CallJudging } from './grpc/call.js';
import type { DrainingEditor } from './editor.js';
import { Http2Editor } from './http2/http2-editor.js';
import { isLimit, limitReason, type ExceededLimit, type LimitReason } from './limit.js';
import { ABUSE_LIMITS } from '../limits.js';
import type { AbuseLimits } from './abuse-limits.js';
import type { Sender } from './sender.js';

/** The reason for which a connection cannot be followed any further, or the limit that its client has exceeded. */
export type InspectionFailure = BackchannelLoss;

/** Label `reason` of `inspector_lost_total`. A closed set. */
export type InspectionFailureReason = Exclude<InspectionFailure, ExceededLimit> | LimitReason;

/** The reason by which a failure is counted and logged. */
export function failureReason(failure: InspectionFailure): InspectionFailureReason {
  return isLimit(failure) ? limitReason(failure) : failure;
}

/** Follows one connection, in either of the two protocols. */
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
   * Begins to edit the connection: from then on its bytes go through the editor and not through `read`. Called before the first byte
   * if calls are judged. `toClient` sends bytes to the client, after all bytes that were forwarded.
   */
  edit(toClient: (bytes: Buffer) => void): DrainingEditor<InspectionFailure>;
  /** The last frame to a refused client; empty if no frame can be inserted at this point. */
  readonly refusal: Buffer;
  /** The connection has ended; what was open on it is cut. */
  end(nowMs: number): void;
}

/** Begins to follow a connection from its first byte. `share`: the calls that it may follow. `judging`: judges the client's. */
export function inspectConnection(
  protocol: 'http2' | 'backchannel',
  events: InspectionEvents,
  limits: AbuseLimits = ABUSE_LIMITS,
  share: CallShare = new CallPool(limits.callsPerConnection).share(undefined, limits.callsPerConnection),
  judging?: CallJudging,
): ConnectionInspector {
  if (protocol === 'backchannel') return new BackchannelInspector(events, limits, share, judging);
  const connection = new FollowedConnection(
    { protocol, direction: 'to_upstream' },
    events,
    limits,
    share,
    judging,
  );
  return {
    connections: [connection],
    sidechannels: [],
    read: (sender, bytes, start, end, nowMs) => connection.read(sender, bytes, start, end, nowMs),
    overdue: (nowMs, headerBlockMs) => connection.http2.overdue(nowMs, headerBlockMs),
    edit: (toClient) => new Http2Editor(connection.http2, toClient, judging && connection),
    get refusal() {
      return connection.http2.refusal;
    },
    end: (nowMs) => connection.end('connection', nowMs),
  };
}
