import {
  BackchannelInspector,
  type BackchannelLoss,
} from '../../../src/inspect/backchannel/backchannel-inspector.js';
import { BACKCHANNEL_MAGIC } from '../../../src/inspect/backchannel/magic.js';
import { CallPool } from '../../../src/inspect/call-pool.js';
import { other, type Sender } from '../../../src/inspect/sender.js';
import { YamuxEditor, type EditConnection } from '../../../src/inspect/yamux/yamux-editor.js';
import { YAMUX_INITIAL_WINDOW_BYTES, YamuxFlag, YamuxType } from '../../../src/inspect/yamux/yamux-frame.js';
import { ABUSE_LIMITS } from '../../../src/limits.js';
import { yamuxHeader } from '../../support/yamux-frames.js';

const { data, windowUpdate } = YamuxType;
const { syn, ack, fin, rst } = YamuxFlag;

/** Numbers that look random and are the same for the same seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  /** At least 0 and less than `limit`. */
  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    this.#state >>>= 0;
    return this.#state % limit;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    // Repetitions that do not fit the lengths of frames.
    return bytes.fill(
      Buffer.from([this.below(256), this.below(256), this.below(256), this.below(256), this.below(256)]),
    );
  }
}

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly value: number;
  readonly payload: Buffer;
}

export function encode({ type, flags, streamId, value, payload }: Frame): Buffer {
  return Buffer.concat([yamuxHeader(0, type, flags, streamId, value), payload]);
}

/** Removes the complete frames from the beginning of `bytes`. */
export function framesOf(bytes: Buffer): { frames: Frame[]; rest: Buffer } {
  const frames: Frame[] = [];
  let at = 0;
  while (bytes.length - at >= 12) {
    const type = bytes.readUInt8(at + 1);
    const value = bytes.readUInt32BE(at + 8);
    const end = at + 12 + (type === data ? value : 0);
    if (end > bytes.length) break;
    const [flags, streamId] = [bytes.readUInt16BE(at + 2), bytes.readUInt32BE(at + 4)];
    frames.push({ type, flags, streamId, value, payload: bytes.subarray(at + 12, end) });
    at = end;
  }
  return { frames, rest: bytes.subarray(at) };
}

/** An end of a session, with one stream whose windows it keeps as the libraries do. Its other frames are made up. */
export class ModelPeer {
  readonly role: Sender;
  /** Bytes that it has sent and that have not reached the proxy. */
  output = Buffer.alloc(0);
  /** Content of the stream that is still to be sent. */
  pending = Buffer.alloc(0);
  readonly received: Buffer[] = [];
  receivedBytes = 0;
  /** Frames of other streams. */
  readonly othersSent: Buffer[] = [];
  readonly othersReceived: Buffer[] = [];
  sendWindow = YAMUX_INITIAL_WINDOW_BYTES;
  receiveWindow = YAMUX_INITIAL_WINDOW_BYTES;
  unreadBytes = 0;
  hasReceivedFin = false;
  hasReceivedReset = false;
  isFinishing = false;
  hasSentFin = false;
  /** Flags that the first frame of the stream carries. */
  #flags: number;
  #maxWindow: number;
  #isGrowing: boolean;
  #input = Buffer.alloc(0);
  /** Bytes that the client sends before its first frame. */
  #prefaceBytes: number;

  /** `maxWindow`: the window that it allows; `isGrowing`: whether that doubles with each update, as in go-yamux. */
  constructor(role: Sender, maxWindow: number, isGrowing: boolean) {
    this.role = role;
    this.#maxWindow = maxWindow;
    this.#isGrowing = isGrowing;
    this.#flags = role === 'client' ? syn : ack;
    this.#prefaceBytes = role === 'server' ? BACKCHANNEL_MAGIC.length : 0;
    if (role === 'client') this.output = Buffer.from(BACKCHANNEL_MAGIC);
    this.updateWindow();
  }

  /** Sends the next content that its window has room for, at most `limit` bytes. */
  sendData(limit: number): void {
    const length = Math.min(limit, this.pending.length, this.sendWindow);
    if (length > 0) {
      const isLast = this.isFinishing && length === this.pending.length && length % 2 === 0;
      this.#write(data, isLast ? fin : 0, length, this.pending.subarray(0, length));
      this.pending = this.pending.subarray(length);
      this.sendWindow -= length;
      this.hasSentFin ||= isLast;
    }
    if (!this.isFinishing || this.hasSentFin || this.pending.length > 0) return;
    this.hasSentFin = true;
    this.#write(windowUpdate, fin, 0);
  }

