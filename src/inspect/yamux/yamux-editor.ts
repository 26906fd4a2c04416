import { MAX_HELD_YAMUX_BYTES } from '../../limits.js';
import { BACKCHANNEL_MAGIC } from '../backchannel/magic.js';
import type { Drain } from '../drain.js';
import type { DrainingEditor, Editor } from '../editor.js';
import type { FollowedConnection } from '../grpc/followed-connection.js';
import type { Http2Loss } from '../http2/http2-side.js';
import { other, type Sender } from '../sender.js';
import { EditedFlow } from './edited-flow.js';
import { PassedBytes } from './passed-bytes.js';
import { YAMUX_HEADER_BYTES, YamuxFlag, yamuxHeader, YamuxType } from './yamux-frame.js';

const NOTHING = Buffer.alloc(0);

/** Creates the editor of the client's gRPC connection. `toClient` sends the client bytes at a frame boundary of the server. */
export type EditConnection = (
  connection: FollowedConnection,
  toClient: (bytes: Buffer) => void,
) => Editor<Http2Loss>;

/**
 * Takes the content of the client's stream, and has the inspector of its connection read it. `bytes` is a view that is reused after
 * the call. Returns why the content cannot be followed, or which limit was exceeded.
 */
export type ClientStreamReader<Failure> = (
  connection: FollowedConnection,
  sender: Sender,
  bytes: Buffer,
  nowMs: number,
) => Failure | undefined;

/** The backchannel that is edited, as its inspector knows it. */
export interface EditedBackchannel<Failure> {
  /** The first stream that the client has opened. */
  readonly clientStreamId: number | undefined;
  /** Whether neither a call nor a sidechannel is open. */
  readonly isIdle: boolean;
  /** From now on `reader` takes the content of the client's stream, and no other stream of the client can be followed. */
  readClientStreamWith(reader: ClientStreamReader<Failure | Http2Loss>): void;
  read(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): Failure | undefined;
}

/** The client's stream, once it is open. */
interface EditedStream {
  readonly streamId: number;
  /** By who sends. */
  readonly flows: Readonly<Record<Sender, EditedFlow>>;
}

/** The frames that one end sends. */
class Lane {
  readonly sender: Sender;
  /** A header that comes in parts, which are held until it is complete. */
  readonly header = Buffer.alloc(YAMUX_HEADER_BYTES);
  headerBytes = 0;
  /** Payload of the current frame that is still to come. */
  payloadBytes: number;
  /** Whether the payload is data of the edited stream. Then its parts are forwarded as frames of their own. */
  isEdited = false;
  /** Flags of the current frame, if it is edited, that are still to be forwarded. */
  flags = 0;
  /** Set while bytes of this end are read. */
  passed: PassedBytes | undefined;

  /** The preface counts as a payload. */
  constructor(sender: Sender, prefaceBytes: number) {
    this.sender = sender;
    this.payloadBytes = prefaceBytes;
  }

  /** Whether the forwarded bytes end where a frame ends. */
  get atBoundary(): boolean {
    return this.payloadBytes === 0 || this.isEdited;
  }
}

/**
 * Edits the client's stream of a backchannel, and no other. The inspector reads the bytes of both ends. It hands the data of the
 * client's stream to an inner editor, whose result is put into frames again. Data that is unchanged, in a frame that came whole, is
 * forwarded without a copy. Data of that stream which the inspector does not hand to the inner editor is dropped.
 *
 * Dropped and inserted bytes change the windows of both ends: `EditedFlow` corrects them.
 */
