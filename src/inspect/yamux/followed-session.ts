import { ABUSE_LIMITS, DATA_BYTES_PER_SMALL_FRAME, MAX_UNACCEPTED_STREAMS } from '../../limits.js';
import type { CallRefusal } from '../call-pool.js';
import { FrameReader, type FrameSink, type PayloadUse } from '../frame-reader.js';
import { RateBucket, type Rate } from '../rate-bucket.js';
import { SendWindow, type SendWindows } from '../send-window.js';
import type { Sender } from '../sender.js';
import { YAMUX_HEADER_BYTES, YAMUX_INITIAL_WINDOW_BYTES, YamuxFlag, YamuxType } from './yamux-frame.js';

/** The reason for which a session can no longer be followed; its peer would end it for the same reason. A closed set. */
export type YamuxLoss = 'magic' | 'yamux_frame' | 'call_budget';

/** A limit that a client has exceeded. A closed set. */
export type YamuxLimit = 'too_many_streams' | 'unaccepted_streams' | 'yamux_flood';

/** The reason for which a stream is over without an end on both sides. */
export type YamuxCut = 'reset' | 'connection' | 'lost';

/** Follows one stream of a session. Its calls come in the order of the wire. */
export interface YamuxStreamObserver<Limit> {
  /** `bytes` is a view that is reused after the call. Returns the limit that was exceeded: then nothing more is read. */
  data(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): Limit | undefined;
  /** The end that did not open the stream has accepted it. */
  accepted(): void;
  /** FIN of both ends: the stream is over. */
  finished(nowMs: number): void;
  /** The stream is over without that. */
  cut(why: YamuxCut, nowMs: number): void;
}

/** Creates the observers of a session's streams. */
export interface YamuxFollower<Limit> {
  open(opener: Sender, streamId: number, windows: SendWindows): YamuxStreamObserver<Limit>;
  /** Reserves a place for one more stream, or returns why it cannot be followed. */
  take(): CallRefusal | undefined;
  giveBack(): void;
}

interface Stream<Limit> {
  /** `client_done`: the client has sent FIN and the server has not; `server_done` the other way round. */
  state: 'open' | 'client_done' | 'server_done';
  readonly opener: Sender;
  isAccepted: boolean;
  readonly observer: YamuxStreamObserver<Limit>;
  readonly windows: SendWindows;
}

/**
 * Follows a yamux session from outside: takes the bytes of both ends as they pass, after the client's `preface`, and reports
 * the content of each stream. It does no I/O and keeps no payload. It accepts whatever the libraries of hashicorp and libp2p
 * accept: any id that no open stream has, and frames of streams that are not open, which they ignore.
 */
export class FollowedSession<Limit> {
  readonly #follower: YamuxFollower<Limit>;
  readonly #ends: Readonly<Record<Sender, YamuxEnd<Limit>>>;
  readonly #streams = new Map<number, Stream<Limit>>();
  /** Streams that the client has opened and the server has not accepted. */
  #unaccepted = 0;
  /** Frames of the client other than data of open streams. */
  readonly #small: RateBucket;
  #loss: YamuxLoss | undefined;
  #exceeded: Limit | YamuxLimit | undefined;
  #nowMs = 0;

