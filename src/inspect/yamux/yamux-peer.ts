import { FrameReader, type FrameSink, type PayloadUse } from '../frame-reader.js';
import {
  YAMUX_HEADER_BYTES,
  YAMUX_INITIAL_WINDOW_BYTES,
  YamuxFlag,
  yamuxHeader,
  YamuxType,
} from './yamux-frame.js';

/** The code that hashicorp/yamux sends with GO AWAY at a normal close. */
const GO_AWAY_NORMAL = 0;

/** The events of the streams of a peer. They are called before `receive` or `send` returns. */
export interface YamuxPeerEvents {
  /** The other end has opened a stream. It is accepted unless this method resets it. */
  opened(streamId: number): void;
  /** `bytes` is a view of the received bytes. */
  data(streamId: number, bytes: Buffer): void;
  /** The other end has sent FIN. */
  finished(streamId: number): void;
  /** The other end has reset the stream. */
  reset(streamId: number): void;
  /** All bytes that were passed to `send` are in the output. */
  sent(streamId: number): void;
  /** The other end has sent GO AWAY. */
  goAway(): void;
}

interface Stream {
  /** SYN or ACK, until the first frame of the stream has carried it. */
  owedFlag: number;
  /** The receive window of the other end. */
  windowBytes: number;
  /** Bytes that the window does not allow yet. */
  waiting: Buffer;
  /** Bytes that were consumed and have not been returned to the other end as window. */
  consumedBytes: number;
  isFinishing: boolean;
  hasSentFin: boolean;
  hasReceivedFin: boolean;
}

/**
 * One end of a yamux session, without I/O: received bytes in, events and bytes to send out. Clients open streams with odd ids
 * and servers with even ones; this is the only difference. Frames of unknown streams are ignored, as hashicorp/yamux does.
 */
export class YamuxPeer implements FrameSink {
  /** Called by the frame reader. */
  payloadBytes = 0;
  readonly #events: YamuxPeerEvents;
  readonly #reader: FrameReader;
  readonly #streams = new Map<number, Stream>();
  #nextStreamId: number;
  #output: Buffer[] = [];
  #isOver = false;

  // The frame that is being read.
  #flags = 0;
  #streamId = 0;

  /** @param preface - the bytes that the other end sends before its first frame. */
  constructor(role: 'client' | 'server', events: YamuxPeerEvents, preface?: Buffer) {
    this.#events = events;
    this.#nextStreamId = role === 'client' ? 1 : 2;
    this.#reader = new FrameReader(this, { headerBytes: YAMUX_HEADER_BYTES, preface });
  }

  /** Reads the bytes of the other end; `false` after this end's GO AWAY, or if they are not yamux. */
  receive(bytes: Buffer): boolean {
    return this.#reader.read(bytes, 0, bytes.length);
  }

  /** Removes and returns the bytes to send. */
  takeOutput(): Buffer[] {
    const output = this.#output;
    this.#output = [];
    return output;
  }

  /** Opens a stream and returns its id. */
  open(): number {
    const streamId = this.#nextStreamId;
    this.#nextStreamId += 2;
    this.#announce(streamId, this.#add(streamId, YamuxFlag.syn));
    return streamId;
  }

  /** Sends bytes on a stream as its window allows. The caller bounds the bytes that wait: `sent` is called when none do. */
  send(streamId: number, bytes: Buffer): void {
    const stream = this.#streams.get(streamId);
    if (!stream || stream.isFinishing || bytes.length === 0) return;
    stream.waiting = stream.waiting.length === 0 ? bytes : Buffer.concat([stream.waiting, bytes]);
    this.#flush(streamId, stream);
  }

  /** Received bytes have been consumed. At half a window they are returned as window, as hashicorp/yamux does. */
  consumed(streamId: number, bytes: number): void {
    const stream = this.#streams.get(streamId);
    if (!stream) return;
    stream.consumedBytes += bytes;
    if (stream.consumedBytes < YAMUX_INITIAL_WINDOW_BYTES / 2 || stream.hasReceivedFin) return;
    this.#write(YamuxType.windowUpdate, 0, streamId, stream, stream.consumedBytes);
    stream.consumedBytes = 0;
  }

  /** Sends FIN after the bytes that wait. */
  finish(streamId: number): void {
    const stream = this.#streams.get(streamId);
    if (!stream || stream.isFinishing) return;
    stream.isFinishing = true;
    this.#flush(streamId, stream);
  }

  /** Resets a stream, unless both ends have finished it. */
  reset(streamId: number): void {
    const stream = this.#streams.get(streamId);
    if (!stream) return;
    this.#streams.delete(streamId);
    stream.owedFlag = 0;
    this.#write(YamuxType.windowUpdate, YamuxFlag.rst, streamId, stream, 0);
  }

