import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

import { codeOf } from '../error-codes.js';
import { guarded } from '../guarded.js';
import { BACKCHANNEL_MAGIC } from '../inspect/backchannel/magic.js';
import { FrameReader, type FrameSink, type PayloadUse } from '../inspect/frame-reader.js';
import { settingsFrame } from '../inspect/http2/encode.js';
import {
  YAMUX_HEADER_BYTES,
  YAMUX_INITIAL_WINDOW_BYTES,
  YamuxFlag,
  yamuxHeader,
  YamuxType,
} from '../inspect/yamux/yamux-frame.js';

/** The stream that the client opens, on which gRPC runs. */
const OURS = 1;

/** What hashicorp/yamux sends with GO AWAY when all is well. */
const GO_AWAY_NORMAL = 0;

/**
 * The stream of a backchannel on which a client calls Gitaly, over a connection that is there already: sends the magic
 * bytes and opens the first stream of a yamux session. What Gitaly opens in the other direction is taken and not used.
 */
export class BackchannelStream extends Duplex {
  readonly #connection: Socket;
  readonly #reader = new FrameReader(new Frames(this), {
    headerBytes: YAMUX_HEADER_BYTES,
    preface: undefined,
  });
  /** What may still be sent. */
  #windowBytes = YAMUX_INITIAL_WINDOW_BYTES;
  /** What waits for the window. */
  #waiting: { readonly bytes: Buffer; readonly done: (error?: Error) => void } | undefined;

  constructor(connection: Socket) {
    super();
    this.#connection = connection;
    const onData = (bytes: Buffer): void => {
      if (!this.#reader.read(bytes, 0, bytes.length) && !this.destroyed)
        this.destroy(new Error('the answer is not yamux: the server does not support the backchannel'));
    };
    connection.on(
      'data',
      guarded((error) => this.destroy(error), onData),
    );
    connection.once('error', (error: Error) => {
      // Whether a close is seen as this or as an end is a matter of time.
      if (codeOf(error) === 'EPIPE') this.#over();
      else this.destroy(error);
    });
    connection.once('end', () => this.#over());
    connection.once('close', () => this.#over());
    connection.write(
      Buffer.concat([BACKCHANNEL_MAGIC, yamuxHeader(YamuxType.windowUpdate, YamuxFlag.syn, OURS, 0)]),
    );
  }

  override _read(): void {
    // What comes is little, and pushed as it comes.
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    this.#waiting = { bytes, done };
    this.#flush();
  }

  override _final(done: (error?: Error) => void): void {
    this.#connection.write(yamuxHeader(YamuxType.windowUpdate, YamuxFlag.fin, OURS, 0));
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (this.#connection.writable) this.#connection.end(yamuxHeader(YamuxType.goAway, 0, 0, GO_AWAY_NORMAL));
    this.#connection.destroySoon();
    this.#waiting?.done(error ?? new Error('the backchannel was closed'));
    this.#waiting = undefined;
    done(error);
  }

  /** For the frames: a part of what one of the streams carries. */
  data(streamId: number, bytes: Buffer): void {
    // Bytes of a stream that Gitaly opened are within its first window, and it waits for no more.
    if (streamId !== OURS) return;
    this.push(Buffer.from(bytes));
    this.#connection.write(yamuxHeader(YamuxType.windowUpdate, 0, OURS, bytes.length));
  }

  /** For the frames: what a header says besides. */
  control(type: number, flags: number, streamId: number, value: number): void {
    if (type === YamuxType.ping && (flags & YamuxFlag.syn) !== 0)
      this.#connection.write(yamuxHeader(YamuxType.ping, YamuxFlag.ack, 0, value));
    if (type === YamuxType.goAway) this.#over();
    if (type === YamuxType.windowUpdate && streamId === OURS) {
      this.#windowBytes += value;
      this.#flush();
    }
    if (streamId === OURS && (flags & YamuxFlag.rst) !== 0)
      this.destroy(new Error('the other end has reset the stream of the backchannel'));
    if (streamId === OURS && (flags & YamuxFlag.fin) !== 0) this.push(null);
    if (streamId !== OURS && streamId !== 0 && (flags & YamuxFlag.syn) !== 0) this.#welcome(streamId);
  }

  /** Gitaly calls its client on a stream of its own: it is answered as by a gRPC server that has nothing to do. */
  #welcome(streamId: number): void {
    const settings = settingsFrame('settings');
    this.#connection.write(
      Buffer.concat([
        yamuxHeader(YamuxType.windowUpdate, YamuxFlag.ack, streamId, 0),
        yamuxHeader(YamuxType.data, 0, streamId, settings.length),
        settings,
      ]),
    );
  }

  #flush(): void {
    const waiting = this.#waiting;
    if (!waiting || this.#windowBytes === 0) return;
    const now = waiting.bytes.subarray(0, this.#windowBytes);
    this.#windowBytes -= now.length;
    const isAll = now.length === waiting.bytes.length;
    this.#waiting = isAll ? undefined : { ...waiting, bytes: waiting.bytes.subarray(now.length) };
    this.#connection.write(Buffer.concat([yamuxHeader(YamuxType.data, 0, OURS, now.length), now]));
    if (isAll) waiting.done();
  }

  #over(): void {
    if (!this.destroyed && !this.readableEnded)
      this.destroy(new Error('the connection was closed within the backchannel'));
  }
}

/** Cuts what comes into frames. */
class Frames implements FrameSink {
  payloadBytes = 0;
  readonly #stream: BackchannelStream;
  #flags = 0;
  #streamId = 0;

  constructor(stream: BackchannelStream) {
    this.#stream = stream;
  }

  header(bytes: Buffer, offset: number): PayloadUse | undefined {
    const type = bytes.readUInt8(offset + 1);
    if (bytes[offset] !== 0 || type > YamuxType.goAway) return undefined;
    const value = bytes.readUInt32BE(offset + 8);
    this.#flags = bytes.readUInt16BE(offset + 2);
    this.#streamId = bytes.readUInt32BE(offset + 4);
    this.payloadBytes = type === YamuxType.data ? value : 0;
    if (type === YamuxType.data) return 'stream';
    this.#stream.control(type, this.#flags, this.#streamId, value);
    return 'skip';
  }

  part(bytes: Buffer, start: number, end: number, last: boolean): boolean {
    if (end > start) this.#stream.data(this.#streamId, bytes.subarray(start, end));
    // What the flags say holds after the bytes: a FIN may stand on a frame that has some.
    if (last) this.#stream.control(YamuxType.data, this.#flags, this.#streamId, 0);
    return true;
  }

  payload(): boolean {
    return true;
  }
}
