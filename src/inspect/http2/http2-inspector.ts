import {
  ABUSE_LIMITS,
  DATA_BYTES_PER_SMALL_FRAME,
  STREAMS_PER_CONTROL_FRAME,
  UNFOLLOWED_DATA_PAYS,
} from '../../limits.js';
import type { AbuseLimits } from '../abuse-limits.js';
import type { CallRefusal } from '../call-pool.js';
import type { FieldNames } from '../hpack/field-names.js';
import { RateBucket } from '../rate-bucket.js';
import { SendWindow, type SendWindows, type StallTallies } from '../send-window.js';
import { other, type Sender } from '../sender.js';
import { goAwayFrame, settingsFrame } from './encode.js';
import { ErrorCode, FrameType } from './http2-frame.js';
import { FrameLimit, type LimitedFrame } from './frame-limit.js';
import { ResetLimit } from './reset-limit.js';
import { Http2Side, type Http2Limit, type Http2Loss, type SideEvents } from './http2-side.js';
import type { FieldValues, StreamObserver } from './stream-observer.js';
import { EVENT, STATE, transition } from './stream-state.js';
import { StreamTable } from './stream-table.js';

/** Creates the observers of a connection's streams. */
export interface StreamFollower<Observer extends StreamObserver> {
  /** A stream begins. Returns its observer, the reason if it cannot be followed, or `undefined` if it need not be. */
  open(streamId: number, windows: SendWindows): Observer | CallRefusal | undefined;
  /** The stream is no longer followed; its observer has been notified of its end. */
  release(observer: Observer): void;
  /** Whether the proxy has refused this stream, and its client may still send on it. */
  isRefused?(streamId: number): boolean;
  /** Counts how long the windows of its streams are empty. */
  readonly stalls?: StallTallies | undefined;
}

/** RFC 9113 section 6.9.2: "the initial flow-control window size is 65,535 octets". */
const DEFAULT_WINDOW_BYTES = 65_535;

/**
 * RFC 9113 section 7: codes by which a server reports an error of its client (PROTOCOL, FLOW_CONTROL, STREAM_CLOSED,
 * FRAME_SIZE).
 */
const FAULT_CODES: ReadonlySet<number> = new Set([1, 3, 5, 6]);

interface Stream<Observer> {
  /** Number of `STATE`. */
  state: number;
  /** The server has begun to answer. */
  isAnswered: boolean;
  readonly observer: Observer;
  /** How much each end may still send. */
  readonly windows: SendWindows;
}

/**
 * Follows an HTTP/2 connection (RFC 9113) from outside: takes the bytes of both ends as they pass and reports the events on its
 * streams. It does no I/O and keeps no payload. If the HPACK tables get out of step, calls can no longer be followed, in either
 * direction; the limits on frames still apply.
 */