  /** Sends a frame that is not of the stream. */
  sendOther(frame: Frame): void {
    const bytes = encode(frame);
    this.othersSent.push(bytes);
    this.output = Buffer.concat([this.output, bytes]);
  }

  /** Its program reads from the stream. */
  read(limit: number): void {
    this.unreadBytes -= Math.min(limit, this.unreadBytes);
    this.updateWindow();
  }

  updateWindow(): void {
    const increment = this.#maxWindow - this.unreadBytes - this.receiveWindow;
    if (this.#flags === 0 && increment < this.#maxWindow / 2) return;
    if (this.#flags === 0 && this.#isGrowing) {
      this.#maxWindow = Math.min(2 * this.#maxWindow, 16 * 1024 * 1024);
      this.#isGrowing = this.#maxWindow < 16 * 1024 * 1024;
    }
    const grown = this.#maxWindow - this.unreadBytes - this.receiveWindow;
    this.receiveWindow += grown;
    this.#write(windowUpdate, 0, grown);
  }

  /** Receives bytes of the proxy. Throws if its window is exceeded. */
  receive(bytes: Buffer): void {
    let received = bytes;
    if (this.#prefaceBytes > 0) {
      received = bytes.subarray(this.#prefaceBytes);
      this.#prefaceBytes -= bytes.length - received.length;
    }
    const { frames, rest } = framesOf(Buffer.concat([this.#input, received]));
    this.#input = Buffer.from(rest);
    for (const frame of frames) this.#receiveFrame(frame);
  }

  #receiveFrame(frame: Frame): void {
    const { type, flags, streamId, value, payload } = frame;
    if (streamId !== 1 || (type !== data && type !== windowUpdate)) {
      this.othersReceived.push(encode(frame));
      return;
    }
    if (this.hasReceivedFin && (value > 0 || (flags & fin) !== 0) && type === data)
      throw new Error('data behind FIN');
    if (type === windowUpdate) this.sendWindow += value;
    else {
      if (value > this.receiveWindow) throw new Error(`window exceeded: ${value} > ${this.receiveWindow}`);
      this.receiveWindow -= value;
      this.unreadBytes += value;
      this.received.push(Buffer.from(payload));
      this.receivedBytes += value;
    }
    if ((flags & fin) !== 0) this.hasReceivedFin = true;
    if ((flags & rst) !== 0) this.hasReceivedReset = true;
  }

  #write(type: number, flags: number, value: number, payload = Buffer.alloc(0)): void {
    const frame = { type, flags: flags | this.#flags, streamId: 1, value, payload };
    this.#flags = 0;
    this.output = Buffer.concat([this.output, encode(frame)]);
  }
}

/** An editor of a backchannel, with its inspector. */
export function backchannelEditor(
  edit: EditConnection,
  send: (receiver: Sender, bytes: Buffer) => void = () => undefined,
): YamuxEditor<BackchannelLoss> {
  const { callsPerConnection } = ABUSE_LIMITS;
  const events = {
    started: () => ({ moved: () => undefined, ended: () => undefined, lost: () => undefined }),
    sidechannelOpened: () => ({ moved: () => undefined, ended: () => undefined }),
  };
  const share = new CallPool(callsPerConnection).share(undefined, callsPerConnection);
  return new YamuxEditor(new BackchannelInspector(events, ABUSE_LIMITS, share), edit, send);
}

/** Two ends, and the editor between them. */
export class Session {
  readonly client: ModelPeer;
  readonly server: ModelPeer;
  readonly editor: YamuxEditor<BackchannelLoss>;

  constructor(client: ModelPeer, server: ModelPeer, edit: EditConnection) {
    this.client = client;
    this.server = server;
    this.editor = backchannelEditor(edit, (receiver, bytes) => this.#end(receiver).receive(bytes));
  }

  /** Moves at most `limit` bytes of an end through the editor. */
  move(sender: Sender, limit: number): void {
    const from = this.#end(sender);
    const bytes = Buffer.from(from.output.subarray(0, limit));
    if (bytes.length === 0) return;
    from.output = from.output.subarray(bytes.length);
    const passed = Buffer.from(this.editor.pass(sender, bytes, 0));
    // A view of the input must not be used after the call.
    bytes.fill(0xee);
    this.#end(other(sender)).receive(passed);
  }

  #end(role: Sender): ModelPeer {
    return role === 'client' ? this.client : this.server;
  }
}
