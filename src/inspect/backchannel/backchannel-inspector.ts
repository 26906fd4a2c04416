import { MAX_BACKCHANNEL_CONNECTIONS } from '../../limits.js';
import type { AbuseLimits } from '../abuse-limits.js';
import type { CallRefusal, CallShare } from '../call-pool.js';
import type { DrainingEditor } from '../editor.js';
import type { CallContext, CallJudging, GrpcCall } from '../grpc/call.js';
import { FollowedConnection } from '../grpc/followed-connection.js';
import type { InspectionEvents } from '../inspection-events.js';
import type { Http2Loss } from '../http2/http2-side.js';
import { isLimit, type ExceededLimit } from '../limit.js';
import type { SendWindows } from '../send-window.js';
import type { Sender } from '../sender.js';
import {
  FollowedSession,
  type YamuxCut,
  type YamuxFollower,
  type YamuxLoss,
  type YamuxStreamObserver,
} from '../yamux/followed-session.js';
import { YamuxType } from '../yamux/yamux-frame.js';
import { BACKCHANNEL_MAGIC } from './magic.js';
import { Sidechannel } from './sidechannel.js';

/** The reason for which a part of a backchannel can no longer be followed. A closed set. */
export type BackchannelLoss = YamuxLoss | Http2Loss | ExceededLimit | 'stream_kind' | 'sidechannel';