export class Http2Inspector<Observer extends StreamObserver> implements SideEvents {
  readonly #sides: Readonly<Record<Sender, Http2Side>>;
  readonly #follower: StreamFollower<Observer>;
  /** The end whose frames are limited: the one that is not Gitaly. */
  readonly #limited: Sender;
  readonly #streams = new StreamTable<Stream<Observer>>();
  readonly #windows: Readonly<Record<Sender, SendWindow>> = {
    client: new SendWindow(DEFAULT_WINDOW_BYTES),
    server: new SendWindow(DEFAULT_WINDOW_BYTES),
  };
  /** The window of a new stream, by its sender. */
  readonly #initialWindowBytes: Record<Sender, number> = {
    client: DEFAULT_WINDOW_BYTES,
    server: DEFAULT_WINDOW_BYTES,
  };
  readonly #maxCalls: number;
  readonly #resets: ResetLimit;
  /** Frames of the limited end. */
  readonly #frames: FrameLimit;
  readonly #tooLarge: RateBucket;
  #lastStreamId = 0;
  /** The stream that the last frame was of: the next is so too, more often than not. */
  #current: Stream<Observer> | undefined;
  #currentId = 0;
  #loss: Http2Loss | undefined;
  #exceeded: Http2Limit | undefined;
  /** The number of open streams without an observer since inspection was lost; some of them may have ended. */
  #unfollowed = 0;
  /** Whether a stream began that need not be followed. */
  #hasUnobserved = false;
  #nowMs = 0;

  constructor(
    names: FieldNames,
    follower: StreamFollower<Observer>,
    limited: Sender = 'client',
    limits: AbuseLimits = ABUSE_LIMITS,
  ) {
    this.#follower = follower;
    this.#limited = limited;
    this.#maxCalls = limits.callsPerConnection;
    this.#resets = new ResetLimit(limits);
    this.#frames = new FrameLimit(limits);
    this.#tooLarge = new RateBucket(limits.oversizedHeaders);
    this.#sides = {
      client: new Http2Side('client', names, this, limits.headerListBytes),
      server: new Http2Side('server', names, this, limits.headerListBytes),
    };
  }

  /** For the sides. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Whether the client has exceeded the time for a header block; called periodically. */
  overdue(nowMs: number, headerBlockMs: number): Http2Limit | undefined {
    const beganAtMs = this.#sides[this.#limited].headerBlockBeganAtMs ?? nowMs;
    return nowMs - beganAtMs > headerBlockMs ? 'slow_block' : undefined;
  }

  /** Whether streams are known: they can be followed no more after a loss. */
  get isFollowed(): boolean {
    return this.#loss === undefined;
  }

  /** Whether the frames are known, which they are after most losses. */
  get isFramed(): boolean {
    return this.#exceeded === undefined && this.#loss !== 'preface';
  }

  /** Streams that have begun and not ended. */
  get openStreams(): number {
    return this.#streams.size;
  }

  /** The observers, the oldest first, at most `limit` of them. */
  *observers(limit = Number.POSITIVE_INFINITY): Iterable<Observer> {
    for (const [, { observer }] of this.#streams.entries(limit)) yield observer;
  }

  /** The highest stream that has begun; 0 before the first. */
  get lastStreamId(): number {
    return this.#lastStreamId;
  }

  /** The same, but with the stream whose header block is open. */
  get lastStreamIdSent(): number {
    return Math.max(this.#lastStreamId, this.#sides.client.headerBlockStreamId);
  }

  /** Whether a frame could be put between what a sender has sent and what it will send. */
  atBoundary(sender: Sender): boolean {
    return this.#sides[sender].atBoundary;
  }

  /** The last frames to the client, at a frame boundary: ENHANCE_YOUR_CALM. */
  get refusal(): Buffer {
    const goAway = goAwayFrame(this.#lastStreamId, ErrorCode.enhanceYourCalm);
    const { server } = this.#sides;
    if (server.atBoundary) return goAway;
    // RFC 9113 section 3.4: SETTINGS must be a server's first frame.
    return server.hasBegun ? Buffer.alloc(0) : Buffer.concat([settingsFrame('settings'), goAway]);
  }

  /** Whether what a sender has sent ends where a frame ends, outside of a header block. */
  isBetweenFrames(sender: Sender): boolean {
    return this.#sides[sender].isBetweenFrames;
  }

  /** Bytes that a sender will send before its next boundary, at the least. */
  bytesToBoundary(sender: Sender): number {
    return this.#sides[sender].reader.bytesToBoundary;
  }

  /**
   * Reads the bytes of an end.
   * @returns why its calls cannot be followed, which is the same on every later call; or which limit was exceeded: then nothing
   * more is read
   */
  read(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): Http2Loss | undefined {
    if (this.#exceeded) return this.#exceeded;
    this.#nowMs = nowMs;
    const side = sender === 'client' ? this.#sides.client : this.#sides.server;
    if (side.reader.read(bytes, start, end)) return this.#loss;
    return this.#stopped();
  }

  /** The connection has ended, or what carries it cannot be followed; what was open is cut. */
  end(why: 'connection' | 'lost', nowMs: number): void {
    this.#nowMs = nowMs;
    this.#cutAll(why);
  }

  /** Called by the sides. */
  lose(loss: Http2Loss): void {
    if (this.#loss) return;
    this.#loss = loss;
    this.#unfollowed = this.#streams.size;
    for (const side of Object.values(this.#sides)) side.stopReadingHeaders();
    this.#cutAll('lost');
  }

  /** Called by the sides. */
  exceed(sender: Sender, limit: Http2Limit): boolean {
    if (sender === this.#limited) this.#exceeded ??= limit;
    else this.lose('frame');
    return sender !== this.#limited;
  }

  headers(sender: Sender, streamId: number, values: FieldValues | undefined): boolean {
    let stream = this.#find(streamId);
    if (!stream) {
      // RFC 9113 section 5.1.1: streams of a client have odd numbers, and each a higher one than the last.
      if (sender === 'server' || streamId <= this.#lastStreamId || streamId % 2 === 0)
        return (
          (sender === 'server' && this.mayBeOpen(streamId)) || this.frame(sender, 'small', FrameType.headers)
        );
      this.#lastStreamId = streamId;
      this.#resets.opened(streamId, this.#nowMs);
      if (this.#loss) return this.#beginUnfollowed();
      const opened = this.#begin(streamId);
      if (typeof opened === 'string') {
        if (opened === 'too_many_streams' && this.#limited === 'client') return this.exceed('client', opened);
        this.lose('call_budget');
        return this.#beginUnfollowed();
      }
      if (!opened) {
        this.#hasUnobserved = true;
        return true;
      }
      stream = opened;
    } else if (sender === 'client' && !this.frame(sender, 'small', FrameType.headers)) {
      // Only a server sends HEADERS more than once on a stream (RFC 9113 section 8.1), apart from trailers.
      return false;
    }
    if (this.#move(stream, sender === 'client' ? EVENT.client_headers : EVENT.server_headers)) {
      if (sender === 'server') stream.isAnswered = true;
      if (values) stream.observer.headers(sender, values, this.#nowMs);
    }
    return true;
  }

  dataFrame(sender: Sender, streamId: number, length: number, content: number): boolean {
    const fromClient = sender === 'client';
    const window = fromClient ? this.#windows.client : this.#windows.server;
    window.use(length, this.#nowMs);
    const stream = this.#find(streamId);
    if (!stream) {
      if (content > 0 && this.#loss && sender !== this.#limited) this.#pay(content, UNFOLLOWED_DATA_PAYS);
      return false;
    }
    const streamWindow = fromClient ? stream.windows.client : stream.windows.server;
    streamWindow.use(length, this.#nowMs);
    // A frame that is small because there was no more window pays for nothing: its reader may be who makes it so.
    if (content > 0 && sender !== this.#limited)
      this.#pay(content, window.bytes > 0 && streamWindow.bytes > 0 ? 2 : 0);
    return this.#move(stream, fromClient ? EVENT.client_data : EVENT.server_data);
  }

  mayBeOpen(streamId: number): boolean {
    const hasUnknown = this.#loss !== undefined || this.#hasUnobserved;
    return (hasUnknown && streamId % 2 === 1 && streamId <= this.#lastStreamId) || this.#isRefused(streamId);
  }

  content(sender: Sender, streamId: number, content: number): void {
    if (content === 0 || sender === this.#limited) return;
    const stream = this.#find(streamId);
    if (stream)
      this.#pay(content, this.#windows[sender].bytes > 0 && stream.windows[sender].bytes > 0 ? 2 : 0);
    else if (this.#loss) this.#pay(content, UNFOLLOWED_DATA_PAYS);
  }

  data(sender: Sender, streamId: number, bytes: Buffer, start: number, end: number): void {
    this.#find(streamId)?.observer.data(sender, bytes, start, end);
  }

  endStream(sender: Sender, streamId: number): void {
    const fromClient = sender === 'client';
    const stream = this.#find(streamId);
    if (!fromClient && (stream || this.#loss)) {
      this.#resets.answered();
      if (this.#unfollowed > 0) this.#unfollowed--;
    }
    if (!stream) return;
    if (!this.#move(stream, fromClient ? EVENT.client_end : EVENT.server_end)) return;
    (fromClient ? stream.windows.client : stream.windows.server).close(this.#nowMs);
    stream.observer.ended(sender, this.#nowMs);
    if (stream.state === STATE.closed) this.#forget(streamId, stream);
  }

  reset(sender: Sender, streamId: number, errorCode: number): boolean {
    const exceeded = this.#takeReset(sender, streamId, errorCode);
    if (exceeded) {
      this.#exceeded ??= exceeded;
      return false;
    }
    const stream = this.#find(streamId);
    if (!stream) {
      if (this.#unfollowed > 0) this.#unfollowed--;
      return true;
    }
    stream.observer.reset(sender, errorCode, this.#nowMs);
    this.#forget(streamId, stream);
    return true;
  }

  frame(sender: Sender, kind: LimitedFrame, type: number): boolean {
    if (sender !== this.#limited) {
      // A PING, or SETTINGS, requires an answer.
      if (kind === 'control') this.#frames.give('small', 1);
      return true;
    }
    // SETTINGS can change the window of every stream.
    const changesWindows = kind === 'control' && type === FrameType.settings;
    const cost = changesWindows ? 1 + this.#streams.size / STREAMS_PER_CONTROL_FRAME : 1;
    const flood = this.#frames.take(kind, this.#nowMs, cost);
    return flood === undefined || this.exceed(sender, flood);
  }

  headersTooLarge(sender: Sender): boolean {
    if (sender !== this.#limited || this.#tooLarge.take(1, this.#nowMs)) return true;
    return this.exceed(sender, 'hpack_too_large');
  }

  /** RFC 9113 section 6.8: streams above the last were not and will not be processed. */
  goAway(sender: Sender, lastStreamId: number): void {
    if (sender === 'client') return;
    for (const [streamId, stream] of this.#streams.entries()) {
      if (streamId <= lastStreamId) continue;
      stream.observer.cut('refused', this.#nowMs);
      this.#forget(streamId, stream);
    }
  }

  windowUpdate(sender: Sender, streamId: number, increment: number): void {
    const windows = streamId === 0 ? this.#windows : this.#find(streamId)?.windows;
    if (windows) (sender === 'client' ? windows.server : windows.client).give(increment, this.#nowMs);
  }

  settingsAcknowledged(sender: Sender): void {
    const settings = this.#sides[other(sender)].unacknowledged.shift();
    // One excess acknowledgement is ignored, as in grpc-go.
    if (!settings) return;
    const { headerTableBytes, initialWindowBytes } = settings;
    if (headerTableBytes !== undefined) this.#sides[sender].acknowledgeTableSize(headerTableBytes);
    if (initialWindowBytes !== undefined) {
      // Section 6.9.2: "a receiver MUST adjust the size of all stream flow-control windows that it maintains by the
      // difference between the new value and the old value".
      const difference = initialWindowBytes - this.#initialWindowBytes[sender];
      this.#initialWindowBytes[sender] = initialWindowBytes;
      for (const [, { windows }] of this.#streams.entries()) windows[sender].give(difference, this.#nowMs);
    }
  }

  /** The windows of the connection as a whole. */
  get windows(): SendWindows {
    return this.#windows;
  }

  /**
   * Adds the tokens for data of the other end, because libraries measure and open windows while data arrives; `frames`: its
   * number of DATA frames.
   */
  #pay(content: number, frames: number): void {
    if (frames >= 1) this.#frames.give('control', 1);
    if (frames > 0) this.#frames.give('small', frames + content / DATA_BYTES_PER_SMALL_FRAME);
    else if (content >= DATA_BYTES_PER_SMALL_FRAME)
      this.#frames.give('small', content / DATA_BYTES_PER_SMALL_FRAME);
  }

  /** Returns the limit that a reset exceeds. */
  #takeReset(sender: Sender, streamId: number, errorCode: number): Http2Limit | undefined {
    const stream = this.#find(streamId);
    if (sender === 'server') {
      if (errorCode === ErrorCode.none) return undefined;
      if (FAULT_CODES.has(errorCode)) return this.#resets.provoked(this.#nowMs);
    }
    if (stream) {
      // The response is complete, and the reset means that the rest of the request is not needed or will not be sent.
      if (stream.state === STATE.server_done) return undefined;
      return this.#resets.reset(streamId, stream.isAnswered, this.#nowMs);
    }
    // The reset crossed the end of its stream, as happens when both ends have a timer.
    if (!this.#loss && streamId <= this.#lastStreamId) {
      if (sender !== this.#limited || this.#isRefused(streamId)) return undefined;
      return this.#frames.take('small', this.#nowMs);
    }
    return this.#resets.reset(streamId, false, this.#nowMs);
  }

  #isRefused(streamId: number): boolean {
    return this.#follower.isRefused?.(streamId) ?? false;
  }

  /** Stops reading an end: a limit is exceeded, or it does not speak HTTP/2. */
  #stopped(): Http2Loss | undefined {
    this.lose(this.#exceeded ?? 'preface');
    return this.#exceeded ?? this.#loss;
  }

  #begin(streamId: number): Stream<Observer> | CallRefusal | undefined {
    const { stalls } = this.#follower;
    const windows = {
      client: new SendWindow(this.#initialWindowBytes.client),
      server: new SendWindow(this.#initialWindowBytes.server),
    };
    const observer = this.#follower.open(streamId, windows);
    if (observer === undefined || typeof observer === 'string') return observer;
    if (stalls) {
      windows.client.countIn(stalls.client);
      windows.server.countIn(stalls.server);
    }
    const stream: Stream<Observer> = { state: STATE.idle, isAnswered: false, observer, windows };
    this.#streams.add(streamId, stream);
    this.#currentId = streamId;
    this.#current = stream;
    return stream;
  }

  /** The stream has no observer; the number of such streams is derived from begins and ends. */
  #beginUnfollowed(): boolean {
    return ++this.#unfollowed <= this.#maxCalls || this.exceed('client', 'too_many_streams');
  }

  #find(streamId: number): Stream<Observer> | undefined {
    if (streamId !== this.#currentId) {
      this.#currentId = streamId;
      this.#current = this.#streams.get(streamId);
    }
    return this.#current;
  }

  #forget(streamId: number, stream: Stream<Observer>): void {
    this.#streams.delete(streamId);
    if (streamId === this.#currentId) this.#current = undefined;
    this.#release(stream);
  }

  #release({ windows, observer }: Stream<Observer>): void {
    windows.client.close(this.#nowMs);
    windows.server.close(this.#nowMs);
    this.#follower.release(observer);
  }

  /**
   * Whether the frame has an effect. Frames that are late, or that no correct peer sends, are ignored. If their receiver
   * reacts, its reaction passes here too.
   */
  #move(stream: Stream<Observer>, event: number): boolean {
    const next = transition(stream.state, event);
    if (next >= STATE.late) return false;
    stream.state = next;
    return true;
  }

  #cutAll(why: 'connection' | 'lost'): void {
    const streams = this.#streams.entries();
    this.#streams.clear();
    this.#current = undefined;
    for (const [, stream] of streams) {
      stream.observer.cut(why, this.#nowMs);
      this.#release(stream);
    }
  }
}
