import {
  CONTROL_FRAMES,
  DATA_BYTES_PER_SMALL_FRAME,
  HEADER_BLOCK_MS,
  MAX_INSPECTED_STREAMS,
  RESETS,
  SMALL_FRAMES,
} from '../../limits.js';
import { goAwayFrame, settingsFrame } from './encode.js';
import { ErrorCode, FrameType } from './frame.js';
import { RateBucket } from '../rate-bucket.js';
import type { FieldNames } from '../hpack/field-names.js';
import { Side, type Http2Failure, type SideEvents } from './side.js';
import type { FieldValues, StreamObserver } from './stream-observer.js';
import { other, type Sender } from '../sender.js';
import { SendWindow, type SendWindows } from '../send-window.js';
import { EVENT, STATE, transition } from './stream-state.js';
import { StreamTable } from './stream-table.js';

/** Makes who follows a stream that begins. */
export type StreamOpener<Observer extends StreamObserver> = (
  streamId: number,
  windows: SendWindows,
) => Observer;

/** Walking over so many streams costs about as much as a frame. */
const STREAMS_PER_CONTROL_FRAME = 100;

/** RFC 9113 section 6.9.2: "the initial flow-control window size is 65,535 octets". */
const DEFAULT_WINDOW_BYTES = 65_535;

interface Stream<Observer> {
  /** Number of `STATE`. */
  state: number;
  readonly observer: Observer;
  /** How much each end may still send. */
  readonly windows: SendWindows;
}

/**
 * Follows an HTTP/2 connection (RFC 9113) from outside: takes the bytes of both ends as they pass and tells what happens
 * to each stream. It does no I/O, has no clock and keeps no payload.
 *
 * `followed` until something cannot be followed; then `lost`, once and for good, with the reason: what follows in the
 * other direction depends on it (the table of HPACK, the streams), so both are given up.
 */
