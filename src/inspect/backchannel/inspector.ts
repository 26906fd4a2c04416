import { MAX_BACKCHANNEL_CONNECTIONS } from '../../limits.js';
import type { Drain } from '../drain.js';
import type { GrpcCall } from '../grpc/call.js';
import { GrpcConnection } from '../grpc/connection.js';
import type { InspectionEvents } from '../events.js';
import type { Http2Failure } from '../http2/side.js';
import type { SendWindows } from '../send-window.js';
import type { Sender } from '../sender.js';
import {
  YamuxSession,
  type YamuxCut,
  type YamuxFailure,
  type YamuxStreamObserver,
} from '../yamux/session.js';
import { YamuxType } from '../yamux/frame.js';
import { BACKCHANNEL_MAGIC } from './magic.js';
import { Sidechannel } from './sidechannel.js';

/** Why a backchannel cannot be followed any further. A closed set. */
export type BackchannelFailure =
  YamuxFailure | Http2Failure | 'stream_kind' | 'sidechannel' | 'too_many_connections';

/** Header of a frame: version 0, type go away, no flags, no stream, code 1. */
const YAMUX_PROTOCOL_ERROR = Buffer.from([0, YamuxType.goAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/** The first byte of an HTTP/2 preface, and of a sidechannel's magic. */
const HTTP2_FIRST = 'P'.charCodeAt(0);
const SIDECHANNEL_FIRST = 's'.charCodeAt(0);

/**
 * Follows a backchannel: a yamux session whose first stream carries the client's gRPC connection, and on which Gitaly
 * opens streams of its own: to call the client by gRPC, and sidechannels.
 */
export class BackchannelInspector {
  readonly #events: InspectionEvents;
  readonly #session: YamuxSession<BackchannelFailure>;
  readonly #connections = new Set<GrpcConnection>();
  readonly #sidechannels = new Set<Sidechannel>();

  constructor(events: InspectionEvents) {
    this.#events = events;
    this.#session = new YamuxSession<BackchannelFailure>(BACKCHANNEL_MAGIC, (opener, streamId, windows) => {
      return new BackchannelStream(opener, {
        http2: () => this.#http2(opener),
        sidechannel: (nowMs) => this.#sidechannel(streamId, windows, nowMs),
      });
    });
  }

  /** The gRPC connections that are open on it. */
  get connections(): Iterable<GrpcConnection> {
    return this.#connections;
  }

  /** The sidechannels that are open. */
  get sidechannels(): Iterable<Sidechannel> {
    return this.#sidechannels;
  }

  /** Reads what an end has sent; why it cannot be followed, and ever after the same. */
  read(
    sender: Sender,
    bytes: Buffer,
    start: number,
    end: number,
    nowMs: number,
  ): BackchannelFailure | undefined {
    return this.#session.read(sender, bytes, start, end, nowMs);
  }

  /** Why the client is to be given up although it may have sent nothing; asked now and then. */
  overdue(nowMs: number): BackchannelFailure | undefined {
    for (const { context, http2 } of this.#connections) {
      const failure = context.direction === 'to_upstream' ? http2.overdue(nowMs) : undefined;
      if (failure !== undefined) return failure;
    }
    return undefined;
  }

  /**
   * Nothing is put in: what yamux carries has windows of its own, of which a byte more would be one too many. The
   * connection can be closed whenever neither a call nor a sidechannel is open.
   */
  drain(): Drain<BackchannelFailure> {
    let failure: BackchannelFailure | undefined;
    const isIdle = (): boolean => this.#isIdle;
    return {
      announced: false,
      insist: () => undefined,
      pass: (sender, bytes, nowMs) => {
        failure = this.read(sender, bytes, 0, bytes.length, nowMs);
        return bytes;
      },
      get failure() {
        return failure;
      },
      get finished() {
        return isIdle();
      },
    };
  }

  /** What the client is told last, where it can be told: GO AWAY with "protocol error". */
  get refusal(): Buffer {
    return this.#session.atBoundary('server') ? YAMUX_PROTOCOL_ERROR : Buffer.alloc(0);
  }

  /** The connection has ended. */
  end(nowMs: number): void {
    this.#session.end(nowMs);
  }

  get #isIdle(): boolean {
    if (this.#sidechannels.size > 0) return false;
    for (const { http2 } of this.#connections) if (http2.openStreams > 0) return false;
    return true;
  }

  #http2(opener: Sender): YamuxStreamObserver<BackchannelFailure> {
    if (this.#connections.size >= MAX_BACKCHANNEL_CONNECTIONS) return ONE_TOO_MANY;
    const direction = opener === 'client' ? 'to_upstream' : 'to_client';
    const connection = new GrpcConnection({ protocol: 'backchannel', direction }, this.#events);
    this.#connections.add(connection);
    const over = (why: YamuxCut | 'finished', nowMs: number): void => {
      this.#connections.delete(connection);
      connection.end(why === 'lost' ? 'lost' : 'connection', nowMs);
    };
    return {
      data: (sender, bytes, start, end, nowMs) =>
        connection.read(sender === opener ? 'client' : 'server', bytes, start, end, nowMs),
      finished: (nowMs) => over('finished', nowMs),
      cut: over,
    };
  }

  #sidechannel(
    streamId: number,
    windows: SendWindows,
    nowMs: number,
  ): YamuxStreamObserver<BackchannelFailure> {
    const sidechannel = new Sidechannel(streamId, windows, nowMs, (id) => this.#callOf(id), this.#events);
    this.#sidechannels.add(sidechannel);
    return {
      data: (sender, bytes, start, end) => sidechannel.data(sender, bytes, start, end),
      finished: (endedAtMs) => {
        this.#sidechannels.delete(sidechannel);
        sidechannel.finished(endedAtMs);
      },
      cut: (why, endedAtMs) => {
        this.#sidechannels.delete(sidechannel);
        sidechannel.cut(why, endedAtMs);
      },
    };
  }

  #callOf(sidechannelId: string): GrpcCall | undefined {
    for (const connection of this.#connections) {
      for (const call of connection.calls()) if (call.start.sidechannelId === sidechannelId) return call;
    }
    return undefined;
  }
}

/** Streams times streams would be more than can be held. */
const ONE_TOO_MANY: YamuxStreamObserver<BackchannelFailure> = {
  data: () => 'too_many_connections',
  finished: () => undefined,
  cut: () => undefined,
};

/** Makes who follows a stream, by what it turns out to carry. */
type StreamKinds = Readonly<
  Record<'http2' | 'sidechannel', (nowMs: number) => YamuxStreamObserver<BackchannelFailure>>
>;

/** A stream whose first byte says what it carries. */
class BackchannelStream implements YamuxStreamObserver<BackchannelFailure> {
  readonly #opener: Sender;
  readonly #kinds: StreamKinds;
  #observer: YamuxStreamObserver<BackchannelFailure> | undefined;

  constructor(opener: Sender, kinds: StreamKinds) {
    this.#opener = opener;
    this.#kinds = kinds;
  }

  data(
    sender: Sender,
    bytes: Buffer,
    start: number,
    end: number,
    nowMs: number,
  ): BackchannelFailure | undefined {
    this.#observer ??= this.#choose(sender, bytes[start] ?? 0)?.(nowMs);
    return this.#observer ? this.#observer.data(sender, bytes, start, end, nowMs) : 'stream_kind';
  }

  finished(nowMs: number): void {
    this.#observer?.finished(nowMs);
  }

  cut(why: YamuxCut, nowMs: number): void {
    this.#observer?.cut(why, nowMs);
  }

  #choose(sender: Sender, first: number) {
    // A gRPC server may say its SETTINGS before the preface has reached it; all else is begun by the opener.
    if (sender !== this.#opener || first === HTTP2_FIRST) return this.#kinds.http2;
    return first === SIDECHANNEL_FIRST && this.#opener === 'server' ? this.#kinds.sidechannel : undefined;
  }
}
