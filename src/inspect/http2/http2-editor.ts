import type { CallPermit, CallRefusal } from '../../policy/call-judge.js';
import { MAX_HELD_BLOCK_BYTES, MAX_UNSENT_REFUSALS } from '../../limits.js';
import type { Drain } from '../drain.js';
import type { DrainingEditor } from '../editor.js';
import { trailersOnly } from '../grpc/trailers-only.js';
import { neverIndexed } from '../hpack/literal-field.js';
import type { Sender } from '../sender.js';
import { continuationFrames, frame, MAX_WINDOW_BYTES, resetFrame, windowUpdateFrame } from './encode.js';
import { FrameCutter, type CutHttp2, type FrameUse, type HeldUse } from './frame-cutter.js';
import { Http2Drain, type DrainedHttp2 } from './http2-drain.js';
import { ErrorCode, Flag, FRAME_HEADER_BYTES, FrameType } from './http2-frame.js';
import type { Http2Loss } from './http2-side.js';
import type { RefusedStreams } from './refused-streams.js';

/** The connection that is edited, as its inspector knows it. */
export interface EditedHttp2 extends CutHttp2, DrainedHttp2 {
  /** Whether the boundaries of frames are known. */
  readonly isFramed: boolean;
  /** Whether a frame can be inserted between what a sender has sent and what it will send. */
  atBoundary(sender: Sender): boolean;
}

/** The decisions on the calls of a connection. */
export interface JudgedStreams {
  /** The decision on the call that the last header block of the client has begun on this stream. It is returned once. */
  takeVerdict(streamId: number): CallPermit | CallRefusal | undefined;
  readonly refused: RefusedStreams;
}

const NOTHING = Buffer.alloc(0);

/**
 * RFC 9113 section 8.2.2: a request with this field is malformed. grpc-go resets its stream before it looks for a handler, and
 * treats a further header block on the same stream as an error of the connection.
 */
const POISON = neverIndexed('connection', 'close');

/**
 * Edits an HTTP/2 connection that is relayed: drains it, and refuses calls or adds fields to them. It holds the frames of each header
 * block of the client until the inspector has read it and the call was judged.
 *
 * The block of a refused call is forwarded with a forbidden field at its end, because the server's HPACK tables must see every block.
 * The server resets the stream; the reset is not forwarded. The client is answered here. The bytes that it still sends on the stream
 * are dropped, and its flow-control window is restored.
 *
 * If calls are judged, nothing is forwarded after a `failure`.
 */
export class Http2Editor implements DrainingEditor<Http2Loss> {
  readonly #connection: EditedHttp2;
  readonly #toClient: (bytes: Buffer) => void;
  readonly #judged: JudgedStreams | undefined;
  readonly #client: FrameCutter;
  readonly #server: FrameCutter;
  #drain: Http2Drain | undefined;
  #failure: Http2Loss | undefined;
  #nowMs = 0;
  /** The frame of the client that is held. */
  #heldType = 0;
  #heldFlags = 0;
  #heldStreamId = 0;
  /** Whether HEADERS of the held block has END_STREAM. */
  #endsStream = false;
  /** Refused calls whose clients have not been answered yet. */
  readonly #unanswered = new Map<number, CallRefusal>();
  /** Streams of refused calls that the client has ended in this chunk, which the inspector has not read yet. */
  #clientDone: number[] = [];
  /** The bytes of dropped DATA that the client's connection window is to get back. */
  #owedBytes = 0;

