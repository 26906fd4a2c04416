import type { Drain } from '../drain.js';
import type { Sender } from '../sender.js';
import { goAwayFrame, MAX_STREAM_ID, pingFrame } from './encode.js';
import { ErrorCode, Flag, FRAME_HEADER_BYTES, FrameType, PING_BYTES } from './http2-frame.js';
import type { Http2Loss } from './http2-side.js';

/** The connection that is drained, as its inspector knows it. */
export interface DrainedHttp2 {
  /** Whether `openStreams` is known. */
  readonly isFollowed: boolean;
  /** Whether the boundaries of frames are known. */
  readonly isFramed: boolean;
  readonly openStreams: number;
  readonly lastStreamId: number;
  atBoundary(sender: Sender): boolean;
  bytesToBoundary(sender: Sender): number;
  read(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): Http2Loss | undefined;
}

/**
 * Takes an HTTP/2 connection out of use without breaking a call (RFC 9113 section 6.8): between two frames of the server
 * a GOAWAY is put in that names no stream and a PING behind it; when the client has answered that, it has seen the GOAWAY,
 * and a second one names the last stream that the server has been sent. Streams above it are not passed on. The PING's
 * answer is ours and kept from the server.
 *
 * A connection whose calls cannot be followed is drained likewise, because the frames are known. Only `finished` stays false: its
 * client closes it after its last call.
 */
export class Http2Drain implements Drain<Http2Loss> {
  readonly announced = true;
  readonly #connection: DrainedHttp2;
  readonly #token: Buffer;
  readonly #toClient: (bytes: Buffer) => void;
  /** The next frame to send, or `pinged`: the answer is awaited; `announced`: everything has been sent. */
  #state: 'announce' | 'pinged' | 'name' | 'announced' = 'announce';
  /** The highest stream that the server has been sent HEADERS of, or the beginning of them. */
  #lastPassed = 0;
  /** Whether the drain no longer waits for the client's answer. */
  #insists = false;
  #failure: Http2Loss | undefined;

  // The client's frames. The drain may have begun within one, which is passed on first.
  #aligned = false;
  /** A header, or a PING that may be ours, as far as it has come. */
  readonly #held = Buffer.alloc(FRAME_HEADER_BYTES + PING_BYTES);
  #heldBytes = 0;
  /** Payload of the current frame that is still to come. */
  #left = 0;
  #dropping = false;

  /**
   * @param token 8 bytes that no other PING of this connection has
   * @param toClient sends bytes to the client behind all that was passed on
   */
  constructor(connection: DrainedHttp2, token: Buffer, toClient: (bytes: Buffer) => void) {
    this.#connection = connection;
    this.#token = token;
    this.#toClient = toClient;
    this.#sayAtBoundary();
  }

  get failure(): Http2Loss | undefined {
    return this.#failure;
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
    this.#sayAtBoundary();
  }

  pass(sender: Sender, bytes: Buffer, nowMs: number): Buffer {
    return sender === 'server' ? this.#passServer(bytes, nowMs) : this.#passClient(bytes, nowMs);
  }

  #passServer(bytes: Buffer, nowMs: number): Buffer {
    let offset = 0;
    if (this.#state === 'announce' || this.#state === 'name') {
      while (offset < bytes.length && !this.#connection.atBoundary('server')) {
        const step = Math.min(this.#connection.bytesToBoundary('server'), bytes.length - offset);
        const isFramed = this.#read('server', bytes, offset, offset + step, nowMs);
        offset += step;
        if (isFramed) continue;
        this.#readUnjudged('server', bytes.subarray(offset), nowMs);
        return bytes;
      }
    }
    const words = this.#connection.atBoundary('server') ? this.#nextFrames() : undefined;
    this.#read('server', bytes, offset, bytes.length, nowMs);
    return words ? Buffer.concat([bytes.subarray(0, offset), words, bytes.subarray(offset)]) : bytes;
  }

