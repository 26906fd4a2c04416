import { MAX_HEADER_BLOCK_BYTES, MAX_HEADER_FIELDS, MAX_HEADER_LIST_BYTES } from '../../limits.js';
import { FrameReader, type FrameSink, type PayloadUse } from '../frame-reader.js';
import { HpackDecoder, type FieldSink, type HpackFailure } from '../hpack/decoder.js';
import type { NameNumbers } from '../hpack/field-names.js';
import { STATIC_TABLE } from '../hpack/static-table.js';
import { CLIENT_PREFACE, ErrorCode, Flag, FRAME_HEADER_BYTES, FrameType } from './frame.js';
import { fragmentEnd, fragmentStart, HeaderBlock } from './header-block.js';

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

/** Every name is read, and told apart by whether there may be such a one. */
const names: NameNumbers = {
  ofStaticTable: STATIC_TABLE.map(([name]) => numberOf(name)),
  maxValueBytes: MAX_HEADER_LIST_BYTES,
  idOf: (source, start, end) =>
    numberOf(Buffer.from(source.buffer, source.byteOffset + start, end - start).toString('latin1')),
};

function numberOf(name: string): number {
  if (name === 'host') return HOST_NAME;
  return NAME.test(name) ? GOOD_NAME : FORBIDDEN_NAME;
}

/**
 * Why a header, or trailers, must not be passed on. `forbidden_field`: RFC 9113 section 8.2.1 has the request be malformed.
 * nghttp2 leaves such a field out, and Node does not say that it has. `too_large`: more than `MAX_HEADER_LIST_BYTES`, of which
 * Node makes a request still, or than `MAX_HEADER_FIELDS`, where it resets the stream; the rest is not looked at.
 */
export type HeaderFault = 'forbidden_field' | 'too_large';

/** What Node does not tell of the frames of a client. Calls come before `read` returns. */
export interface ClientFrameEvents {
  /** A header, or trailers, must not be passed on. */
  headerRefused(streamId: number, fault: HeaderFault): void;
  /** A stream was reset. Of one that came in the same read Node makes no request. */
  streamReset(): void;
}

/** Follows what an HTTP/2 client sends, as far as it takes to see that. */
export class ClientFrames implements FrameSink, FieldSink {
  payloadBytes = 0;
  readonly #events: ClientFrameEvents;
  readonly #isHost: (text: string) => boolean;
  readonly #reader = new FrameReader(this, { headerBytes: FRAME_HEADER_BYTES, preface: CLIENT_PREFACE });
  readonly #decoder = new HpackDecoder(names);
  #type = -1;
  #flags = 0;
  #streamId = 0;
  #block: HeaderBlock | undefined;
  #forbidden = 0;
  #failure: number = ErrorCode.protocol;

  /** @param isHost - whether a text is a valid value of Host. */
  constructor(events: ClientFrameEvents, isHost: (text: string) => boolean) {
    this.#events = events;
    this.#isHost = isHost;
  }

  /**
   * Reads on.
   * @returns why it cannot be followed, once it cannot and ever after: an error code (RFC 9113 section 7) for who has sent it
   */
  read(bytes: Buffer): number | undefined {
    return this.#reader.read(bytes, 0, bytes.length) ? undefined : this.#failure;
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
    if ((this.#block?.streamId ?? 0) !== continued) return undefined;
    if (this.#type === FrameType.rstStream) this.#events.streamReset();
    return this.#type === FrameType.headers || continued > 0 ? 'collect' : 'skip';
  }

  /** Nothing is streamed. */
  part(): boolean {
    return false;
  }

  payload(bytes: Buffer, start: number, end: number): boolean {
    let [from, to] = [start, end];
    if (this.#type === FrameType.headers) {
      from = fragmentStart(this.#flags, start);
      to = fragmentEnd(this.#flags, bytes, start, end);
      if (from > to) return false;
    }
    const isWhole = (this.#flags & Flag.endHeaders) !== 0;
    if (isWhole && !this.#block) return this.#judge(this.#decoder.decode(bytes, from, to, this));
    if (!this.#block) this.#decoder.begin();
    this.#block ??= new HeaderBlock(this.#streamId, false, 0, MAX_HEADER_BLOCK_BYTES);
    if (!this.#block.add(to - from)) {
      this.#failure = ErrorCode.enhanceYourCalm;
      return false;
    }
    const failure = this.#decoder.part(bytes, from, to, this);
    if (failure || !isWhole) return !failure || this.#judge(failure);
    this.#block = undefined;
    return this.#judge(this.#decoder.finish());
  }

  #judge(failure: HpackFailure | undefined): boolean {
    if (failure) {
      this.#failure = ErrorCode.compression;
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
