import { ABUSE_LIMITS } from '../../limits.js';
import type { AbuseLimits } from '../abuse-limits.js';
import { CallPool, type CallRefusal, type CallShare, type PooledCall } from '../call-pool.js';
import { Http2Inspector, type StreamFollower } from '../http2/http2-inspector.js';
import type { Http2Loss } from '../http2/http2-side.js';
import type { SendWindows, StallTallies } from '../send-window.js';
import type { Sender } from '../sender.js';
import type { CallPermit, CallRefusal as PolicyRefusal } from '../../policy/call-judge.js';
import type { JudgedStreams } from '../http2/http2-editor.js';
import { RefusedStreams } from '../http2/refused-streams.js';
import { GrpcCall, type CallContext, type CallEvents, type CallJudging } from './call.js';
import { FIELD_NAMES } from './fields.js';

/** A call and its entry in the pool. */
class FollowedCall extends GrpcCall {
  pooled: PooledCall<unknown> | undefined;
}

/** Follows the calls of one gRPC connection; `client` is who calls. */
export class FollowedConnection implements StreamFollower<FollowedCall>, JudgedStreams {
  readonly context: CallContext;
  readonly http2: Http2Inspector<FollowedCall>;
  readonly stalls: StallTallies | undefined;
  /** Whether calls that begin are followed. They are not on a stream that its server has not accepted. */
  isAccepted = true;
  /** The streams of its calls that were refused by a judge. */
  readonly refused = new RefusedStreams();
  readonly #events: CallEvents;
  readonly #share: CallShare;
  readonly #judging: CallJudging | undefined;
  /** The call that began last, until its verdict is taken. */
  #begun: FollowedCall | undefined;

  /** `share`: the calls that its client connection may follow. `judging`: judges them. */
  constructor(
    context: CallContext,
    events: CallEvents,
    limits: AbuseLimits = ABUSE_LIMITS,
    share: CallShare = new CallPool(limits.callsPerConnection).share(undefined, limits.callsPerConnection),
    judging?: CallJudging,
  ) {
    this.#judging = judging;
    this.context = context;
    this.stalls = events.stallsOf?.(context);
    this.#events = events;
    this.#share = share;
    // Gitaly is the client of the calls that it makes; the limits apply to the other end.
    const limited = context.direction === 'to_upstream' ? 'client' : 'server';
    this.http2 = new Http2Inspector(judging?.fields.names ?? FIELD_NAMES, this, limited, limits);
  }

  /** Calls that have begun and not ended, the oldest first, at most `limit` of them. */
  *calls(limit?: number): Iterable<GrpcCall> {
    for (const call of this.http2.observers(limit)) if (call.isRunning) yield call;
  }

  /** Reads the bytes of an end. Returns why they cannot be followed, or which limit was exceeded. */
  read(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): Http2Loss | undefined {
    return this.http2.read(sender, bytes, start, end, nowMs);
  }

  /** The connection has ended, or what carries it cannot be followed. */
  end(why: 'connection' | 'lost', nowMs: number): void {
    this.http2.end(why, nowMs);
  }

  /** Called by the inspector of its streams. */
  open(streamId: number, windows: SendWindows): FollowedCall | CallRefusal | undefined {
    // Calls are judged before the server has accepted the stream that carries them.
    if (!this.isAccepted && !this.#judging) return undefined;
    const refusal = this.#share.take();
    if (refusal) return refusal;
    const call = new FollowedCall(streamId, this.context, windows, this.#events, this.#judging);
    if (this.#judging) this.#begun = call;
    call.pooled = this.#share.add(call);
    return call;
  }

  /** Called by the inspector of its streams. */
  isRefused(streamId: number): boolean {
    return this.refused.isSending(streamId);
  }

  takeVerdict(streamId: number): CallPermit | PolicyRefusal | undefined {
    const call = this.#begun;
    this.#begun = undefined;
    return call?.streamId === streamId ? call.verdict : undefined;
  }

  /** Called by the inspector of its streams. */
  release(call: FollowedCall): void {
    if (call.verdict?.kind === 'forward') call.verdict.ended?.();
    if (call.pooled) this.#share.remove(call.pooled);
    this.#events.released?.(call);
  }
}
