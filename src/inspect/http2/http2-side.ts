import {
  MAX_COLLECTED_FRAME_BYTES,
  MAX_HEADER_AMPLIFICATION,
  MAX_HEADER_TABLE_BYTES,
  MAX_UNACKNOWLEDGED_SETTINGS,
} from '../../limits.js';
import { HpackDecoder, type FieldSink, type HpackFailure } from '../hpack/decoder.js';
import type { FieldNames } from '../hpack/field-names.js';
import { FrameReader, type FrameSink, type PayloadUse } from '../frame-reader.js';
import type { Sender } from '../sender.js';
import type { FrameFlood, LimitedFrame } from './frame-limit.js';
import { CLIENT_PREFACE, Flag, FRAME_HEADER_BYTES, FrameType } from './http2-frame.js';
import { HeaderBlockReader, type BlockStep } from './header-block.js';
import type { ExceededReset } from './reset-limit.js';
import { readSettings, type Settings } from './http2-settings.js';
import type { FieldValues } from './stream-observer.js';

/** The reason for which the calls of a connection can no longer be followed. A closed set. */
export type Http2Loss =
  'preface' | 'frame' | 'settings' | `hpack_${HpackFailure}` | 'call_budget' | JudgeLoss | Http2Limit;

/**
 * The reason for which calls can no longer be judged. `unjudged_block`: a header block of the client that does not begin a call.
 * `large_block`: one that is larger than is held. `refused_call_answered`: the server has not reset a call that was refused.
 */
export type JudgeLoss = 'unjudged_block' | 'large_block' | 'refused_call_answered';

/**
 * A limit that a client has exceeded. A closed set. Three of them concern a header block: `continuation` (its frames are small),
 * `interleaved_block` (another frame came within it), `slow_block` (it took too long).
 */
export type Http2Limit =
  | ExceededReset
  | 'unacknowledged_settings'
  | FrameFlood
  | 'continuation'
  | 'interleaved_block'
  | 'slow_block'
  | 'hpack_too_large'
  | 'refused_flood'
  | 'too_many_streams';

/** The events of one end's frames. A method that returns `false` has found that a limit is exceeded: nothing more is read. */
export interface SideEvents {
  /** When what is being read came. */
  readonly nowMs: number;
  /** `values` is undefined if the header block could not be read: the stream still begins or is answered. */
  headers(sender: Sender, streamId: number, values: FieldValues | undefined): boolean;
  /**
   * DATA begins. `length` is its length on the wire, padding included, which counts against the windows; `content` is the
   * length of its content, -1 while the padding is unknown. Returns whether the content has an observer.
   */
  dataFrame(sender: Sender, streamId: number, length: number, content: number): boolean;
  /** Whether a stream without an observer may nevertheless be open. */
  mayBeOpen(streamId: number): boolean;
  /** The length of the content of padded DATA is known. */
  content(sender: Sender, streamId: number, content: number): void;
  data(sender: Sender, streamId: number, bytes: Buffer, start: number, end: number): void;
  endStream(sender: Sender, streamId: number): void;
  reset(sender: Sender, streamId: number, errorCode: number): boolean;
  /** A frame comes that may not come too often; those that make the other end answer are `control`. */
  frame(sender: Sender, kind: LimitedFrame, what: number): boolean;
  goAway(sender: Sender, lastStreamId: number, errorCode: number): void;
  /** `streamId` 0: the connection. */
  windowUpdate(sender: Sender, streamId: number, increment: number): void;
  /** The end acknowledges the oldest SETTINGS of the other that it has not acknowledged yet. */
  settingsAcknowledged(sender: Sender): void;
  /** A header list is larger than any that a server accepts, or a bomb. */
  headersTooLarge(sender: Sender): boolean;
  /** The calls can no longer be followed; frames can. */
  lose(loss: Http2Loss): void;
  /** This end exceeds a limit. */
  exceed(sender: Sender, limit: Http2Limit): boolean;
}

const CLIENT_FRAMING = { headerBytes: FRAME_HEADER_BYTES, preface: CLIENT_PREFACE };
const SERVER_FRAMING = { headerBytes: FRAME_HEADER_BYTES, preface: undefined };