export class Http2Inspector<Observer extends StreamObserver> implements SideEvents {
  readonly #sides: Readonly<Record<Sender, Side>>;
  readonly #open: StreamOpener<Observer>;
  readonly #streams = new StreamTable<Stream<Observer>>();
  readonly #windows: Readonly<Record<Sender, SendWindow>> = {
    client: new SendWindow(DEFAULT_WINDOW_BYTES),
    server: new SendWindow(DEFAULT_WINDOW_BYTES),
  };
  /** What a stream's window is when it begins, by who sends on it. */
  readonly #initialWindowBytes: Record<Sender, number> = {
    client: DEFAULT_WINDOW_BYTES,
    server: DEFAULT_WINDOW_BYTES,
  };
  readonly #resets = new RateBucket(RESETS);
  /** By who sends such frames. */
  readonly #frames: Readonly<Record<Sender, Readonly<Record<'control' | 'small', RateBucket>>>> = {
    client: { control: new RateBucket(CONTROL_FRAMES), small: new RateBucket(SMALL_FRAMES) },
    server: { control: new RateBucket(CONTROL_FRAMES), small: new RateBucket(SMALL_FRAMES) },
  };
  #lastStreamId = 0;
  /** The stream that the last frame was of: the next is so too, more often than not. */
  #current: Stream<Observer> | undefined;
  #currentId = 0;
  #failure: Http2Failure | undefined;
  #nowMs = 0;

  constructor(names: FieldNames, open: StreamOpener<Observer>) {
    this.#open = open;
    this.#sides = { client: new Side('client', names, this), server: new Side('server', names, this) };
  }

  /** For the sides. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Why the client is to be given up that has sent nothing of late; it is asked now and then. */
  overdue(nowMs: number): Http2Failure | undefined {
    const beganAtMs = this.#sides.client.headerBlockBeganAtMs ?? nowMs;
    return nowMs - beganAtMs > HEADER_BLOCK_MS ? 'continuation' : undefined;
  }

  /** Streams that have begun and not ended. */
  get openStreams(): number {
    return this.#streams.size;
  }

  /** Who follow them, the oldest first. */
  *observers(): Iterable<Observer> {
    for (const [, { observer }] of this.#streams.entries()) yield observer;
  }

  /** The highest stream that has begun; 0 before the first. */
  get lastStreamId(): number {
    return this.#lastStreamId;
  }

  /** Whether a frame could be put between what a sender has sent and what it will send. */
  atBoundary(sender: Sender): boolean {
    return this.#sides[sender].atBoundary;
  }

  /** What the client is told last, where it can be told: that it asked for too much. */
  get refusal(): Buffer {
    const goAway = goAwayFrame(this.#lastStreamId, ErrorCode.enhanceYourCalm);
    const { server } = this.#sides;
    if (server.atBoundary) return goAway;
    // RFC 9113 section 3.4: SETTINGS must be a server's first frame.
    return server.hasBegun ? Buffer.alloc(0) : Buffer.concat([settingsFrame('settings'), goAway]);
  }

  /** Bytes that a sender will send before its next boundary, at the least. */
  bytesToBoundary(sender: Sender): number {
    return this.#sides[sender].reader.bytesToBoundary;
  }

  /** Reads what an end has sent; why it cannot be followed, and ever after the same. */
  read(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): Http2Failure | undefined {
    if (this.#failure) return this.#failure;
    this.#nowMs = nowMs;
    const side = sender === 'client' ? this.#sides.client : this.#sides.server;
    if (side.read(bytes, start, end)) return undefined;
    this.#failure = side.failure;
    this.#cutAll('lost');
    return this.#failure;
  }

  /** The connection has ended, or what carries it cannot be followed; what was open is cut. */
  end(why: 'connection' | 'lost', nowMs: number): void {
    this.#nowMs = nowMs;
    this.#cutAll(why);
  }

  headers(sender: Sender, streamId: number, values: FieldValues): Http2Failure | undefined {
    let stream = this.#find(streamId);
    if (!stream) {
      if (sender === 'server' || streamId <= this.#lastStreamId) return this.#unlessLate(streamId);
      // RFC 9113 section 5.1.1: streams of a client have odd numbers, and each a higher one than the last.
      if (streamId % 2 === 0) return 'stream_state';
      if (this.#streams.size >= MAX_INSPECTED_STREAMS) return 'too_many_streams';
      this.#lastStreamId = streamId;
      stream = this.#begin(streamId);
    }
    const failure = this.#move(
      streamId,
      stream,
      sender === 'client' ? EVENT.client_headers : EVENT.server_headers,
    );
    if (!failure) stream.observer.headers(sender, values, this.#nowMs);
    return failure;
  }

  dataFrame(sender: Sender, streamId: number, length: number): Http2Failure | undefined {
    const fromClient = sender === 'client';
    const window = fromClient ? this.#windows.client : this.#windows.server;
    window.use(length, this.#nowMs);
    const stream = this.#find(streamId);
    if (!stream) return this.#unlessLate(streamId);
    const streamWindow = fromClient ? stream.windows.client : stream.windows.server;
    streamWindow.use(length, this.#nowMs);
    const { control, small } = fromClient ? this.#frames.server : this.#frames.client;
    // A frame that is small because there was no more window pays for nothing: its reader may be who makes it so.
    if (length > 0 && window.bytes > 0 && streamWindow.bytes > 0) {
      control.give(1);
      small.give(2 + length / DATA_BYTES_PER_SMALL_FRAME);
    } else if (length >= DATA_BYTES_PER_SMALL_FRAME) {
      small.give(length / DATA_BYTES_PER_SMALL_FRAME);
    }
    return this.#move(streamId, stream, fromClient ? EVENT.client_data : EVENT.server_data);
  }

  data(sender: Sender, streamId: number, bytes: Buffer, start: number, end: number): void {
    this.#find(streamId)?.observer.data(sender, bytes, start, end);
  }

  endStream(sender: Sender, streamId: number): Http2Failure | undefined {
    const stream = this.#find(streamId);
    if (!stream) return this.#unlessLate(streamId);
    const fromClient = sender === 'client';
    const failure = this.#move(streamId, stream, fromClient ? EVENT.client_end : EVENT.server_end);
    if (failure) return failure;
    (fromClient ? stream.windows.client : stream.windows.server).close(this.#nowMs);
    if (sender === 'server') this.#resets.give(1);
    stream.observer.ended(sender, this.#nowMs);
    return undefined;
  }

  reset(sender: Sender, streamId: number, errorCode: number): Http2Failure | undefined {
    const isFree = sender === 'server' && errorCode === ErrorCode.none;
    if (!isFree && !this.#resets.take(1, this.#nowMs)) return 'reset_flood';
    const stream = this.#find(streamId);
    if (!stream) return this.#unlessLate(streamId);
    const failure = this.#move(streamId, stream, EVENT.reset);
    if (!failure) stream.observer.reset(sender, errorCode, this.#nowMs);
    return failure;
  }

  frame(sender: Sender, kind: 'control' | 'small', type: number): Http2Failure | undefined {
    const frames = sender === 'client' ? this.#frames.client : this.#frames.server;
    if (kind === 'small') return frames.small.take(1, this.#nowMs) ? undefined : 'frame_flood';
    // A PING is answered; SETTINGS may change the window of each stream.
    const cost = type === FrameType.settings ? 1 + this.#streams.size / STREAMS_PER_CONTROL_FRAME : 1;
    if (type === FrameType.ping) this.#frames[other(sender)].small.give(1);
    return frames.control.take(cost, this.#nowMs) ? undefined : 'control_flood';
  }

  /** RFC 9113 section 6.8: streams above the last were not and will not be processed. */
  goAway(sender: Sender, lastStreamId: number): void {
    if (sender === 'client') return;
    for (const [streamId, stream] of this.#streams.entries()) {
      if (streamId <= lastStreamId) continue;
      this.#forget(streamId);
      stream.observer.cut('refused', this.#nowMs);
    }
  }

  windowUpdate(sender: Sender, streamId: number, increment: number): void {
    const windows = streamId === 0 ? this.#windows : this.#find(streamId)?.windows;
    if (windows) (sender === 'client' ? windows.server : windows.client).give(increment, this.#nowMs);
  }

  settingsAcknowledged(sender: Sender): Http2Failure | undefined {
    const settings = this.#sides[other(sender)].unacknowledged.shift();
    if (!settings) return 'settings';
    const { headerTableBytes, initialWindowBytes } = settings;
    if (headerTableBytes !== undefined) this.#sides[sender].decoder.acknowledgeTableSize(headerTableBytes);
    if (initialWindowBytes !== undefined) {
      // Section 6.9.2: "a receiver MUST adjust the size of all stream flow-control windows that it maintains by the
      // difference between the new value and the old value".
      const difference = initialWindowBytes - this.#initialWindowBytes[sender];
      this.#initialWindowBytes[sender] = initialWindowBytes;
      for (const [, { windows }] of this.#streams.entries()) windows[sender].give(difference, this.#nowMs);
    }
    return undefined;
  }

  /** The windows of the connection as a whole. */
  get windows(): SendWindows {
    return this.#windows;
  }

  #begin(streamId: number): Stream<Observer> {
    const windows = {
      client: new SendWindow(this.#initialWindowBytes.client),
      server: new SendWindow(this.#initialWindowBytes.server),
    };
    const stream: Stream<Observer> = { state: STATE.idle, observer: this.#open(streamId, windows), windows };
    this.#streams.add(streamId, stream);
    this.#currentId = streamId;
    this.#current = stream;
    return stream;
  }

  #find(streamId: number): Stream<Observer> | undefined {
    if (streamId !== this.#currentId) {
      this.#currentId = streamId;
      this.#current = this.#streams.get(streamId);
    }
    return this.#current;
  }

  #forget(streamId: number): void {
    this.#streams.delete(streamId);
    if (streamId === this.#currentId) this.#current = undefined;
  }

  /** A stream that is known no more has ended, and what comes late may; one that never began may not. */
  #unlessLate(streamId: number): Http2Failure | undefined {
    return streamId <= this.#lastStreamId && streamId % 2 === 1 ? undefined : 'stream_state';
  }

  #move(streamId: number, stream: Stream<Observer>, event: number): Http2Failure | undefined {
    const next = transition(stream.state, event);
    if (next === STATE.error) return 'stream_state';
    if (next === STATE.late) return undefined;
    stream.state = next;
    if (next === STATE.closed) this.#forget(streamId);
    return undefined;
  }

  #cutAll(why: 'connection' | 'lost'): void {
    const streams = this.#streams.entries();
    this.#streams.clear();
    this.#current = undefined;
    for (const [, { observer }] of streams) observer.cut(why, this.#nowMs);
  }
}
