import { DATA_BYTES_PER_SMALL_FRAME, MAX_INSPECTED_STREAMS, SMALL_FRAMES } from '../../limits.js';
import { FrameReader, type FrameSink, type PayloadUse } from '../frame-reader.js';
import { RateBucket } from '../rate-bucket.js';
import { SendWindow, type SendWindows } from '../send-window.js';
import type { Sender } from '../sender.js';
import { YAMUX_HEADER_BYTES, YAMUX_INITIAL_WINDOW_BYTES, YamuxFlag, YamuxType } from './frame.js';

/** Why a session cannot be followed any further. A closed set. */
export type YamuxFailure =
  'magic' | 'yamux_frame' | 'yamux_stream' | 'yamux_window' | 'too_many_streams' | 'yamux_flood';

/** Why a stream is over that did not end on both sides. */
export type YamuxCut = 'reset' | 'connection' | 'lost';

/** Follows one stream of a session. Its calls come in the order of the wire. */
export interface YamuxStreamObserver<Failure> {
  /** A view that is used again after the call. What is returned says why it cannot be followed. */
  data(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): Failure | undefined;
  /** FIN of both ends: the stream is over. */
  finished(nowMs: number): void;
  /** The stream is over without that. */
  cut(why: YamuxCut, nowMs: number): void;
}

/** Makes who follows a stream that begins. */
export type YamuxStreamOpener<Failure> = (
  opener: Sender,
  streamId: number,
  windows: SendWindows,
) => YamuxStreamObserver<Failure>;

interface Stream<Failure> {
  /** `client_done`: the client has sent FIN and the server has not; `server_done` the other way round. */
  state: 'open' | 'client_done' | 'server_done';
  readonly observer: YamuxStreamObserver<Failure>;
  readonly windows: SendWindows;
}

/** The ids that one end has opened streams with. */
interface Opened {
  last: number;
  /** Ids below `last` that have not come yet: concurrent openers take their ids before they send. */
  readonly skipped: Set<number>;
}

/** Ids that may be on their way out of order; hashicorp's library has at most 256 opens under way. */
const MAX_SKIPPED_IDS = 256;

/**
 * Follows a yamux session from outside: takes the bytes of both ends as they pass, behind `preface` of the client, and
 * tells what each stream carries. It does no I/O and keeps no payload.
 */
