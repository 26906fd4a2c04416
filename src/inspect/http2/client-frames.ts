import {
  ABUSE_LIMITS,
  EMPTY_DATA_TOKENS,
  MAX_HEADER_BLOCK_BYTES,
  MAX_HEADER_FIELDS,
  MAX_HEADER_LIST_BYTES,
  REQUEST_PAYS,
} from '../../limits.js';
import type { AbuseLimits } from '../abuse-limits.js';
import { FrameReader, type FrameSink, type PayloadUse } from '../frame-reader.js';
import { HpackDecoder, type FieldSink, type HpackFailure } from '../hpack/decoder.js';
import type { NameNumbers } from '../hpack/field-names.js';
import { STATIC_TABLE } from '../hpack/static-table.js';
import { FrameLimit, type FrameFlood, type LimitedFrame } from './frame-limit.js';
import { CLIENT_PREFACE, ErrorCode, Flag, FRAME_HEADER_BYTES, FrameType } from './http2-frame.js';
import { HeaderBlockReader } from './header-block.js';

const GOOD_NAME = 1;
const FORBIDDEN_NAME = 2;
const HOST_NAME = 3;

/** RFC 9113 section 8.2.1 and RFC 9110 section 5.6.2: a token without capitals; the colon in front is of pseudo-headers. */
const NAME = /^:?[!#$%&'*+.^_`|~0-9a-z-]+$/u;

/**
 * RFC 9110 section 5.5: CR, LF and NUL are "invalid and dangerous", the other control characters but the tab invalid. RFC 9113
 * section 8.2.1: nor may it "start or end with an ASCII whitespace character".
 */
const FORBIDDEN_IN_VALUE = /[\0-\x08\n-\x1f\x7f]|^[\t ]|[\t ]$/u;

/** Every name is read, and classified by whether it is valid. */
const names: NameNumbers = {
  ofStaticTable: STATIC_TABLE.map(([name]) => numberOf(name)),
  lastValued: HOST_NAME,
  maxValueBytes: MAX_HEADER_LIST_BYTES,
  idOf: (source, start, end) =>
    numberOf(Buffer.from(source.buffer, source.byteOffset + start, end - start).toString('latin1')),
};

function numberOf(name: string): number {
  if (name === 'host') return HOST_NAME;
  return NAME.test(name) ? GOOD_NAME : FORBIDDEN_NAME;
}

/**
 * The reason for which a header, or trailers, must not be passed on. `forbidden_field`: by RFC 9113 section 8.2.1 the
 * request is malformed. nghttp2 drops such a field, and Node does not report that. `too_large`: more than `MAX_HEADER_LIST_BYTES`, of which
 * Node makes a request still, or than `MAX_HEADER_FIELDS`, where it resets the stream; the rest is not looked at.
 */
export type HeaderFault = 'forbidden_field' | 'too_large';

/** The reason for which frames are not read any further. */
export interface FramesFault {
  /** For GOAWAY (RFC 9113 section 7). */
  readonly errorCode: number;
  /** The limit that the client has exceeded, if that is the reason. */
  readonly limit: FrameFlood | 'continuation' | undefined;
}

/** Facts about the frames of a client that Node does not report. Calls come before `read` returns. */
export interface ClientFrameEvents {
  /** A header, or trailers, must not be passed on. */
  headerRefused(streamId: number, fault: HeaderFault): void;
  /** A stream was reset. If its HEADERS came in the same read, Node makes no request of it. */
  streamReset(): void;
}

/** Follows what an HTTP/2 client sends, as far as it takes to see that, and limits frames that carry nothing. */
export class ClientFrames implements FrameSink, FieldSink {
  payloadBytes = 0;
  readonly #events: ClientFrameEvents;
  readonly #isHost: (text: string) => boolean;
  readonly #reader = new FrameReader(this, { headerBytes: FRAME_HEADER_BYTES, preface: CLIENT_PREFACE });
  readonly #decoder = new HpackDecoder(names);
  #type = -1;
  #flags = 0;
  #streamId = 0;
  readonly #block = new HeaderBlockReader(this.#decoder, this, MAX_HEADER_BLOCK_BYTES + 1, () => {
    this.#exceed('continuation');
    return false;
  });
  #forbidden = 0;
  #fault: FramesFault = { errorCode: ErrorCode.protocol, limit: undefined };
  readonly #limit: FrameLimit;
  #nowMs = 0;
  #sentBytes = 0;
  #lastStreamId = 0;
  /** Padded DATA: whether the length of the padding is still to come. */
  #isPaddingAwaited = false;

  /** @param isHost - whether a text is a valid value of Host. */
  constructor(
    events: ClientFrameEvents,
    isHost: (text: string) => boolean,
    limits: AbuseLimits = ABUSE_LIMITS,
  ) {
    this.#events = events;
    this.#isHost = isHost;
    this.#limit = new FrameLimit(limits);
  }

  /**
   * Reads on. `sentBytes`: the number of bytes that the client was sent so far.
   * @returns why it cannot be followed, once it cannot and ever after
   */
  read(bytes: Buffer, sentBytes: number, nowMs: number): FramesFault | undefined {
    this.#nowMs = nowMs;
    this.#limit.payFor(sentBytes - this.#sentBytes);
    this.#sentBytes = sentBytes;
    return this.#reader.read(bytes, 0, bytes.length) ? undefined : this.#fault;
  }

  field(nameId: number, value: string): void {
    // A header list that is refused as too large is not inspected: thousands of references to one long value would each cost
    // time.
    if (this.#isTooLarge) return;
    const isForbidden = nameId === FORBIDDEN_NAME || FORBIDDEN_IN_VALUE.test(value);
    if (isForbidden || (nameId === HOST_NAME && !this.#isHost(value))) this.#forbidden++;
  }

  header(bytes: Buffer, offset: number): PayloadUse | undefined {
    this.payloadBytes = bytes.readUIntBE(offset, 3);
    this.#type = bytes[offset + 3] ?? 0;
    this.#flags = bytes[offset + 4] ?? 0;
    this.#streamId = bytes.readUInt32BE(offset + 5) & 0x7fff_ffff;
    // Section 4.3: "a contiguous sequence of frames, with no interleaved frames of any other type or from any other stream".
    const continued = this.#type === FrameType.continuation ? this.#streamId : 0;
    if (this.#block.streamId !== continued) return undefined;
    switch (this.#type) {
      case FrameType.headers:
        if (this.#streamId > this.#lastStreamId) this.#payForRequest();
        return 'collect';
      case FrameType.continuation:
        return continued > 0 ? 'collect' : 'skip';
      case FrameType.data:
        return this.#beginData();
      case FrameType.rstStream:
        this.#events.streamReset();
        return 'skip';
      case FrameType.settings:
      case FrameType.ping:
        return this.#take((this.#flags & Flag.ack) !== 0 ? 'small' : 'control') ? 'skip' : undefined;
      default:
        return this.#take('small') ? 'skip' : undefined;
    }
  }

  /** Only padded DATA is streamed, of which the first byte is read. */
  part(bytes: Buffer, start: number, end: number): boolean {
    if (!this.#isPaddingAwaited || start === end) return true;
    this.#isPaddingAwaited = false;
    // RFC 9113 section 6.1: the length of the padding, then the content, then the padding.
    return this.payloadBytes - 1 > (bytes[start] ?? 0) || this.#endsRequest || this.#take('small');
  }

  payload(bytes: Buffer, start: number, end: number): boolean {
    const step =
      this.#type === FrameType.headers
        ? this.#block.headers(this.#flags, this.#streamId, bytes, start, end, this.#nowMs)
        : this.#block.continuation(this.#flags, bytes, start, end);
    switch (step) {
      case 'open':
        return this.#block.failure === undefined || this.#judge(this.#block.failure);
      case 'whole':
        return this.#judge(this.#block.failure);
      case 'small_frames':
        this.#exceed('continuation');
        return false;
      default:
        return false;
    }
  }

  get #endsRequest(): boolean {
    return (this.#flags & Flag.endStream) !== 0;
  }

  #beginData(): PayloadUse | undefined {
    this.#isPaddingAwaited = (this.#flags & Flag.padded) !== 0;
    if (this.payloadBytes === 0 && !this.#endsRequest)
      return this.#take('small', EMPTY_DATA_TOKENS) ? 'skip' : undefined;
    return this.#isPaddingAwaited ? 'stream' : 'skip';
  }

  #payForRequest(): void {
    this.#lastStreamId = this.#streamId;
    this.#limit.give('control', REQUEST_PAYS.control);
    this.#limit.give('small', REQUEST_PAYS.small);
  }

  /** Counts a frame that carries nothing; `false` if it exceeds a limit. */
  #take(kind: LimitedFrame, tokens = 1): boolean {
    const flood = this.#limit.take(kind, this.#nowMs, tokens);
    if (flood !== undefined) this.#exceed(flood);
    return flood === undefined;
  }

  #exceed(limit: FrameFlood | 'continuation'): void {
    this.#fault = { errorCode: ErrorCode.enhanceYourCalm, limit };
  }

  #judge(failure: HpackFailure | undefined): boolean {
    if (failure) {
      this.#fault = { errorCode: ErrorCode.compression, limit: undefined };
      return false;
    }
    if (this.#isTooLarge) this.#events.headerRefused(this.#streamId, 'too_large');
    else if (this.#forbidden > 0) this.#events.headerRefused(this.#streamId, 'forbidden_field');
    this.#forbidden = 0;
    return true;
  }

  get #isTooLarge(): boolean {
    const { fields, listBytes } = this.#decoder;
    return fields > MAX_HEADER_FIELDS || listBytes > MAX_HEADER_LIST_BYTES;
  }
}
