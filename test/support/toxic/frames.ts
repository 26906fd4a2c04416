import {
  FrameReader,
  type FrameSink,
  type Framing,
  type PayloadUse,
} from '../../../src/inspect/frame-reader.js';
import {
  block,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  HEADERS,
  settings,
  uint32,
  WINDOW_UPDATE,
} from '../http2-frames.js';
import { yamuxHeader } from '../yamux-frames.js';

/** RFC 9113 section 6.5.2: the initial SETTINGS_MAX_FRAME_SIZE. */
export const HTTP2_DATA_BYTES_MAX = 16_384;
/** What Gitaly puts into one data frame of yamux at most. */
export const YAMUX_DATA_BYTES_MAX = 65_520;
/** What Gitaly's end of yamux adds to the initial window. */
export const YAMUX_MORE_WINDOW_BYTES = 16_515_072;

export const YAMUX_DATA = 0;
export const YAMUX_WINDOW_UPDATE = 1;
export const [SYN, YAMUX_ACK, FIN] = [1, 2, 4] as const;

/** No flow control within HTTP/2: the windows of TCP alone hold a sender back. */
export const HTTP2_OPENING = Buffer.concat([
  settings([4, 0x7fff_ffff]),
  frame(WINDOW_UPDATE, 0, 0, uint32(0x7fff_ffff - 65_535)),
]);

/** HEADERS of stream 1. */
export function headersFrame(fields: Readonly<Record<string, string>>, flags = 0): Buffer {
  return frame(HEADERS, END_HEADERS | flags, 1, block(fields));
}

/** DATA of stream 1. */
export function dataFrame(bytes: Buffer, isLast: boolean): Buffer {
  return frame(DATA, isLast ? END_STREAM : 0, 1, bytes);
}

/** A length-prefixed message of gRPC, not compressed. */
export function message(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.of(0), uint32(bytes.length), bytes]);
}

/** A frame of yamux; `length` where it is no data's. */
export function yamuxFrame(
  type: number,
  flags: number,
  streamId: number,
  { bytes = Buffer.alloc(0), length = bytes.length }: { bytes?: Buffer; length?: number } = {},
): Buffer {
  return Buffer.concat([yamuxHeader(0, type, flags, streamId, length), bytes]);
}

/** Gets each part of each frame's payload, with the frame's header; `isLast` with its last part, which may be empty. */
export type PartReceiver = (header: Buffer, part: Buffer, isLast: boolean) => void;

/** Cuts what one end sends into frames. */
class Frames implements FrameSink {
  payloadBytes = 0;
  readonly #reader: FrameReader;
  readonly #framing: Framing;
  readonly #payloadOf: (header: Buffer) => number;
  readonly #receive: PartReceiver;
  #header = Buffer.alloc(0);

  constructor(framing: Framing, payloadOf: (header: Buffer) => number, receive: PartReceiver) {
    this.#framing = framing;
    this.#payloadOf = payloadOf;
    this.#receive = receive;
    this.#reader = new FrameReader(this, framing);
  }

  read(bytes: Buffer): void {
    if (!this.#reader.read(bytes, 0, bytes.length)) throw new RangeError('what came begins with no preface');
  }

  header(bytes: Buffer, offset: number): PayloadUse {
    this.#header = Buffer.from(bytes.subarray(offset, offset + this.#framing.headerBytes));
    this.payloadBytes = this.#payloadOf(this.#header);
    return 'stream';
  }

  part(bytes: Buffer, start: number, end: number, last: boolean): boolean {
    this.#receive(this.#header, bytes.subarray(start, end), last);
    return true;
  }

  payload(): boolean {
    return false;
  }
}

/** Told of what comes on stream 1 of an HTTP/2 connection, and that SETTINGS came. */
export interface Http2Events {
  settings(): void;
  /** A header block, as it was encoded. */
  headers(block: Buffer, isEnd: boolean): void;
  data(part: Buffer): void;
  /** END_STREAM on DATA. */
  end(): void;
}

/** Reads one end of an HTTP/2 connection. */
export function readHttp2(preface: Buffer | undefined, events: Http2Events): (bytes: Buffer) => void {
  let headers: Buffer[] = [];
  const frames = new Frames(
    { headerBytes: 9, preface },
    (header) => header.readUIntBE(0, 3),
    (header, part, isLast) => {
      const isEnd = isLast && ((header[4] ?? 0) & END_STREAM) !== 0;
      switch (header[3]) {
        case DATA:
          if (part.length > 0) events.data(part);
          if (isEnd) events.end();
          break;
        case HEADERS:
          headers.push(Buffer.from(part));
          if (!isLast) break;
          events.headers(Buffer.concat(headers), isEnd);
          headers = [];
          break;
        case 4:
          if (isLast) events.settings();
          break;
        default:
      }
    },
  );
  return (bytes) => frames.read(bytes);
}

/** Told of what comes on the streams of a yamux session. */
export interface YamuxEvents {
  opened(streamId: number): void;
  data(streamId: number, part: Buffer): void;
  finished(streamId: number): void;
}

/** Reads one end of a yamux session. */
export function readYamux(preface: Buffer | undefined, events: YamuxEvents): (bytes: Buffer) => void {
  const frames = new Frames(
    { headerBytes: 12, preface },
    (header) => (header[1] === YAMUX_DATA ? header.readUInt32BE(8) : 0),
    (header, part, isLast) => {
      const [flags, streamId] = [header.readUInt16BE(2), header.readUInt32BE(4)];
      if (isLast && (flags & SYN) !== 0) events.opened(streamId);
      if (part.length > 0) events.data(streamId, part);
      if (isLast && (flags & FIN) !== 0) events.finished(streamId);
    },
  );
  return (bytes) => frames.read(bytes);
}