export class YamuxSession<Failure> {
  readonly #open: YamuxStreamOpener<Failure>;
  readonly #ends: Readonly<Record<Sender, YamuxEnd<Failure>>>;
  readonly #streams = new Map<number, Stream<Failure>>();
  readonly #opened: Readonly<Record<Sender, Opened>> = {
    client: { last: -1, skipped: new Set() },
    server: { last: 0, skipped: new Set() },
  };
  /** Frames without data, by who sends them. */
  readonly #small: Readonly<Record<Sender, RateBucket>> = {
    client: new RateBucket(SMALL_FRAMES),
    server: new RateBucket(SMALL_FRAMES),
  };
  #failure: Failure | YamuxFailure | undefined;
  #nowMs = 0;

  constructor(preface: Buffer, open: YamuxStreamOpener<Failure>) {
    this.#open = open;
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

  /** Reads what an end has sent; why it cannot be followed, and ever after the same. */
  read(
    sender: Sender,
    bytes: Buffer,
    start: number,
    end: number,
    nowMs: number,
  ): Failure | YamuxFailure | undefined {
    if (this.#failure !== undefined) return this.#failure;
    this.#nowMs = nowMs;
    const { reader } = this.#ends[sender];
    if (reader.read(bytes, start, end)) return undefined;
    this.#failure ??= 'magic';
    this.#cutAll('lost');
    return this.#failure;
  }

  /** The connection has ended. */
  end(nowMs: number): void {
    this.#nowMs = nowMs;
    this.#cutAll('connection');
  }

  /** For the ends: a frame begins that carries so many bytes; `false` if too many came that carry none. */
  mayBegin(sender: Sender, bytes: number): boolean {
    const { client, server } = this.#small;
    const [own, others] = sender === 'client' ? [client, server] : [server, client];
    if (bytes === 0) return own.take(1, this.#nowMs) || this.#fail('yamux_flood');
    others.give(1 + bytes / DATA_BYTES_PER_SMALL_FRAME);
    return true;
  }

  /** For the ends: a frame of a stream begins; `false` if it cannot be followed. */
  frame(sender: Sender, type: number, flags: number, streamId: number, length: number): boolean {
    if ((flags & YamuxFlag.syn) !== 0 && !this.#begin(sender, streamId)) return false;
    const stream = this.#streams.get(streamId);
    // Of a stream that is over hashicorp's library "discards data"; one that never began is somebody else's protocol.
    if (!stream) return this.#wasOpened(streamId) || this.#fail('yamux_stream');
    const { client, server } = stream.windows;
    const fromClient = sender === 'client';
    if (type === YamuxType.windowUpdate) (fromClient ? server : client).give(length, this.#nowMs);
    else {
      // Data may follow a FIN: hashicorp's library lets a Close overtake a Write, and its receiver takes both.
      const window = fromClient ? client : server;
      window.use(length, this.#nowMs);
      // "The sender MUST NOT send more than the window"; what raises it has passed here before it reached the sender.
      if (window.bytes < 0) return this.#fail('yamux_window');
    }
    if ((flags & YamuxFlag.rst) !== 0) {
      this.#streams.delete(streamId);
      stream.observer.cut('reset', this.#nowMs);
    }
    return true;
  }

  /** For the ends: a part of a stream's data. */
  data(sender: Sender, streamId: number, bytes: Buffer, start: number, end: number): boolean {
    const failure = this.#streams.get(streamId)?.observer.data(sender, bytes, start, end, this.#nowMs);
    if (failure === undefined) return true;
    this.#failure ??= failure;
    return false;
  }

  /** For the ends: FIN, behind what its frame carried. */
  fin(sender: Sender, streamId: number): void {
    const stream = this.#streams.get(streamId);
    if (!stream) return;
    stream.windows[sender].close(this.#nowMs);
    if (stream.state === 'open') stream.state = done(sender);
    else if (stream.state !== done(sender)) {
      this.#streams.delete(streamId);
      stream.observer.finished(this.#nowMs);
    }
  }

  /** For the ends: why they cannot be followed. */
  fail(failure: YamuxFailure): false {
    return this.#fail(failure);
  }

  #begin(sender: Sender, streamId: number): boolean {
    const opened = this.#opened[sender];
    const isItsOwn = streamId % 2 === (sender === 'client' ? 1 : 0);
    if (!isItsOwn || (streamId <= opened.last && !opened.skipped.delete(streamId)))
      return this.#fail('yamux_stream');
    if (this.#streams.size >= MAX_INSPECTED_STREAMS) return this.#fail('too_many_streams');
    const skipped = Math.max((streamId - opened.last) / 2 - 1, 0);
    if (opened.skipped.size + skipped > MAX_SKIPPED_IDS) return this.#fail('yamux_stream');
    for (let id = opened.last + 2; id < streamId; id += 2) opened.skipped.add(id);
    opened.last = Math.max(opened.last, streamId);
    const windows = {
      client: new SendWindow(YAMUX_INITIAL_WINDOW_BYTES),
      server: new SendWindow(YAMUX_INITIAL_WINDOW_BYTES),
    };
    this.#streams.set(streamId, { state: 'open', observer: this.#open(sender, streamId, windows), windows });
    return true;
  }

  #wasOpened(streamId: number): boolean {
    const { last, skipped } = this.#opened[streamId % 2 === 1 ? 'client' : 'server'];
    return streamId > 0 && streamId <= last && !skipped.has(streamId);
  }

  #fail(failure: YamuxFailure): false {
    this.#failure ??= failure;
    return false;
  }

  #cutAll(why: YamuxCut): void {
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    for (const { observer } of streams) observer.cut(why, this.#nowMs);
  }
}

/** The frames that one end sends. */
class YamuxEnd<Failure> implements FrameSink {
  readonly reader: FrameReader;
  payloadBytes = 0;
  readonly #sender: Sender;
  readonly #session: YamuxSession<Failure>;
  #streamId = 0;
  #flags = 0;

  constructor(sender: Sender, session: YamuxSession<Failure>, preface: Buffer | undefined) {
    this.#sender = sender;
    this.#session = session;
    this.reader = new FrameReader(this, { headerBytes: YAMUX_HEADER_BYTES, preface });
  }

  header(bytes: Buffer, offset: number): PayloadUse | undefined {
    const type = bytes[offset + 1] ?? 0;
    const flags = bytes.readUInt16BE(offset + 2);
    const streamId = bytes.readUInt32BE(offset + 4);
    const length = bytes.readUInt32BE(offset + 8);
    this.payloadBytes = type === YamuxType.data ? length : 0;
    this.#streamId = streamId;
    this.#flags = flags;
    const isOfSession = type === YamuxType.ping || type === YamuxType.goAway;
    if (
      bytes[offset] !== 0 ||
      type > YamuxType.goAway ||
      flags > ALL_FLAGS ||
      (streamId === 0) !== isOfSession
    ) {
      this.#session.fail('yamux_frame');
      return undefined;
    }
    if (!this.#session.mayBegin(this.#sender, this.payloadBytes)) return undefined;
    if (isOfSession) return 'skip';
    return this.#session.frame(this.#sender, type, flags, streamId, length) ? 'stream' : undefined;
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

const ALL_FLAGS = YamuxFlag.syn | YamuxFlag.ack | YamuxFlag.fin | YamuxFlag.rst;

function done(sender: Sender): 'client_done' | 'server_done' {
  return sender === 'client' ? 'client_done' : 'server_done';
}
