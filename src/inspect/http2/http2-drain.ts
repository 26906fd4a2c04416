import type { Drain } from '../drain.js';
import { goAwayFrame, MAX_STREAM_ID, pingFrame } from './encode.js';
import { ErrorCode, Flag, FRAME_HEADER_BYTES, FrameType, PING_BYTES } from './http2-frame.js';
import type { FrameUse } from './frame-cutter.js';

/** The connection that is drained. */
export interface DrainedHttp2 {
  /** Whether `openStreams` is known. */
  readonly isFollowed: boolean;
  readonly openStreams: number;
  readonly lastStreamId: number;
}

/**
 * Takes an HTTP/2 connection out of use without breaking a call (RFC 9113 section 6.8): between two frames of the server
 * a GOAWAY is inserted that names no stream, and a PING behind it. When the client has answered that, it has seen the GOAWAY,
 * and a second one names the last stream that the server has been sent. Streams above it are not forwarded. The PING's
 * answer is ours and kept from the server.
 *
 * A connection whose calls cannot be followed is drained likewise, because the frames are known. Only `finished` stays false: its
 * client closes it after its last call.
 */
export class Http2Drain implements Drain {
  readonly announced = true;
  readonly #connection: DrainedHttp2;
  readonly #token: Buffer;
  readonly #onFrames: () => void;
  /** The next frame to send, or `pinged`: the answer is awaited; `announced`: everything has been sent. */
  #state: 'announce' | 'pinged' | 'name' | 'announced' = 'announce';
  /** The highest stream that the server has been sent HEADERS of, or the beginning of them. */
  #lastPassed = 0;
  /** Whether the drain no longer waits for the client's answer. */
  #insists = false;

  /**
   * @param token 8 bytes that no other PING of this connection has
   * @param onFrames called when there are frames to send
   */
  constructor(connection: DrainedHttp2, token: Buffer, onFrames: () => void) {
    this.#connection = connection;
    this.#token = token;
    this.#onFrames = onFrames;
  }

  get finished(): boolean {
    const { isFollowed, openStreams, lastStreamId } = this.#connection;
    return isFollowed && this.#state === 'announced' && openStreams === 0 && lastStreamId >= this.#lastPassed;
  }

  insist(): void {
    if (this.#insists || this.#state === 'announced') return;
    this.#insists = true;
    this.#lastPassed = Math.max(this.#lastPassed, this.#connection.lastStreamId);
    if (this.#state === 'pinged') this.#state = 'name';
    this.#onFrames();
  }

  /** Decides on a frame of the client: `hide` if its stream is above the last, `hold` if it may answer the PING. */
  begin(type: number, flags: number, streamId: number, length: number): FrameUse {
    if ((this.#insists || this.#state === 'announced') && streamId > this.#lastPassed) return 'hide';
    if (type === FrameType.headers) this.#lastPassed = Math.max(this.#lastPassed, streamId);
    const isPingAnswer = type === FrameType.ping && (flags & Flag.ack) !== 0 && length === PING_BYTES;
    return isPingAnswer && (this.#state === 'pinged' || this.#insists) ? 'hold' : 'forward';
  }

  /** Decides on a held answer to a PING, whose frame is at this offset: ours is not forwarded. */
  settle(bytes: Buffer, start: number): 'forward' | 'drop' {
    const from = start + FRAME_HEADER_BYTES;
    if (bytes.compare(this.#token, 0, PING_BYTES, from, from + PING_BYTES) !== 0) return 'forward';
    if (this.#state === 'pinged') this.#state = 'name';
    this.#onFrames();
    return 'drop';
  }

  get hasFrames(): boolean {
    return this.#state === 'announce' || this.#state === 'name';
  }

  /** The frames to send now, at a boundary of the server. */
  takeFrames(): Buffer {
    if (this.#state === 'announce') {
      this.#state = this.#insists ? 'name' : 'pinged';
      return Buffer.concat([goAwayFrame(MAX_STREAM_ID, ErrorCode.none), pingFrame(this.#token, 'ping')]);
    }
    this.#state = 'announced';
    this.#lastPassed = Math.max(this.#lastPassed, this.#connection.lastStreamId);
    return goAwayFrame(this.#lastPassed, ErrorCode.none);
  }
}