export class YamuxEditor<Failure> implements DrainingEditor<Failure | 'yamux_window'> {
  readonly #inspector: EditedBackchannel<Failure>;
  readonly #send: (receiver: Sender, bytes: Buffer) => void;
  readonly #lanes: Readonly<Record<Sender, Lane>> = {
    client: new Lane('client', BACKCHANNEL_MAGIC.length),
    server: new Lane('server', 0),
  };
  #stream: EditedStream | undefined;
  #inner: Editor<Http2Loss> | undefined;
  /** The data that the inner editor was given last, and its result. */
  #data: Buffer = NOTHING;
  #result: Buffer = NOTHING;
  #failure: Failure | 'yamux_window' | undefined;

  /** `send` sends an end bytes, after all that was forwarded to it so far. */
  constructor(
    inspector: EditedBackchannel<Failure>,
    edit: EditConnection,
    send: (receiver: Sender, bytes: Buffer) => void,
  ) {
    this.#inspector = inspector;
    this.#send = send;
    inspector.readClientStreamWith((connection, sender, bytes, nowMs) => {
      this.#inner ??= edit(connection, (inserted) => this.#insert(inserted));
      this.#data = bytes;
      this.#result = this.#inner.pass(sender, bytes, nowMs);
      return this.#inner.failure;
    });
  }

  get failure(): Failure | 'yamux_window' | undefined {
    return this.#failure;
  }

  pass(sender: Sender, bytes: Buffer, nowMs: number): Buffer {
    const lane = this.#lanes[sender];
    const passed = new PassedBytes(bytes);
    lane.passed = passed;
    while (passed.left > 0 && this.#failure === undefined) {
      if (lane.payloadBytes === 0) this.#passHeader(lane, passed, nowMs);
      else if (lane.isEdited) this.#passEdited(lane, passed, nowMs);
      else this.#passOther(lane, passed, nowMs);
    }
    lane.passed = undefined;
    return this.#failure === undefined ? passed.take() : NOTHING;
  }

  /**
   * Nothing is inserted to announce the drain. The connection can be closed whenever neither a call nor a sidechannel is open and
   * no answer waits for the client.
   */
  drain(): Drain {
    const isFinished = (): boolean => {
      const waiting = this.#stream?.flows.server.heldBytes ?? 0;
      return this.#failure === undefined && waiting === 0 && this.#inspector.isIdle;
    };
    return {
      announced: false,
      insist: () => undefined,
      get finished() {
        return isFinished();
      },
    };
  }

  /** The next bytes are the beginning of a header, or its continuation. */
  #passHeader(lane: Lane, passed: PassedBytes, nowMs: number): void {
    if (lane.headerBytes === 0 && passed.left >= YAMUX_HEADER_BYTES) {
      this.#beginFrame(lane, passed, passed.bytes, passed.at, YAMUX_HEADER_BYTES, nowMs);
      return;
    }
    const part = Math.min(YAMUX_HEADER_BYTES - lane.headerBytes, passed.left);
    passed.bytes.copy(lane.header, lane.headerBytes, passed.at, passed.at + part);
    lane.headerBytes += part;
    passed.drop(part);
    if (lane.headerBytes < YAMUX_HEADER_BYTES) return;
    lane.headerBytes = 0;
    this.#beginFrame(lane, passed, lane.header, 0, 0, nowMs);
  }

  /** `passedBytes`: how much of the header is still in `passed`. */
  #beginFrame(
    lane: Lane,
    passed: PassedBytes,
    header: Buffer,
    at: number,
    passedBytes: 0 | typeof YAMUX_HEADER_BYTES,
    nowMs: number,
  ): void {
    if (!this.#read(lane, header, at, at + YAMUX_HEADER_BYTES, nowMs)) return;
    const type = header[at + 1];
    const flags = header.readUInt16BE(at + 2);
    const streamId = header.readUInt32BE(at + 4);
    const value = header.readUInt32BE(at + 8);
    const isOfStream = type === YamuxType.data || type === YamuxType.windowUpdate;
    const stream = isOfStream ? this.#find(streamId) : undefined;
    lane.payloadBytes = type === YamuxType.data ? value : 0;
    lane.isEdited = stream !== undefined && type === YamuxType.data;
    const isReset = (flags & YamuxFlag.rst) !== 0;
    if (stream && isReset) for (const sender of ['client', 'server'] as const) stream.flows[sender].reset();
    if (!stream || (isReset && lane.payloadBytes === 0)) {
      if (passedBytes > 0) passed.keep(passedBytes);
      else passed.insert([Buffer.from(header)]);
    } else if (isReset) {
      // Its data is dropped: the stream is over for the inspector, but a receiver that has had FIN may still read it.
      lane.flags = 0;
      passed.drop(passedBytes);
      passed.insert([yamuxHeader(YamuxType.windowUpdate, flags, streamId, 0)]);
    } else if (type === YamuxType.windowUpdate) {
      this.#passWindowUpdate(lane, passed, stream, flags, value, passedBytes);
    } else if (passedBytes > 0 && passed.left >= passedBytes + value) {
      this.#passWhole(lane, passed, stream, flags, nowMs);
    } else {
      passed.drop(passedBytes);
      lane.flags = flags;
      if (value === 0) passed.insert(stream.flows[lane.sender].send(NOTHING, flags));
    }
  }

  #passWindowUpdate(
    lane: Lane,
    passed: PassedBytes,
    { streamId, flows }: EditedStream,
    flags: number,
    value: number,
    passedBytes: number,
  ): void {
    const receiver = other(lane.sender);
    const increment = flows[receiver].grow(value);
    const holdsFin = (flags & YamuxFlag.fin) !== 0 && flows[lane.sender].holdFin();
    const forwarded = holdsFin ? flags & ~YamuxFlag.fin : flags;
    if (passedBytes > 0 && increment === value && forwarded === flags) passed.keep(passedBytes);
    else {
      passed.drop(passedBytes);
      const isNeeded = increment > 0 || forwarded !== 0;
      if (isNeeded) passed.insert([yamuxHeader(YamuxType.windowUpdate, forwarded, streamId, increment)]);
    }
    this.#sendDue(this.#lanes[receiver]);
  }

  /** A data frame of the edited stream, of which `passed` has all. */
  #passWhole(lane: Lane, passed: PassedBytes, stream: EditedStream, flags: number, nowMs: number): void {
    const start = passed.at + YAMUX_HEADER_BYTES;
    const end = start + lane.payloadBytes;
    const isUnchanged = this.#edit(lane, passed, stream, start, end, nowMs);
    lane.payloadBytes = 0;
    if (this.#failure !== undefined) return;
    const flow = stream.flows[lane.sender];
    if (isUnchanged && flow.forward(end - start, flags)) passed.keep(end - passed.at);
    else {
      passed.drop(end - passed.at);
      this.#forward(passed, flow, flags);
    }
  }

  /** A part of the data of a frame of the edited stream becomes a frame. */
  #passEdited(lane: Lane, passed: PassedBytes, nowMs: number): void {
    const stream = this.#stream;
    if (!stream) return;
    const part = Math.min(lane.payloadBytes, passed.left);
    const isUnchanged = this.#edit(lane, passed, stream, passed.at, passed.at + part, nowMs);
    lane.payloadBytes -= part;
    const flags = lane.payloadBytes === 0 ? lane.flags : lane.flags & ~YamuxFlag.fin;
    lane.flags &= YamuxFlag.fin;
    if (this.#failure !== undefined) return;
    const flow = stream.flows[lane.sender];
    if (isUnchanged && flow.forward(part, flags)) {
      passed.insert([yamuxHeader(YamuxType.data, flags, stream.streamId, part)]);
      passed.keep(part);
    } else {
      passed.drop(part);
      this.#forward(passed, flow, flags);
    }
  }

  /** The preface, or data of another stream. */
  #passOther(lane: Lane, passed: PassedBytes, nowMs: number): void {
    const part = Math.min(lane.payloadBytes, passed.left);
    if (!this.#read(lane, passed.bytes, passed.at, passed.at + part, nowMs)) return;
    passed.keep(part);
    lane.payloadBytes -= part;
    if (lane.payloadBytes === 0) this.#sendDue(lane);
  }

  /** Has the inspector read data of the edited stream. Returns whether it is unchanged. */
  #edit(
    lane: Lane,
    passed: PassedBytes,
    { flows }: EditedStream,
    start: number,
    end: number,
    nowMs: number,
  ): boolean {
    this.#data = NOTHING;
    this.#result = NOTHING;
    const isRead = end === start || this.#read(lane, passed.bytes, start, end, nowMs);
    const wasGiven = this.#data.length === end - start;
    if (!isRead) return false;
    flows[lane.sender].replaced(end - start, this.#result.length);
    this.#sendDue(this.#lanes[other(lane.sender)]);
    return wasGiven && this.#result === this.#data;
  }

  /** Forwards the result of the inner editor. */
  #forward(passed: PassedBytes, flow: EditedFlow, flags: number): void {
    passed.insert(flow.send(this.#result, flags));
    this.#boundHeld(flow);
  }

  /** The inner editor sends the client bytes of its own. */
  #insert(bytes: Buffer): void {
    if (!this.#stream) return;
    const lane = this.#lanes.server;
    const flow = this.#stream.flows.server;
    flow.replaced(0, bytes.length);
    flow.hold(bytes);
    this.#sendDue(lane);
    this.#boundHeld(flow);
  }

  /**
   * Sends what waits for the receiver of a lane, if it has room and the lane is at a boundary: held data, and window updates for
   * the bytes of the receiver that were dropped.
   */
  #sendDue(lane: Lane): void {
    if (!this.#stream || !lane.atBoundary) return;
    const { flows } = this.#stream;
    const frames = flows[lane.sender].takeHeld();
    const repayment = flows[other(lane.sender)].takeRepayment();
    if (repayment) frames.push(repayment);
    if (frames.length === 0) return;
    if (lane.passed) lane.passed.insert(frames);
    else this.#send(other(lane.sender), Buffer.concat(frames));
  }

  #boundHeld(flow: EditedFlow): void {
    if (flow.heldBytes > MAX_HELD_YAMUX_BYTES) this.#failure ??= 'yamux_window';
  }

  #read(lane: Lane, bytes: Buffer, start: number, end: number, nowMs: number): boolean {
    // The inner editor may insert bytes meanwhile, which can fail by itself.
    const failure = this.#inspector.read(lane.sender, bytes, start, end, nowMs);
    this.#failure ??= failure;
    return this.#failure === undefined;
  }

  #find(streamId: number): EditedStream | undefined {
    if (streamId !== this.#inspector.clientStreamId) return undefined;
    return (this.#stream ??= {
      streamId,
      flows: { client: new EditedFlow(streamId), server: new EditedFlow(streamId) },
    });
  }
}