  /**
   * @param toClient - sends bytes to the client, after all bytes that were forwarded
   * @param judged - the decisions on the calls of the connection, if they are judged
   */
  constructor(connection: EditedHttp2, toClient: (bytes: Buffer) => void, judged?: JudgedStreams) {
    this.#connection = connection;
    this.#toClient = toClient;
    this.#judged = judged;
    const [hasAdditions, hasRead] = [(): boolean => this.#hasAdditions, this.#hasRead.bind(this)];
    this.#client = new FrameCutter('client', connection, {
      begin: (type, flags, streamId, length, held) => this.#beginClient(type, flags, streamId, length, held),
      settle: (bytes, start) => this.#settle(bytes, start),
      hasAdditions: false,
      additions: () => undefined,
      hasRead,
    });
    this.#server = new FrameCutter('server', connection, {
      begin: (type, _flags, streamId) => this.#beginServer(type, streamId),
      settle: () => 'forward',
      get hasAdditions() {
        return hasAdditions();
      },
      additions: () => this.#takeAdditions(),
      hasRead,
    });
  }

  get failure(): Http2Loss | undefined {
    return this.#failure;
  }

  pass(sender: Sender, bytes: Buffer, nowMs: number): Buffer {
    this.#nowMs = nowMs;
    if (this.#mustStop()) return NOTHING;
    const passed = sender === 'client' ? this.#passClient(bytes) : this.#passServer(bytes);
    return this.#mustStop() ? NOTHING : passed;
  }

  drain(token: Buffer): Drain {
    this.#drain = new Http2Drain(this.#connection, token, () => this.#send());
    this.#send();
    return this.#drain;
  }

  #passClient(bytes: Buffer): Buffer {
    if (!this.#connection.isFramed) return this.#client.passUncut(bytes, this.#nowMs);
    const passed = this.#client.pass(bytes, this.#nowMs);
    if (this.#clientDone.length > 0) {
      for (const streamId of this.#clientDone) this.#judged?.refused.clientDone(streamId);
      this.#clientDone = [];
    }
    this.#send();
    return passed;
  }

  #passServer(bytes: Buffer): Buffer {
    const hasWork = this.#hasAdditions || this.#judged?.refused.awaitsReset === true || !this.#server.isIdle;
    const isCut = hasWork && this.#connection.isFramed;
    return isCut ? this.#server.pass(bytes, this.#nowMs) : this.#server.passUncut(bytes, this.#nowMs);
  }

  /** A failure of a connection whose calls are judged. */
  #mustStop(): boolean {
    return this.#judged !== undefined && this.#failure !== undefined;
  }

  #hasRead(loss: Http2Loss | undefined): boolean {
    if (loss === undefined) return true;
    // A limit may be exceeded after the connection could no longer be followed.
    this.#failure = loss;
    return this.#connection.isFramed && !this.#mustStop();
  }

  #beginClient(
    type: number,
    flags: number,
    streamId: number,
    length: number,
    heldBytes: number,
  ): FrameUse | undefined {
    // Frames that continue a held block are of a stream that the drain forwards.
    const isWithinBlock = heldBytes > 0;
    const use = isWithinBlock ? 'hold' : (this.#drain?.begin(type, flags, streamId, length) ?? 'forward');
    if (use === 'hide') {
      if (type === FrameType.data) this.#owedBytes += length;
      return use;
    }
    if (use === 'hold' && !isWithinBlock) {
      this.#heldType = type;
      return use;
    }
    if (!this.#judged) return use;
    if (type === FrameType.headers || type === FrameType.continuation) {
      if (heldBytes + FRAME_HEADER_BYTES + length > MAX_HELD_BLOCK_BYTES) {
        this.#failure = 'large_block';
        return undefined;
      }
      if (type === FrameType.headers) this.#endsStream = (flags & Flag.endStream) !== 0;
      this.#heldType = type;
      this.#heldFlags = flags;
      this.#heldStreamId = streamId;
      return 'hold';
    }
    const { refused } = this.#judged;
    if (!refused.isSending(streamId)) return use;
    if (type === FrameType.data) this.#owedBytes += length;
    const isReset = type === FrameType.rstStream;
    if (isReset) this.#unanswered.delete(streamId);
    if (isReset || (type === FrameType.data && (flags & Flag.endStream) !== 0))
      this.#clientDone.push(streamId);
    return 'drop';
  }

  /** The held frame is whole: an answer to a PING, or a part of a header block. */
  #settle(bytes: Buffer, start: number): HeldUse | undefined {
    if (this.#heldType === FrameType.ping) return this.#drain?.settle(bytes, start) ?? 'forward';
    const streamId = this.#heldStreamId;
    if ((this.#heldFlags & Flag.endHeaders) === 0) {
      if (!this.#connection.isBetweenFrames('client')) return 'hold';
      // The inspector has rejected the block, and would read any frame after this one.
      this.#failure = 'unjudged_block';
      return undefined;
    }
    const verdict = this.#judged?.takeVerdict(streamId);
    // A second block of a stream would begin a call on a server that has rejected the first.
    if (!verdict) {
      this.#failure = 'unjudged_block';
      return undefined;
    }
    if (verdict.kind === 'refuse') return this.#refuse(streamId, verdict);
    return verdict.fields.length === 0 ? 'forward' : continuationFrames(streamId, verdict.fields);
  }

  #refuse(streamId: number, refusal: CallRefusal): Buffer | undefined {
    this.#unanswered.set(streamId, refusal);
    const isAdded = this.#judged?.refused.add(streamId, this.#endsStream) === true;
    if (!isAdded || this.#unanswered.size > MAX_UNSENT_REFUSALS) {
      this.#failure = 'refused_flood';
      return undefined;
    }
    return continuationFrames(streamId, POISON);
  }

  #beginServer(type: number, streamId: number): FrameUse | undefined {
    if (this.#judged?.refused.isUnreset(streamId) !== true) return 'forward';
    if (type === FrameType.rstStream) this.#judged.refused.serverDone(streamId);
    else if (type !== FrameType.windowUpdate) {
      this.#failure = 'refused_call_answered';
      return undefined;
    }
    return 'hide';
  }

  get #hasAdditions(): boolean {
    return this.#unanswered.size > 0 || this.#owedBytes > 0 || this.#drain?.hasFrames === true;
  }

  /** Sends frames that wait to the client, if the server's bytes end at a boundary. */
  #send(): void {
    if (!this.#hasAdditions || this.#mustStop()) return;
    const frames = this.#takeAdditions();
    if (frames) this.#toClient(frames);
  }

  #takeAdditions(): Buffer | undefined {
    if (!this.#connection.atBoundary('server')) return undefined;
    const frames: Buffer[] = [];
    for (const [streamId, { code, message }] of this.#unanswered) {
      const flags = Flag.endStream | Flag.endHeaders;
      frames.push(frame(FrameType.headers, flags, streamId, trailersOnly(code, message)));
      // RFC 9113 section 8.1: a complete answer before the end of the request is followed by RST_STREAM with NO_ERROR.
      if (this.#judged?.refused.isSending(streamId) === true)
        frames.push(resetFrame(streamId, ErrorCode.none));
    }
    this.#unanswered.clear();
    // A client that was owed more would have exceeded its window.
    const owedBytes = Math.min(this.#owedBytes, MAX_WINDOW_BYTES);
    if (owedBytes > 0) frames.push(windowUpdateFrame(0, owedBytes));
    this.#owedBytes = 0;
    if (this.#drain?.hasFrames === true) frames.push(this.#drain.takeFrames());
    const bytes = Buffer.concat(frames);
    this.#hasRead(this.#connection.read('server', bytes, 0, bytes.length, this.#nowMs));
    return bytes;
  }
}
