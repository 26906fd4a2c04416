import { Duplex } from 'node:stream';

import { FrameReader, type FrameSink, type PayloadUse } from '../../inspect/frame-reader.js';
import {
  YAMUX_HEADER_BYTES,
  YAMUX_INITIAL_WINDOW_BYTES,
  YamuxFlag,
  YamuxType,
} from '../../inspect/yamux/yamux-frame.js';

/** One end of a yamux session on a connection, to run gRPC on. The connection ends with `end`, the streams with it. */
export class YamuxServer implements FrameSink {
  payloadBytes = 0;
  readonly #connection: Duplex;
  readonly #accept: (stream: Duplex) => void;
  readonly #streams = new Map<number, YamuxStream>();
  readonly #reader = new FrameReader(this, { headerBytes: YAMUX_HEADER_BYTES, preface: undefined });
  #nextStreamId: number;
  /** Of the data frame that is being read: its stream, if that is open, and whether it is the last. */
  #current: { readonly stream: YamuxStream | undefined; readonly fin: boolean } = {
    stream: undefined,
    fin: false,
  };

  /** `accept` takes the streams that the other end opens. What has been read of the connection must be put back before. */
  constructor(connection: Duplex, role: 'client' | 'server', accept: (stream: Duplex) => void) {
    this.#connection = connection;
    this.#accept = accept;
    this.#nextStreamId = role === 'client' ? 1 : 2;
    connection.on('data', (chunk: Buffer) => {
      if (!this.#reader.read(chunk, 0, chunk.length)) connection.destroy();
    });
    connection.on('end', () => connection.end());
    connection.on('error', () => undefined);
    connection.on('close', () => {
      for (const stream of this.#streams.values()) stream.destroy();
    });
  }

  open(): Duplex {
    const stream = this.#add(this.#nextStreamId);
    this.#nextStreamId += 2;
    this.send(YamuxType.windowUpdate, YamuxFlag.syn, stream.id, 0);
    return stream;
  }

  /** Ends the connection behind what has been sent. */
  end(): void {
    this.#connection.end();
  }

  /** For streams: sends a frame; `length` is a window's growth, or that of the data. */
  send(type: number, flags: number, streamId: number, length: number, sent?: () => void): void {
    const header = Buffer.alloc(YAMUX_HEADER_BYTES);
    header.writeUInt8(type, 1);
    header.writeUInt16BE(flags, 2);
    header.writeUInt32BE(streamId, 4);
    header.writeUInt32BE(length, 8);
    this.#write(header, sent);
  }

  /** For streams: sends a part of a stream's data. */
  sendData(streamId: number, data: Buffer, sent: () => void): void {
    this.#connection.cork();
    this.send(YamuxType.data, 0, streamId, data.length);
    this.#write(data, sent);
    this.#connection.uncork();
  }

  /** For streams: this one is over. */
  forget(streamId: number): void {
    this.#streams.delete(streamId);
  }

  header(bytes: Buffer, offset: number): PayloadUse | undefined {
    const type = bytes[offset + 1];
    const flags = bytes.readUInt16BE(offset + 2);
    const streamId = bytes.readUInt32BE(offset + 4);
    const length = bytes.readUInt32BE(offset + 8);
    this.payloadBytes = type === YamuxType.data ? length : 0;
    if (type === YamuxType.ping && (flags & YamuxFlag.syn) !== 0)
      this.send(YamuxType.ping, YamuxFlag.ack, 0, length);
    if (streamId === 0) return 'skip';
    if ((flags & YamuxFlag.syn) !== 0) this.#accepted(streamId);
    const stream = this.#streams.get(streamId);
    if (type === YamuxType.windowUpdate) stream?.mayReceive(length);
    if ((flags & YamuxFlag.rst) !== 0) stream?.destroy();
    this.#current = { stream, fin: (flags & YamuxFlag.fin) !== 0 };
    return 'stream';
  }

  part(bytes: Buffer, start: number, end: number, last: boolean): boolean {
    const { stream, fin } = this.#current;
    if (end > start) stream?.received(bytes.subarray(start, end));
    if (last && fin) stream?.receivedFin();
    return true;
  }

  payload(): boolean {
    return true;
  }

  #accepted(streamId: number): void {
    const stream = this.#add(streamId);
    this.send(YamuxType.windowUpdate, YamuxFlag.ack, streamId, 0);
    this.#accept(stream);
  }

  #add(streamId: number): YamuxStream {
    const stream = new YamuxStream(this, streamId);
    this.#streams.set(streamId, stream);
    return stream;
  }

  #write(bytes: Buffer, sent: (() => void) | undefined): void {
    if (this.#connection.writable) this.#connection.write(bytes, () => sent?.());
  }
}

/** A stream of a session; what it has sent but may not send yet waits for the other end's window. */
class YamuxStream extends Duplex {
  readonly id: number;
  readonly #session: YamuxServer;
  #sendWindowBytes = YAMUX_INITIAL_WINDOW_BYTES;
  /** Bytes that were received and that the other end has not been given back as window. */
  #usedBytes = 0;
  #waiting: { rest: Buffer; readonly sent: () => void } | undefined;
  #finSent = false;
  #finReceived = false;

  constructor(session: YamuxServer, id: number) {
    super();
    this.#session = session;
    this.id = id;
  }

  /** For the session: data has come. */
  received(data: Buffer): void {
    this.#usedBytes += data.length;
    this.push(data);
  }

  /** For the session: no more data comes. */
  receivedFin(): void {
    this.#finReceived = true;
    this.push(null);
  }

  /** For the session: the other end takes so many bytes more. */
  mayReceive(bytes: number): void {
    this.#sendWindowBytes += bytes;
    this.#flush();
  }

  override _read(): void {
    // Node asks for more when what has come was read, less its high-water mark. Half a window at least, as hashicorp's does.
    if (this.#usedBytes < YAMUX_INITIAL_WINDOW_BYTES / 2 || this.#finReceived) return;
    this.#session.send(YamuxType.windowUpdate, 0, this.id, this.#usedBytes);
    this.#usedBytes = 0;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, sent: () => void): void {
    this.#waiting = { rest: chunk, sent };
    this.#flush();
  }

  override _final(done: () => void): void {
    this.#finSent = true;
    this.#session.send(YamuxType.windowUpdate, YamuxFlag.fin, this.id, 0);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#session.forget(this.id);
    if (!this.#finSent || !this.#finReceived)
      this.#session.send(YamuxType.windowUpdate, YamuxFlag.rst, this.id, 0);
    done(error);
  }

  #flush(): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    while (waiting.rest.length > 0) {
      const bytes = Math.min(waiting.rest.length, this.#sendWindowBytes);
      if (bytes === 0) return;
      const data = waiting.rest.subarray(0, bytes);
      waiting.rest = waiting.rest.subarray(bytes);
      this.#sendWindowBytes -= bytes;
      const isLast = waiting.rest.length === 0;
      if (isLast) this.#waiting = undefined;
      this.#session.sendData(this.id, data, () => {
        if (isLast) waiting.sent();
      });
    }
  }
}