/**
 * Follows the frames that one end of a connection sends. The content of a frame may be unreadable, but its header gives its
 * end, so the limits on frames apply to anything that an end sends.
 */
export class Http2Side implements FrameSink, FieldSink {
  readonly reader: FrameReader;
  /** SETTINGS that this end has sent and the other has not acknowledged: they hold from then on. */
  readonly unacknowledged: Settings[] = [];
  payloadBytes = 0;
  readonly #sender: Sender;
  readonly #events: SideEvents;
  readonly #maxListBytes: number;
  readonly #values: (string | undefined)[];

  // The frame that is being read.
  #type = -1;
  #flags = 0;
  #streamId = 0;
  /** When the payload of HEADERS or CONTINUATION was first waited for. */
  #awaitedSinceMs = -1;
  /** DATA: bytes of content that are still to come; -1 until the length of the padding is known. */
  #contentLeft = 0;
  #isContentTold = false;
  readonly #block: HeaderBlockReader;

  constructor(sender: Sender, names: FieldNames, events: SideEvents, maxListBytes: number) {
    this.#sender = sender;
    this.#events = events;
    this.#maxListBytes = maxListBytes;
    this.reader = new FrameReader(this, sender === 'client' ? CLIENT_FRAMING : SERVER_FRAMING);
    this.#block = new HeaderBlockReader(new HpackDecoder(names), this, maxListBytes, () =>
      events.headersTooLarge(sender),
    );
    this.#values = new Array<undefined>(names.count + 1).fill(undefined);
  }

  /**
   * Whether a frame could be put in here: not before the first, which must be SETTINGS (RFC 9113 section 3.4), nor within
   * a header block.
   */
  get atBoundary(): boolean {
    return this.#type >= 0 && this.isBetweenFrames;
  }

  /** Whether its bytes so far end where a frame ends, outside of a header block. */
  get isBetweenFrames(): boolean {
    return this.reader.atBoundary && this.#block.streamId === 0;
  }

  /** Since when it has been within a header block, if it is. */
  get headerBlockBeganAtMs(): number | undefined {
    if (this.#block.streamId !== 0) return this.#block.beganAtMs;
    return this.#awaitedSinceMs < 0 ? undefined : this.#awaitedSinceMs;
  }

  /** The stream whose header block is open; 0 if none is. */
  get headerBlockStreamId(): number {
    if (this.#block.streamId !== 0) return this.#block.streamId;
    return this.#awaitedSinceMs < 0 ? 0 : this.#streamId;
  }

  /** Whether anything of it has come. */
  get hasBegun(): boolean {
    return this.#type >= 0 || !this.reader.atBoundary;
  }

  /** Stops reading header blocks and discards their tables. */
  stopReadingHeaders(): void {
    this.#block.stopDecoding();
    this.unacknowledged.length = 0;
  }

  /** This end has acknowledged the SETTINGS_HEADER_TABLE_SIZE of the other end. */
  acknowledgeTableSize(bytes: number): void {
    this.#block.decoder?.acknowledgeTableSize(bytes);
  }

  field(nameId: number, value: string): void {
    // The first counts where one comes twice, as in grpc-go.
    this.#values[nameId] ??= value;
  }

  header(bytes: Buffer, offset: number): PayloadUse | undefined {
    const length = readUint24(bytes, offset);
    const type = bytes[offset + 3] ?? 0;
    // "Reserved: ... MUST be ignored when receiving."
    const streamId = (((bytes[offset + 5] ?? 0) & 0x7f) << 24) | readUint24(bytes, offset + 6);
    this.payloadBytes = length;
    this.#type = type;
    this.#flags = bytes[offset + 4] ?? 0;
    this.#streamId = streamId;
    // RFC 9113 section 4.3: "a contiguous sequence of frames, with no interleaved frames of any other type or from any
    // other stream".
    if (this.#block.streamId !== (type === FrameType.continuation ? streamId : 0)) {
      this.#block.abandon();
      if (!this.#events.exceed(this.#sender, 'interleaved_block')) return undefined;
      if (type === FrameType.continuation) return 'skip';
    }
    switch (type) {
      case FrameType.data:
        return this.#beginData();
      case FrameType.headers:
      case FrameType.continuation:
        return this.#beginHeaders();
      case FrameType.settings:
        if (streamId !== 0) return this.#lose('frame');
        return this.#use(this.#collect(), isAck(this.#flags) ? 'small' : 'control');
      case FrameType.ping:
        return this.#use('skip', isAck(this.#flags) ? 'small' : 'control');
      case FrameType.rstStream:
        return length === 4 ? 'collect' : this.#lose('frame');
      case FrameType.windowUpdate:
        return this.#use(length === 4 ? 'collect' : this.#lose('frame'), 'small');
      case FrameType.goAway:
        if (streamId !== 0 || length < 8) this.#lose('frame');
        return this.#use(streamId === 0 && length >= 8 ? this.#collect() : 'skip', 'small');
      default:
        // This includes PUSH_PROMISE: no gRPC server pushes, and Go reads it without its header block.
        return this.#use('skip', 'small');
    }
  }

  part(bytes: Buffer, start: number, end: number, last: boolean): boolean {
    let from = start;
    if (this.#contentLeft < 0) {
      if (from === end) return true;
      // Section 6.1: the first octet is the length of the padding, which "MUST" be less than that of the payload.
      this.#contentLeft = this.payloadBytes - 1 - (bytes[from++] ?? 0);
      if (this.#contentLeft < 0) {
        this.#events.lose('frame');
        this.#contentLeft = 0;
      }
      this.#events.content(this.#sender, this.#streamId, this.#contentLeft);
      const isEmpty = this.#contentLeft === 0 && (this.#flags & Flag.endStream) === 0;
      if (isEmpty && !this.#events.frame(this.#sender, 'small', this.#type)) return false;
    }
    const to = Math.min(from + this.#contentLeft, end);
    if (to > from) {
      this.#contentLeft -= to - from;
      if (this.#isContentTold) this.#events.data(this.#sender, this.#streamId, bytes, from, to);
    }
    if (last && (this.#flags & Flag.endStream) !== 0) this.#events.endStream(this.#sender, this.#streamId);
    return true;
  }

  payload(bytes: Buffer, start: number, end: number): boolean {
    const { headers, continuation, settings, rstStream, windowUpdate, goAway } = FrameType;
    switch (this.#type) {
      case headers:
        return this.#headers(bytes, start, end);
      case continuation:
        return this.#continuation(bytes, start, end);
      case settings:
        return this.#settings(bytes, start, end);
      case rstStream:
        return this.#events.reset(this.#sender, this.#streamId, bytes.readUInt32BE(start));
      case windowUpdate:
        this.#events.windowUpdate(this.#sender, this.#streamId, bytes.readUInt32BE(start) & 0x7fff_ffff);
        return true;
      case goAway:
        this.#events.goAway(
          this.#sender,
          bytes.readUInt32BE(start) & 0x7fff_ffff,
          bytes.readUInt32BE(start + 4),
        );
        return true;
      default:
        return true;
    }
  }

  #use(use: PayloadUse, kind: LimitedFrame): PayloadUse | undefined {
    return this.#events.frame(this.#sender, kind, this.#type) ? use : undefined;
  }

  /** Collects the whole payload, if it is not too large for that. */
  #collect(): PayloadUse {
    return this.payloadBytes <= MAX_COLLECTED_FRAME_BYTES ? 'collect' : this.#lose('frame');
  }

  #beginData(): PayloadUse | undefined {
    const isPadded = (this.#flags & Flag.padded) !== 0;
    if (this.#streamId === 0 || (isPadded && this.payloadBytes === 0))
      return this.#use(this.#lose('frame'), 'small');
    this.#contentLeft = isPadded ? -1 : this.payloadBytes;
    this.#isContentTold = this.#events.dataFrame(
      this.#sender,
      this.#streamId,
      this.payloadBytes,
      this.#contentLeft,
    );
    const isEmpty = this.payloadBytes === 0 && (this.#flags & Flag.endStream) === 0;
    const isOdd = !this.#isContentTold && !this.#events.mayBeOpen(this.#streamId);
    return isEmpty || isOdd ? this.#use('stream', 'small') : 'stream';
  }

  #beginHeaders(): PayloadUse | undefined {
    if (this.#streamId === 0) return this.#use(this.#lose('frame'), 'small');
    const use = this.#collect();
    if (use === 'collect') this.#awaitedSinceMs = this.#events.nowMs;
    // Its block is not read, but a stream may begin with it.
    else if (this.#type === FrameType.headers) return this.#unread() ? use : undefined;
    return use;
  }

  #unread(): boolean {
    if (!this.#events.headers(this.#sender, this.#streamId, undefined)) return false;
    if ((this.#flags & Flag.endStream) !== 0) this.#events.endStream(this.#sender, this.#streamId);
    return true;
  }

  #headers(bytes: Buffer, start: number, end: number): boolean {
    this.#awaitedSinceMs = -1;
    this.#clearValues();
    const step = this.#block.headers(this.#flags, this.#streamId, bytes, start, end, this.#events.nowMs);
    if (step === 'too_short') this.#events.lose('frame');
    // Go resets a stream whose HEADERS have more padding than payload, and does not read their block.
    if (step === 'too_short' || step === 'only_padding')
      return this.#events.frame(this.#sender, 'small', this.#type);
    return this.#proceed(step, false);
  }

  #continuation(bytes: Buffer, start: number, end: number): boolean {
    this.#awaitedSinceMs = -1;
    if (this.#block.streamId === 0) return true;
    const step = this.#block.continuation(this.#flags, bytes, start, end);
    return this.#proceed(step, this.#block.bytes >= this.#maxListBytes);
  }

  /** `isCounted`: the block exceeded the limit on its length while it was open. */
  #proceed(step: BlockStep, isCounted: boolean): boolean {
    switch (step) {
      case 'small_frames':
        return this.#events.exceed(this.#sender, 'continuation');
      case 'open':
      case 'whole': {
        const { failure } = this.#block;
        if (failure) this.#events.lose(`hpack_${failure}`);
        return step === 'open' || this.#decoded(isCounted);
      }
      default:
        return false;
    }
  }

  #decoded(isCounted: boolean): boolean {
    const { decoder, bytes, endStream } = this.#block;
    const values = decoder ? this.#values : undefined;
    const listBytes = decoder?.listBytes ?? 0;
    const isTooLarge =
      listBytes > this.#maxListBytes || listBytes > MAX_HEADER_TABLE_BYTES + MAX_HEADER_AMPLIFICATION * bytes;
    if (isTooLarge && !isCounted && !this.#events.headersTooLarge(this.#sender)) return false;
    if (!this.#events.headers(this.#sender, this.#streamId, values)) return false;
    if (endStream) this.#events.endStream(this.#sender, this.#streamId);
    return true;
  }

  #clearValues(): void {
    const values = this.#values;
    // `fill` leaves the optimized code.
    for (let nameId = 0; nameId < values.length; nameId++) values[nameId] = undefined;
  }

  #settings(bytes: Buffer, start: number, end: number): boolean {
    if (isAck(this.#flags)) {
      // Section 6.5: an acknowledgement has no payload.
      if (end > start) this.#events.lose('frame');
      else this.#events.settingsAcknowledged(this.#sender);
      return true;
    }
    const settings = readSettings(bytes, start, end);
    if (!settings) {
      this.#events.lose('settings');
      return true;
    }
    if (!this.#block.decoder) return true;
    this.unacknowledged.push(settings);
    if (this.unacknowledged.length <= MAX_UNACKNOWLEDGED_SETTINGS) return true;
    return this.#events.exceed(this.#sender, 'unacknowledged_settings');
  }

  #lose(loss: Http2Loss): 'skip' {
    this.#events.lose(loss);
    return 'skip';
  }
}

function isAck(flags: number): boolean {
  return (flags & Flag.ack) !== 0;
}

function readUint24(bytes: Buffer, offset: number): number {
  return ((bytes[offset] ?? 0) << 16) | ((bytes[offset + 1] ?? 0) << 8) | (bytes[offset + 2] ?? 0);
}
