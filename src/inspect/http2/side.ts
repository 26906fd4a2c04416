import { HpackDecoder, type FieldSink, type HpackFailure } from '../hpack/decoder.js';
import type { FieldNames } from '../hpack/field-names.js';
import { FrameReader, type FrameSink, type PayloadUse } from '../frame-reader.js';
import type { Sender } from '../sender.js';
import { CLIENT_PREFACE, Flag, FRAME_HEADER_BYTES, FrameType } from './frame.js';
import { fragmentEnd, fragmentStart, HeaderBlock } from './header-block.js';
import { readSettings, type Settings } from './settings.js';
import type { FieldValues } from './stream-observer.js';

/** Why one end's bytes cannot be followed any further. A closed set. */
export type Http2Failure =
  | 'preface'
  | 'frame'
  | 'settings'
  | 'continuation'
  | 'stream_state'
  | 'too_many_streams'
  | 'reset_flood'
  | 'control_flood'
  | 'frame_flood'
  | `hpack_${HpackFailure}`;

/** What both ends of a connection are told of one end's frames. What is returned says why it cannot be followed. */
export interface SideEvents {
  /** When what is being read came. */
  readonly nowMs: number;
  headers(sender: Sender, streamId: number, values: FieldValues): Http2Failure | undefined;
  /** DATA begins: its length on the wire, padding included, counts against the windows. */
  dataFrame(sender: Sender, streamId: number, length: number): Http2Failure | undefined;
  data(sender: Sender, streamId: number, bytes: Buffer, start: number, end: number): void;
  endStream(sender: Sender, streamId: number): Http2Failure | undefined;
  reset(sender: Sender, streamId: number, errorCode: number): Http2Failure | undefined;
  /** A frame comes that may not come too often; those that make the other end answer are `control`. */
  frame(sender: Sender, kind: 'control' | 'small', what: number): Http2Failure | undefined;
  goAway(sender: Sender, lastStreamId: number, errorCode: number): void;
  /** `streamId` 0: of the connection. */
  windowUpdate(sender: Sender, streamId: number, increment: number): void;
  /** The end acknowledges the oldest SETTINGS of the other that it has not acknowledged yet. */
  settingsAcknowledged(sender: Sender): Http2Failure | undefined;
}

/** No library sends more than two before the first is acknowledged. */
const MAX_UNACKNOWLEDGED_SETTINGS = 16;

const CLIENT_FRAMING = { headerBytes: FRAME_HEADER_BYTES, preface: CLIENT_PREFACE };
const SERVER_FRAMING = { headerBytes: FRAME_HEADER_BYTES, preface: undefined };

/** Follows the frames that one end of a connection sends. */
export class Side implements FrameSink, FieldSink {
  readonly reader: FrameReader;
  readonly decoder: HpackDecoder;
  /** SETTINGS that this end has sent and the other has not acknowledged: they hold from then on. */
  readonly unacknowledged: Settings[] = [];
  failure: Http2Failure | undefined;
  payloadBytes = 0;
  readonly #sender: Sender;
  readonly #events: SideEvents;
  readonly #values: (string | undefined)[];

  // The frame that is being read.
  #type = -1;
  #flags = 0;
  #streamId = 0;
  /** DATA: bytes of content that are still to come; -1 until the length of the padding is known. */
  #contentLeft = 0;
  #block: HeaderBlock | undefined;

  constructor(sender: Sender, names: FieldNames, events: SideEvents) {
    this.#sender = sender;
    this.#events = events;
    this.reader = new FrameReader(this, sender === 'client' ? CLIENT_FRAMING : SERVER_FRAMING);
    this.decoder = new HpackDecoder(names);
    this.#values = new Array<undefined>(names.count + 1).fill(undefined);
  }

  /**
   * Whether a frame could be put in here: not before the first, which must be SETTINGS (RFC 9113 section 3.4), nor within
   * a header block.
   */
  get atBoundary(): boolean {
    return this.#type >= 0 && this.reader.atBoundary && !this.#block;
  }

  /** Since when it has been within a header block, if it is. */
  get headerBlockBeganAtMs(): number | undefined {
    return this.#block?.beganAtMs;
  }

  /** Whether anything of it has come. */
  get hasBegun(): boolean {
    return this.#type >= 0 || !this.reader.atBoundary;
  }