/** Header of a frame: version 0, type go away, no flags, no stream, code 1. */
const YAMUX_PROTOCOL_ERROR = Buffer.from([0, YamuxType.goAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/** The first byte of an HTTP/2 preface, and of a sidechannel's magic. */
const HTTP2_FIRST = 'P'.charCodeAt(0);
const SIDECHANNEL_FIRST = 's'.charCodeAt(0);

/**
 * Follows a backchannel: a yamux session whose first stream carries the client's gRPC connection, and on which Gitaly
 * opens streams of its own: to call the client by gRPC, and sidechannels.
 */
export class BackchannelInspector implements YamuxFollower<ExceededLimit> {
  readonly #events: InspectionEvents;
  readonly #limits: AbuseLimits;
  readonly #share: CallShare;
  readonly #judging: CallJudging | undefined;
  readonly #session: FollowedSession<ExceededLimit>;
  readonly #connections = new Set<FollowedConnection>();
  readonly #sidechannels = new Set<Sidechannel>();
  /** Open calls that carry the id of a sidechannel, by that id. */
  readonly #callsBySidechannel = new Map<string, GrpcCall>();
  #hasClientStream = false;
  #loss: BackchannelLoss | undefined;

  /** `share`: the calls that the connection may follow. `judging`: judges those of the client. */
  constructor(events: InspectionEvents, limits: AbuseLimits, share: CallShare, judging?: CallJudging) {
    this.#judging = judging;
    this.#events = events;
    this.#limits = limits;
    this.#share = share;
    this.#session = new FollowedSession<ExceededLimit>(BACKCHANNEL_MAGIC, this, limits.smallFrames);
  }

  /** The gRPC connections that are open on it. */
  get connections(): Iterable<FollowedConnection> {
    return this.#connections;
  }

  /** The sidechannels that are open. */
  get sidechannels(): Iterable<Sidechannel> {
    return this.#sidechannels;
  }

  /** Reads the bytes of an end. Returns why they cannot be followed, or which limit was exceeded. */
  read(
    sender: Sender,
    bytes: Buffer,
    start: number,
    end: number,
    nowMs: number,
  ): BackchannelLoss | undefined {
    const failure = this.#session.read(sender, bytes, start, end, nowMs);
    if (failure !== undefined && isLimit(failure)) return failure;
    return (this.#loss ??= failure);
  }

  /** The limit that the client has exceeded by taking longer than `headerBlockMs` for a header block; called periodically. */
  overdue(nowMs: number, headerBlockMs: number): ExceededLimit | undefined {
    for (const { http2 } of this.#connections) {
      const limit = http2.overdue(nowMs, headerBlockMs);
      if (limit !== undefined) return limit;
    }
    return undefined;
  }

  /**
   * Nothing is inserted: what yamux carries has windows of its own, of which a byte more would be one too many. The
   * connection can be closed whenever neither a call nor a sidechannel is open.
   */
  edit(): DrainingEditor<BackchannelLoss> {
    // Calls within yamux are not judged yet: nothing passes if they are to be.
    let failure: BackchannelLoss | undefined = this.#judging ? 'unjudged_block' : this.#loss;
    const isIdle = (): boolean => this.#isIdle;
    return {
      pass: (sender, bytes, nowMs) => {
        failure = this.#judging ? 'unjudged_block' : this.read(sender, bytes, 0, bytes.length, nowMs);
        return bytes;
      },
      get failure() {
        return failure;
      },
      drain: () => ({
        announced: false,
        insist: () => undefined,
        get finished() {
          return failure === undefined && isIdle();
        },
      }),
    };
  }

  /** The last frame to the client, at a frame boundary: GO AWAY with "protocol error". */
  get refusal(): Buffer {
    return this.#session.atBoundary('server') ? YAMUX_PROTOCOL_ERROR : Buffer.alloc(0);
  }

  /** The connection has ended. */
  end(nowMs: number): void {
    this.#session.end(nowMs);
  }

  /** Called by the session. */
  take(): CallRefusal | undefined {
    return this.#share.take();
  }

  /** Called by the session. */
  giveBack(): void {
    this.#share.giveBack();
  }

  /** Called by the session when a stream begins. Gitaly accepts the first stream of the client and no other. */
  open(opener: Sender, streamId: number, windows: SendWindows): YamuxStreamObserver<ExceededLimit> {
    const isExpected = opener === 'server' || !this.#hasClientStream;
    if (opener === 'client') this.#hasClientStream = true;
    return new BackchannelStream(opener, isExpected, {
      http2: () => this.#http2(opener),
      sidechannel: (nowMs) => this.#sidechannel(streamId, windows, nowMs),
      lost: (loss) => (this.#loss ??= loss),
    });
  }

  get #isIdle(): boolean {
    if (this.#sidechannels.size > 0) return false;
    for (const { http2 } of this.#connections) if (http2.openStreams > 0) return false;
    return true;
  }

  #http2(opener: Sender): StreamKind | 'too_many_connections' {
    if (this.#connections.size >= MAX_BACKCHANNEL_CONNECTIONS) return 'too_many_connections';
    const direction = opener === 'client' ? 'to_upstream' : 'to_client';
    const events = {
      started: (call: GrpcCall) => {
        const { sidechannelId } = call.start;
        if (sidechannelId !== undefined && !this.#callsBySidechannel.has(sidechannelId))
          this.#callsBySidechannel.set(sidechannelId, call);
        return this.#events.started(call);
      },
      stallsOf: (context: CallContext) => this.#events.stallsOf?.(context),
      released: (call: GrpcCall) => {
        const { sidechannelId } = call.start;
        if (sidechannelId !== undefined && this.#callsBySidechannel.get(sidechannelId) === call)
          this.#callsBySidechannel.delete(sidechannelId);
      },
    };
    const connection = new FollowedConnection(
      { protocol: 'backchannel', direction },
      events,
      this.#limits,
      this.#share,
    );
    this.#connections.add(connection);
    const over = (why: YamuxCut | 'finished', nowMs: number): void => {
      this.#connections.delete(connection);
      connection.end(why === 'lost' ? 'lost' : 'connection', nowMs);
    };
    return {
      data: (sender, bytes, start, end, nowMs) =>
        connection.read(sender === opener ? 'client' : 'server', bytes, start, end, nowMs),
      accepted: (isAccepted) => (connection.isAccepted = isAccepted),
      finished: (nowMs) => over('finished', nowMs),
      cut: over,
    };
  }

  #sidechannel(streamId: number, windows: SendWindows, nowMs: number): StreamKind {
    const findCall = (id: string): GrpcCall | undefined => this.#callsBySidechannel.get(id);
    const sidechannel = new Sidechannel(streamId, windows, nowMs, findCall, this.#events);
    this.#sidechannels.add(sidechannel);
    const over = (how: YamuxCut | 'finished', endedAtMs: number): void => {
      if (!this.#sidechannels.delete(sidechannel)) return;
      if (how === 'finished') sidechannel.finished(endedAtMs);
      else sidechannel.cut(how, endedAtMs);
    };
    return {
      data: (sender, bytes, start, end, atMs) => {
        if (sidechannel.data(sender, bytes, start, end)) return undefined;
        over('lost', atMs);
        return 'sidechannel';
      },
      accepted: () => undefined,
      finished: (endedAtMs) => over('finished', endedAtMs),
      cut: over,
    };
  }
}

/** The content of a stream; `data` returns why it cannot be followed, or which limit was exceeded. */
interface StreamKind {
  data(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): BackchannelLoss | undefined;
  /** Whether its content is followed; limits apply either way. */
  accepted(isAccepted: boolean): void;
  finished(nowMs: number): void;
  cut(why: YamuxCut, nowMs: number): void;
}

/** Makes who follows a stream, by what it turns out to carry. */
interface StreamKinds {
  http2(nowMs: number): StreamKind | 'too_many_connections';
  sidechannel(nowMs: number): StreamKind;
  /** This stream cannot be followed; the others can. */
  lost(loss: BackchannelLoss): void;
}

/**
 * A stream whose first byte identifies its content. If the client opened it and Gitaly has not accepted it, and may never
 * accept it, only the limits apply: its calls are not counted yet.
 */
class BackchannelStream implements YamuxStreamObserver<ExceededLimit> {
  readonly #opener: Sender;
  readonly #kinds: StreamKinds;
  #isAccepted: boolean;
  #kind: StreamKind | undefined;
  #loss: BackchannelLoss | undefined;

  constructor(opener: Sender, isAccepted: boolean, kinds: StreamKinds) {
    this.#opener = opener;
    this.#isAccepted = isAccepted;
    this.#kinds = kinds;
  }

  data(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): ExceededLimit | undefined {
    if (!this.#kind && this.#loss === undefined) {
      const kind = this.#choose(sender, bytes[start] ?? 0, nowMs);
      if (typeof kind === 'object') {
        this.#kind = kind;
        kind.accepted(this.#isAccepted);
      } else if (kind === 'too_many_connections' && this.#opener === 'client') return kind;
      else this.#lose('stream_kind');
    }
    const failure = this.#kind?.data(sender, bytes, start, end, nowMs);
    if (failure === undefined) return undefined;
    if (isLimit(failure)) return failure;
    this.#lose(failure);
    return undefined;
  }

  accepted(): void {
    this.#isAccepted = true;
    this.#kind?.accepted(true);
    if (this.#loss !== undefined) this.#kinds.lost(this.#loss);
  }

  finished(nowMs: number): void {
    this.#kind?.finished(nowMs);
  }

  cut(why: YamuxCut, nowMs: number): void {
    this.#kind?.cut(why, nowMs);
  }

  /** A stream that has not been accepted loses nothing. */
  #lose(loss: BackchannelLoss): void {
    this.#loss ??= loss;
    if (this.#isAccepted) this.#kinds.lost(loss);
  }

  #choose(sender: Sender, first: number, nowMs: number): StreamKind | 'too_many_connections' | 'stream_kind' {
    // A gRPC server may send its SETTINGS before the preface has reached it; everything else is begun by the opener.
    if (sender !== this.#opener || first === HTTP2_FIRST) return this.#kinds.http2(nowMs);
    if (first === SIDECHANNEL_FIRST && this.#opener === 'server') return this.#kinds.sidechannel(nowMs);
    return 'stream_kind';
  }
}