  /** Ends the session: nothing is read or sent afterwards. */
  goAway(): void {
    if (this.#isOver) return;
    this.#output.push(yamuxHeader(YamuxType.goAway, 0, 0, GO_AWAY_NORMAL));
    this.#isOver = true;
    this.#streams.clear();
  }

  /** Called by the frame reader. */
  header(bytes: Buffer, offset: number): PayloadUse | undefined {
    const type = bytes.readUInt8(offset + 1);
    if (this.#isOver || bytes[offset] !== 0 || type > YamuxType.goAway) return undefined;
    const value = bytes.readUInt32BE(offset + 8);
    this.#flags = bytes.readUInt16BE(offset + 2);
    this.#streamId = bytes.readUInt32BE(offset + 4);
    this.payloadBytes = type === YamuxType.data ? value : 0;
    if (type === YamuxType.ping) {
      if (this.#has(YamuxFlag.syn)) this.#output.push(yamuxHeader(YamuxType.ping, YamuxFlag.ack, 0, value));
      return 'skip';
    }
    if (type === YamuxType.goAway) {
      this.#events.goAway();
      return 'skip';
    }
    if (this.#has(YamuxFlag.syn) && !this.#accept(this.#streamId)) return undefined;
    if (type === YamuxType.windowUpdate) this.#grow(this.#streamId, value);
    return 'stream';
  }

  /** Called by the frame reader. */
  part(bytes: Buffer, start: number, end: number, last: boolean): boolean {
    const streamId = this.#streamId;
    if (end > start && this.#streams.get(streamId)?.hasReceivedFin === false)
      this.#events.data(streamId, bytes.subarray(start, end));
    // A data frame may have a flag; its bytes come first.
    if (last && this.#has(YamuxFlag.fin)) this.#finished(streamId);
    if (last && this.#has(YamuxFlag.rst) && this.#streams.delete(streamId)) this.#events.reset(streamId);
    return !this.#isOver;
  }

  /** Called by the frame reader: no payload is collected. */
  payload(): boolean {
    return true;
  }

  #has(flag: number): boolean {
    return (this.#flags & flag) !== 0;
  }

  /** A SYN of an open stream is invalid: hashicorp/yamux ends the session then. */
  #accept(streamId: number): boolean {
    if (streamId === 0 || this.#streams.has(streamId)) return false;
    const stream = this.#add(streamId, YamuxFlag.ack);
    this.#events.opened(streamId);
    if (this.#streams.has(streamId)) this.#announce(streamId, stream);
    return true;
  }

  #add(streamId: number, owedFlag: number): Stream {
    const stream: Stream = {
      owedFlag,
      windowBytes: YAMUX_INITIAL_WINDOW_BYTES,
      waiting: Buffer.alloc(0),
      consumedBytes: 0,
      isFinishing: false,
      hasSentFin: false,
      hasReceivedFin: false,
    };
    this.#streams.set(streamId, stream);
    return stream;
  }

  /** Sends SYN or ACK, unless a frame has carried it. */
  #announce(streamId: number, stream: Stream): void {
    if (stream.owedFlag !== 0) this.#write(YamuxType.windowUpdate, 0, streamId, stream, 0);
  }

  #grow(streamId: number, bytes: number): void {
    const stream = this.#streams.get(streamId);
    if (!stream) return;
    stream.windowBytes += bytes;
    if (stream.waiting.length > 0) this.#flush(streamId, stream);
  }

  #finished(streamId: number): void {
    const stream = this.#streams.get(streamId);
    if (!stream || stream.hasReceivedFin) return;
    stream.hasReceivedFin = true;
    this.#forgetIfDone(streamId, stream);
    this.#events.finished(streamId);
  }

  #flush(streamId: number, stream: Stream): void {
    const { waiting } = stream;
    const allowed = waiting.subarray(0, stream.windowBytes);
    if (allowed.length > 0) {
      stream.windowBytes -= allowed.length;
      stream.waiting = waiting.subarray(allowed.length);
      this.#write(YamuxType.data, 0, streamId, stream, allowed.length);
      this.#output.push(allowed);
      if (stream.waiting.length === 0) this.#events.sent(streamId);
    }
    if (!stream.isFinishing || stream.hasSentFin || stream.waiting.length > 0) return;
    stream.hasSentFin = true;
    this.#write(YamuxType.windowUpdate, YamuxFlag.fin, streamId, stream, 0);
    this.#forgetIfDone(streamId, stream);
  }

  #forgetIfDone(streamId: number, { hasSentFin, hasReceivedFin }: Stream): void {
    if (hasSentFin && hasReceivedFin) this.#streams.delete(streamId);
  }

  /** Writes the header of a frame of a stream. */
  #write(type: number, flags: number, streamId: number, stream: Stream, value: number): void {
    this.#output.push(yamuxHeader(type, flags | stream.owedFlag, streamId, value));
    stream.owedFlag = 0;
  }
}
