import { trailersOnly } from '../../inspect/grpc/trailers-only.js';
import {
  frame,
  goAwayFrame,
  MAX_FRAME_BYTES,
  pingFrame,
  resetFrame,
  settingsFrame,
} from '../../inspect/http2/encode.js';
import {
  CLIENT_PREFACE,
  ErrorCode,
  Flag,
  FRAME_HEADER_BYTES,
  FrameType,
  PING_BYTES,
} from '../../inspect/http2/http2-frame.js';
import { MAX_ANSWERED_BYTES } from '../../limits.js';

/** The status that answers every call on a connection. */
export interface CallStatus {
  readonly code: (typeof GrpcCode)[keyof typeof GrpcCode];
  readonly message: string;
}

/** The codes that this proxy generates itself. */
export const GrpcCode = { permissionDenied: 7, unavailable: 14, unauthenticated: 16 } as const;

/** A server without I/O that answers each call with one status: bytes of the client in, bytes for the client out. */
export interface AnsweringServer {
  /** Whether the end has been returned: nothing more is to be sent. */
  readonly closed: boolean;
  /** The bytes that the server sends first. */
  begin(): Buffer;
  /** Takes the client's bytes, in slices of any size, and returns the bytes to send. */
  receive(bytes: Buffer): Buffer;
  /** The bytes that end the connection, unless they have been returned already. */
  end(): Buffer;
}

const PREFACE_BYTES = CLIENT_PREFACE.length;

/** Answers over HTTP/2: each call ends immediately with the status, and the connection ends with GOAWAY. */
export class Http2Answer implements AnsweringServer {
  readonly #trailers: Buffer;
  #buffered: Buffer = Buffer.alloc(0);
  /** Payload bytes of the current frame that are still to be skipped. The preface is skipped first. */
  #skip = PREFACE_BYTES;
  #received = 0;
  #answered = 0;
  #lastStream = 0;
  #state: 'open' | 'closed' = 'open';

  constructor({ code, message }: CallStatus) {
    this.#trailers = trailersOnly(code, message);
  }

  get closed(): boolean {
    return this.#state === 'closed';
  }

  /** The server's connection preface (RFC 9113 section 3.4): an empty SETTINGS. */
  begin(): Buffer {
    return settingsFrame('settings');
  }

  receive(bytes: Buffer): Buffer {
    this.#received += bytes.length;
    this.#buffered = this.#buffered.length === 0 ? bytes : Buffer.concat([this.#buffered, bytes]);
    const replies: Buffer[] = [];
    while (this.#state === 'open') {
      const skipped = Math.min(this.#skip, this.#buffered.length);
      this.#skip -= skipped;
      this.#buffered = this.#buffered.subarray(skipped);
      if (this.#skip > 0 || this.#buffered.length < FRAME_HEADER_BYTES) break;
      const length = this.#buffered.readUIntBE(0, 3);
      const type = this.#buffered.readUInt8(3);
      const flags = this.#buffered.readUInt8(4);
      const stream = this.#buffered.readUInt32BE(5) & 0x7fffffff;
      if (length > MAX_FRAME_BYTES || (type === FrameType.ping && length !== PING_BYTES)) {
        replies.push(this.#goaway(ErrorCode.frameSize));
        break;
      }
      // Only the payload of a PING is needed; all other payloads are skipped by length.
      if (type === FrameType.ping) {
        if (this.#buffered.length < FRAME_HEADER_BYTES + PING_BYTES) break;
        const payload = this.#buffered.subarray(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + PING_BYTES);
        if ((flags & Flag.ack) === 0) replies.push(pingFrame(payload, 'ack'));
      } else {
        replies.push(...this.#reply(type, flags, stream));
      }
      this.#skip = length;
      this.#buffered = this.#buffered.subarray(FRAME_HEADER_BYTES);
      // One read can contain thousands of calls, and each answer is larger than the call.
      if (this.#answered > MAX_ANSWERED_BYTES) replies.push(this.#goaway(ErrorCode.none));
    }
    if (this.#state === 'open' && this.#received > MAX_ANSWERED_BYTES)
      replies.push(this.#goaway(ErrorCode.none));
    return Buffer.concat(replies);
  }

  /** GOAWAY: no stream above the last answered one was or will be processed. */
  end(): Buffer {
    return this.#state === 'open' ? this.#goaway(ErrorCode.none) : Buffer.alloc(0);
  }

  #reply(type: number, flags: number, stream: number): Buffer[] {
    if (type === FrameType.settings && (flags & Flag.ack) === 0) {
      return [settingsFrame('ack')];
    }
    const endsHeaders = (flags & Flag.endHeaders) !== 0;
    const isHeaders = type === FrameType.headers || type === FrameType.continuation;
    // An answered stream may still send trailers: only a stream with a higher id is new (RFC 9113 section 5.1.1).
    if (!isHeaders || !endsHeaders || stream <= this.#lastStream) return [];
    this.#lastStream = stream;
    this.#answered += this.#trailers.length;
    return [
      frame(FrameType.headers, Flag.endStream | Flag.endHeaders, stream, this.#trailers),
      // RFC 9113 section 8.1: a complete answer before the end of the request is followed by RST_STREAM with NO_ERROR.
      resetFrame(stream, ErrorCode.none),
    ];
  }

  #goaway(code: number): Buffer {
    this.#state = 'closed';
    return goAwayFrame(this.#lastStream, code);
  }
}