  #passClient(bytes: Buffer, nowMs: number): Buffer {
    const passed: Buffer[] = [];
    // Mostly everything is passed on, and then nothing need be copied.
    let whole = this.#heldBytes === 0;
    let offset = 0;
    while (offset < bytes.length && this.#connection.isFramed) {
      this.#aligned ||= this.#connection.atBoundary('client');
      if (!this.#aligned) {
        const end = offset + Math.min(this.#connection.bytesToBoundary('client'), bytes.length - offset);
        passed.push(bytes.subarray(offset, end));
        this.#read('client', bytes, offset, end, nowMs);
        offset = end;
      } else if (this.#left > 0) {
        const end = offset + Math.min(this.#left, bytes.length - offset);
        this.#left -= end - offset;
        if (this.#dropping) whole = false;
        else {
          passed.push(bytes.subarray(offset, end));
          this.#read('client', bytes, offset, end, nowMs);
        }
        offset = end;
      } else {
        const taken = bytes.copy(
          this.#held,
          this.#heldBytes,
          offset,
          offset + this.#wanted - this.#heldBytes,
        );
        this.#heldBytes += taken;
        offset += taken;
        if (this.#heldBytes < this.#wanted) continue;
        const frame = this.#judge(nowMs);
        if (frame) passed.push(frame);
        else whole = false;
      }
    }
    if (!this.#connection.isFramed) {
      // Frames that are forwarded without a decision still count.
      const rest = Buffer.concat([this.#takeHeld(), bytes.subarray(offset)]);
      this.#readUnjudged('client', rest, nowMs);
      return Buffer.concat([...passed, rest]);
    }
    return whole && this.#heldBytes === 0 ? bytes : Buffer.concat(passed);
  }

  /** How much of the client's next frame must be there to judge it. */
  get #wanted(): number {
    return this.#heldBytes >= FRAME_HEADER_BYTES && this.#isPingAnswer
      ? this.#held.length
      : FRAME_HEADER_BYTES;
  }

  get #isPingAnswer(): boolean {
    const held = this.#held;
    const isAnswer = held[3] === FrameType.ping && ((held[4] ?? 0) & Flag.ack) !== 0;
    return isAnswer && held.readUIntBE(0, 3) === PING_BYTES;
  }

  /** The part of a frame that is passed on once its header is complete; the rest follows or is dropped. */
  #judge(nowMs: number): Buffer | undefined {
    const held = this.#held;
    const streamId = held.readUInt32BE(5) & MAX_STREAM_ID;
    const isAwaited = this.#state === 'pinged' || this.#insists;
    if (
      isAwaited &&
      this.#heldBytes === held.length &&
      this.#token.equals(held.subarray(FRAME_HEADER_BYTES))
    ) {
      this.#heldBytes = 0;
      if (this.#state === 'pinged') this.#state = 'name';
      this.#sayAtBoundary();
      return undefined;
    }
    this.#left = this.#heldBytes === held.length ? 0 : held.readUIntBE(0, 3);
    this.#dropping = (this.#insists || this.#state === 'announced') && streamId > this.#lastPassed;
    if (this.#dropping) {
      this.#heldBytes = 0;
      return undefined;
    }
    if (held[3] === FrameType.headers) this.#lastPassed = Math.max(this.#lastPassed, streamId);
    const frame = this.#takeHeld();
    this.#read('client', frame, 0, frame.length, nowMs);
    return frame;
  }

  #takeHeld(): Buffer {
    const held = Buffer.from(this.#held.subarray(0, this.#heldBytes));
    this.#heldBytes = 0;
    return held;
  }

  #sayAtBoundary(): void {
    const words = this.#connection.atBoundary('server') ? this.#nextFrames() : undefined;
    if (words) this.#toClient(words);
  }

  /** The frames to send now. */
  #nextFrames(): Buffer | undefined {
    if (this.#state === 'announce') {
      this.#state = this.#insists ? 'name' : 'pinged';
      return Buffer.concat([goAwayFrame(MAX_STREAM_ID, ErrorCode.none), pingFrame(this.#token, 'ping')]);
    }
    if (this.#state !== 'name') return undefined;
    this.#state = 'announced';
    this.#lastPassed = Math.max(this.#lastPassed, this.#connection.lastStreamId);
    return goAwayFrame(this.#lastPassed, ErrorCode.none);
  }

  /** Whether the frames are still known. */
  #read(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): boolean {
    this.#failure = this.#connection.read(sender, bytes, start, end, nowMs);
    return this.#connection.isFramed;
  }

  /** A limit may be exceeded after the byte at which the connection could no longer be followed. */
  #readUnjudged(sender: Sender, bytes: Buffer, nowMs: number): void {
    this.#read(sender, bytes, 0, bytes.length, nowMs);
  }
}
