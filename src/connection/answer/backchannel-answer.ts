import { BACKCHANNEL_MAGIC } from '../../inspect/backchannel/magic.js';
import { FrameReader, type FrameSink, type PayloadUse } from '../../inspect/frame-reader.js';
import {
  YAMUX_HEADER_BYTES,
  YAMUX_INITIAL_WINDOW_BYTES,
  YamuxFlag,
  yamuxHeader,
  YamuxType,
} from '../../inspect/yamux/yamux-frame.js';
import { Http2Answer, type AnsweringServer, type CallStatus } from './call-answer.js';

const NOTHING = Buffer.alloc(0);

/** The code that hashicorp/yamux sends with GO AWAY at a normal close. */
const GO_AWAY_NORMAL = 0;

/**
 * Answers over the backchannel: the first stream that the client opens carries its calls, which are answered as over HTTP/2.
 * Every other stream is reset.
 */
export class BackchannelAnswer implements AnsweringServer, FrameSink {
  /** Called by the frame reader. */
  payloadBytes = 0;
  readonly #calls: Http2Answer;
  readonly #reader = new FrameReader(this, {
    headerBytes: YAMUX_HEADER_BYTES,
    preface: BACKCHANNEL_MAGIC,
  });
  /** The id of the stream with the calls, once it is open. */
  #stream: number | undefined;
  /** The client's receive window of that stream. */
  #window = YAMUX_INITIAL_WINDOW_BYTES;
  /** Bytes that wait for the window. */
  #waiting: Buffer = NOTHING;
  #flags = 0;
  #frameStream = 0;
  #replies: Buffer[] = [];
  #closed = false;

  constructor(status: CallStatus) {
    this.#calls = new Http2Answer(status);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** A yamux server sends nothing before a stream is opened. */
  begin(): Buffer {
    return NOTHING;
  }

  receive(bytes: Buffer): Buffer {
    if (!this.#closed && !this.#reader.read(bytes, 0, bytes.length)) this.#goAway();
    return this.#takeReplies();
  }

  end(): Buffer {
    if (this.#closed) return NOTHING;
    this.#send(this.#calls.end());
    this.#goAway();
    return this.#takeReplies();
  }

  /** Called by the frame reader. */
  header(bytes: Buffer, offset: number): PayloadUse | undefined {
    const type = bytes.readUInt8(offset + 1);
    if (this.#closed || bytes[offset] !== 0 || type > YamuxType.goAway) return undefined;
    const value = bytes.readUInt32BE(offset + 8);
    this.#flags = bytes.readUInt16BE(offset + 2);
    this.#frameStream = bytes.readUInt32BE(offset + 4);
    this.payloadBytes = type === YamuxType.data ? value : 0;
    if (type === YamuxType.ping && (this.#flags & YamuxFlag.syn) !== 0)
      this.#replies.push(yamuxHeader(YamuxType.ping, YamuxFlag.ack, 0, value));
    if (type === YamuxType.goAway) this.#goAway();
    if (type === YamuxType.ping || type === YamuxType.goAway) return 'skip';
    if ((this.#flags & YamuxFlag.syn) !== 0) this.#open(this.#frameStream);
    const isOurs = this.#frameStream === this.#stream;
    if (isOurs && type === YamuxType.windowUpdate) {
      this.#window += value;
      this.#send(NOTHING);
    }
    if (isOurs && (this.#flags & (YamuxFlag.rst | YamuxFlag.fin)) !== 0 && this.payloadBytes === 0)
      this.#goAway();
    return isOurs && type === YamuxType.data ? 'stream' : 'skip';
  }

  /** Called by the frame reader. */
  part(bytes: Buffer, start: number, end: number, last: boolean): boolean {
    if (this.#closed) return true;
    this.#send(this.#calls.receive(Buffer.from(bytes.subarray(start, end))));
    if (last && this.payloadBytes > 0)
      this.#replies.push(yamuxHeader(YamuxType.windowUpdate, 0, this.#frameStream, this.payloadBytes));
    if (this.#calls.closed || (last && (this.#flags & YamuxFlag.fin) !== 0)) this.#goAway();
    return true;
  }

  /** Called by the frame reader: no payload is collected. */
  payload(): boolean {
    return true;
  }

  #open(streamId: number): void {
    if (this.#stream !== undefined) {
      this.#replies.push(yamuxHeader(YamuxType.windowUpdate, YamuxFlag.rst, streamId, 0));
      return;
    }
    this.#stream = streamId;
    this.#replies.push(yamuxHeader(YamuxType.windowUpdate, YamuxFlag.ack, streamId, 0));
    this.#send(this.#calls.begin());
  }

  /** Sends as much as the window allows. `CallAnswer` bounds the bytes that wait. */
  #send(bytes: Buffer): void {
    this.#waiting = this.#waiting.length === 0 ? bytes : Buffer.concat([this.#waiting, bytes]);
    const sent = this.#waiting.subarray(0, this.#window);
    if (this.#stream === undefined || sent.length === 0) return;
    this.#window -= sent.length;
    this.#waiting = this.#waiting.subarray(sent.length);
    this.#replies.push(yamuxHeader(YamuxType.data, 0, this.#stream, sent.length), sent);
  }

  #goAway(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#stream !== undefined)
      this.#replies.push(yamuxHeader(YamuxType.windowUpdate, YamuxFlag.fin, this.#stream, 0));
    this.#replies.push(yamuxHeader(YamuxType.goAway, 0, 0, GO_AWAY_NORMAL));
  }

  #takeReplies(): Buffer {
    const replies = Buffer.concat(this.#replies);
    this.#replies = [];
    return replies;
  }
}