  constructor(preface: Buffer, follower: YamuxFollower<Limit>, smallFrames: Rate = ABUSE_LIMITS.smallFrames) {
    this.#follower = follower;
    this.#small = new RateBucket(smallFrames);
    this.#ends = {
      client: new YamuxEnd('client', this, preface),
      server: new YamuxEnd('server', this, undefined),
    };
  }

  /** Streams that have begun and not ended. */
  get openStreams(): number {
    return this.#streams.size;
  }

  /** Whether a frame could be put between what a sender has sent and what it will send. */
  atBoundary(sender: Sender): boolean {
    return this.#ends[sender].reader.atBoundary;
  }

  /**
   * Reads the bytes of an end.
   * @returns why it cannot be followed, which is the same on every later call; or which limit was exceeded: then nothing more
   * is read
   */
  read(
    sender: Sender,
    bytes: Buffer,
    start: number,
    end: number,
    nowMs: number,
  ): Limit | YamuxLimit | YamuxLoss | undefined {
    if (this.#exceeded !== undefined) return this.#exceeded;
    this.#nowMs = nowMs;
    const { reader } = this.#ends[sender];
    if (reader.read(bytes, start, end)) return this.#loss;
    if (this.#exceeded === undefined) this.lose('magic');
    this.#cutAll('lost');
    return this.#exceeded ?? this.#loss;
  }

  /** The connection has ended. */
  end(nowMs: number): void {
    this.#nowMs = nowMs;
    this.#cutAll('connection');
  }

  /** Called by the ends when a frame begins, which may be of no stream; `false` if a limit is exceeded. */
  frame(sender: Sender, type: number, flags: number, streamId: number, length: number): boolean {
    const isOfStream = type === YamuxType.data || type === YamuxType.windowUpdate;
    let stream = isOfStream ? this.#streams.get(streamId) : undefined;
    const bytes = type === YamuxType.data ? length : 0;
    if (sender === 'server') {
      if (bytes > 0) this.#small.give(1 + bytes / DATA_BYTES_PER_SMALL_FRAME);
    } else {
      const cost = this.#costOf(stream, flags, bytes);
      if (cost > 0 && !this.#small.take(cost, this.#nowMs)) {
        this.#exceeded = 'yamux_flood';
        return false;
      }
    }
    if (!isOfStream) return true;
    if ((flags & YamuxFlag.syn) !== 0) {
      if (!this.#begin(sender, streamId)) return false;
      stream = this.#streams.get(streamId);
    }
    if (!stream) return true;
    const { client, server } = stream.windows;
    const fromClient = sender === 'client';
    if (!stream.isAccepted && sender !== stream.opener && (flags & YamuxFlag.rst) === 0) {
      stream.isAccepted = true;
      if (stream.opener === 'client') this.#unaccepted--;
      stream.observer.accepted();
    }
    // The receiver decides whether the sender exceeded its window.
    if (type === YamuxType.windowUpdate) (fromClient ? server : client).give(length, this.#nowMs);
    // Data may follow a FIN: in hashicorp's library a Close can overtake a Write, and its receiver accepts both.
    else (fromClient ? client : server).use(length, this.#nowMs);
    if ((flags & YamuxFlag.rst) !== 0) this.#cut(streamId, stream, 'reset');
    return true;
  }

  /** For the ends: a part of a stream's data. */
  data(sender: Sender, streamId: number, bytes: Buffer, start: number, end: number): boolean {
    this.#exceeded = this.#streams.get(streamId)?.observer.data(sender, bytes, start, end, this.#nowMs);
    return this.#exceeded === undefined;
  }

  /** For the ends: FIN, behind what its frame carried. */
  fin(sender: Sender, streamId: number): void {
    const stream = this.#streams.get(streamId);
    if (!stream) return;
    stream.windows[sender].close(this.#nowMs);
    if (stream.state === 'open') stream.state = done(sender);
    else if (stream.state !== done(sender)) {
      stream.observer.finished(this.#nowMs);
      this.#forget(streamId, stream);
    }
  }

  /** Called by the ends: the frames can no longer be followed. */
  lose(loss: YamuxLoss): void {
    this.#loss ??= loss;
  }

  /**
   * The tokens that a frame of the client costs. Data of an open stream is free. All else makes the server work, or log a line, for
   * nothing, however much data it carries.
   */
  #costOf(stream: Stream<Limit> | undefined, flags: number, bytes: number): number {
    if (bytes === 0 || (flags & (YamuxFlag.syn | YamuxFlag.rst)) !== 0) return 1;
    if (stream) return stream.state === 'client_done' ? 1 : 0;
    // The stream may be open and not followed.
    return this.#loss === 'call_budget' ? Math.max(1 - bytes / DATA_BYTES_PER_SMALL_FRAME, 0) : 1;
  }

  #begin(sender: Sender, streamId: number): boolean {
    const former = this.#streams.get(streamId);
    // The receiver ends the session, unless it gave up the stream before this end noticed.
    if (former) this.#cut(streamId, former, 'lost');
    if (sender === 'client' && this.#unaccepted >= MAX_UNACCEPTED_STREAMS) {
      this.#exceeded = 'unaccepted_streams';
      return false;
    }
    const refusal = this.#follower.take();
    if (refusal === 'too_many_streams' && sender === 'client') {
      this.#exceeded = refusal;
      return false;
    }
    if (refusal) {
      // Only this stream is not followed: the limits on the content of the others still apply.
      this.#loss ??= 'call_budget';
      return true;
    }
    const windows = {
      client: new SendWindow(YAMUX_INITIAL_WINDOW_BYTES),
      server: new SendWindow(YAMUX_INITIAL_WINDOW_BYTES),
    };
    const observer = this.#follower.open(sender, streamId, windows);
    if (sender === 'client') this.#unaccepted++;
    this.#streams.set(streamId, { state: 'open', opener: sender, isAccepted: false, observer, windows });
    return true;
  }

  #cut(streamId: number, stream: Stream<Limit>, why: YamuxCut): void {
    stream.observer.cut(why, this.#nowMs);
    this.#forget(streamId, stream);
  }

  #forget(streamId: number, { opener, isAccepted, windows }: Stream<Limit>): void {
    this.#streams.delete(streamId);
    if (opener === 'client' && !isAccepted) this.#unaccepted--;
    windows.client.close(this.#nowMs);
    windows.server.close(this.#nowMs);
    this.#follower.giveBack();
  }

  #cutAll(why: YamuxCut): void {
    for (const [streamId, stream] of [...this.#streams]) this.#cut(streamId, stream, why);
  }
}

/** The frames that one end sends. */
class YamuxEnd<Limit> implements FrameSink {
  readonly reader: FrameReader;
  payloadBytes = 0;
  readonly #sender: Sender;
  readonly #session: FollowedSession<Limit>;
  #streamId = 0;
  #flags = 0;

  constructor(sender: Sender, session: FollowedSession<Limit>, preface: Buffer | undefined) {
    this.#sender = sender;
    this.#session = session;
    this.reader = new FrameReader(this, { headerBytes: YAMUX_HEADER_BYTES, preface });
  }

  header(bytes: Buffer, offset: number): PayloadUse | undefined {
    const type = bytes[offset + 1] ?? 0;
    const streamId = bytes.readUInt32BE(offset + 4);
    const length = bytes.readUInt32BE(offset + 8);
    this.payloadBytes = type === YamuxType.data ? length : 0;
    this.#streamId = streamId;
    // Unknown flags are ignored, as its receiver does.
    this.#flags = bytes.readUInt16BE(offset + 2);
    if (bytes[offset] !== 0 || type > YamuxType.goAway) {
      this.#session.lose('yamux_frame');
      return undefined;
    }
    if (!this.#session.frame(this.#sender, type, this.#flags, streamId, length)) return undefined;
    return type === YamuxType.ping || type === YamuxType.goAway ? 'skip' : 'stream';
  }

  part(bytes: Buffer, start: number, end: number, last: boolean): boolean {
    if (end > start && !this.#session.data(this.#sender, this.#streamId, bytes, start, end)) return false;
    if (last && (this.#flags & YamuxFlag.fin) !== 0) this.#session.fin(this.#sender, this.#streamId);
    return true;
  }

  payload(): boolean {
    return true;
  }
}

function done(sender: Sender): 'client_done' | 'server_done' {
  return sender === 'client' ? 'client_done' : 'server_done';
}