  /** Reads on; `false` once it cannot be followed, with the reason in `failure`. */
  read(bytes: Buffer, start: number, end: number): boolean {
    if (this.reader.read(bytes, start, end)) return true;
    this.failure ??= 'preface';
    return false;
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
    if ((this.#block?.streamId ?? 0) !== (type === FrameType.continuation ? streamId : 0)) {
      return this.#fail('continuation');
    }
    switch (type) {
      case FrameType.data:
        return this.#beginData();
      case FrameType.headers:
      case FrameType.continuation:
        return streamId === 0 ? this.#fail('frame') : 'collect';
      case FrameType.pushPromise:
        // No gRPC server pushes; and a promised stream would be one that nobody follows.
        return this.#fail('frame');
      case FrameType.settings:
        if (streamId !== 0) return this.#fail('frame');
        return isAck(this.#flags) ? 'collect' : this.#use('collect', 'control');
      case FrameType.ping:
        return this.#use('skip', isAck(this.#flags) ? 'small' : 'control');
      case FrameType.rstStream:
        return length === 4 ? 'collect' : this.#fail('frame');
      case FrameType.windowUpdate:
        return length === 4 ? this.#use('collect', 'small') : this.#fail('frame');
      case FrameType.goAway:
        return streamId === 0 && length >= 8 ? this.#use('collect', 'small') : this.#fail('frame');
      default:
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
        this.#fail('frame');
        return false;
      }
    }
    const to = Math.min(from + this.#contentLeft, end);
    if (to > from) {
      this.#contentLeft -= to - from;
      this.#events.data(this.#sender, this.#streamId, bytes, from, to);
    }
    return !last || (this.#flags & Flag.endStream) === 0 || this.#endStream(this.#streamId);
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
        return this.#follow(this.#events.reset(this.#sender, this.#streamId, bytes.readUInt32BE(start)));
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

  #use(use: PayloadUse, kind: 'control' | 'small'): PayloadUse | undefined {
    const failure = this.#events.frame(this.#sender, kind, this.#type);
    return failure ? this.#fail(failure) : use;
  }

  #beginData(): PayloadUse | undefined {
    if (this.#streamId === 0) return this.#fail('frame');
    const padded = (this.#flags & Flag.padded) !== 0;
    if (padded && this.payloadBytes === 0) return this.#fail('frame');
    this.#contentLeft = padded ? -1 : this.payloadBytes;
    const failure = this.#events.dataFrame(this.#sender, this.#streamId, this.payloadBytes);
    if (failure) return this.#fail(failure);
    const isEmpty = this.payloadBytes === 0 && (this.#flags & Flag.endStream) === 0;
    return isEmpty ? this.#use('stream', 'small') : 'stream';
  }

  #headers(bytes: Buffer, start: number, end: number): boolean {
    const from = fragmentStart(this.#flags, start);
    const to = fragmentEnd(this.#flags, bytes, start, end);
    if (from > to) return this.#refuse('frame');
    const endStream = (this.#flags & Flag.endStream) !== 0;
    if ((this.#flags & Flag.endHeaders) !== 0)
      return this.#decode(bytes, from, to, this.#streamId, endStream);
    this.#block = new HeaderBlock(this.#streamId, endStream, this.#events.nowMs);
    return this.#block.add(bytes, from, to) || this.#refuse('continuation');
  }

  #continuation(bytes: Buffer, start: number, end: number): boolean {
    const block = this.#block;
    if (!block?.add(bytes, start, end)) return this.#refuse('continuation');
    if ((this.#flags & Flag.endHeaders) === 0) return true;
    this.#block = undefined;
    const whole = block.whole();
    return this.#decode(whole, 0, whole.length, block.streamId, block.endStream);
  }

  #decode(bytes: Buffer, start: number, end: number, streamId: number, endStream: boolean): boolean {
    const values = this.#values;
    // `fill` leaves the optimized code.
    for (let nameId = 0; nameId < values.length; nameId++) values[nameId] = undefined;
    const failure = this.decoder.decode(bytes, start, end, this);
    if (failure) return this.#refuse(`hpack_${failure}`);
    if (!this.#follow(this.#events.headers(this.#sender, streamId, values))) return false;
    return !endStream || this.#endStream(streamId);
  }

  #settings(bytes: Buffer, start: number, end: number): boolean {
    if (isAck(this.#flags)) {
      // Section 6.5: an acknowledgement has no payload.
      if (end > start) return this.#refuse('frame');
      return this.#follow(this.#events.settingsAcknowledged(this.#sender));
    }
    const settings = readSettings(bytes, start, end);
    if (!settings) return this.#refuse('settings');
    this.unacknowledged.push(settings);
    // Nobody sends SETTINGS again and again without waiting for an answer but to make the other queue them.
    return this.unacknowledged.length <= MAX_UNACKNOWLEDGED_SETTINGS || this.#refuse('control_flood');
  }

  #endStream(streamId: number): boolean {
    return this.#follow(this.#events.endStream(this.#sender, streamId));
  }

  #follow(failure: Http2Failure | undefined): boolean {
    return failure === undefined || this.#refuse(failure);
  }

  #fail(reason: Http2Failure): PayloadUse | undefined {
    this.failure ??= reason;
    return undefined;
  }

  #refuse(reason: Http2Failure): false {
    this.failure ??= reason;
    return false;
  }
}

function isAck(flags: number): boolean {
  return (flags & Flag.ack) !== 0;
}

function readUint24(bytes: Buffer, offset: number): number {
  return ((bytes[offset] ?? 0) << 16) | ((bytes[offset + 1] ?? 0) << 8) | (bytes[offset + 2] ?? 0);
}
