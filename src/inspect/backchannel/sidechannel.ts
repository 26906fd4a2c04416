import type { GrpcCall } from '../grpc/call.js';
import type { SendWindows, StallTallies } from '../send-window.js';
import type { Sender } from '../sender.js';
import type { YamuxCut } from '../yamux/followed-session.js';

/** Gitaly, internal/sidechannel: the magic, the id as int64 big endian; then the other end sends "ok". */
const MAGIC = Buffer.from('sidechannel', 'latin1');
const ID_BYTES = 8;
const OK = Buffer.from('ok', 'latin1');

/** Observes one sidechannel. */
export interface SidechannelObserver {
  /** While it is open: an end has sent `bytes` of content. */
  moved(sender: Sender, bytes: number): void;
  /** `finished`: both ends have ended their side. */
  ended(how: 'finished' | YamuxCut, nowMs: number): void;
}

/** Called for each sidechannel that opens; returns the observer of its further events. */
export interface SidechannelEvents {
  sidechannelOpened(sidechannel: Sidechannel): SidechannelObserver;
  /** Counts how long sidechannels wait for a window. */
  readonly sidechannelStalls?: StallTallies | undefined;
}

/** One sidechannel: a stream that Gitaly opens towards the client to move a pack. Its content is counted, not read. */
export class Sidechannel {
  readonly streamId: number;
  readonly windows: SendWindows;
  /** Bytes of pkt-lines so far, by who sent them. */
  readonly contentBytes: Record<Sender, number> = { client: 0, server: 0 };
  readonly openedAtMs: number;
  /** The id that the RPC carries which asked for it; `undefined` until it has come. */
  id: string | undefined;
  /** That RPC, where it passed here. */
  call: GrpcCall | undefined;
  readonly #findCall: (id: string) => GrpcCall | undefined;
  readonly #events: SidechannelEvents;
  #observer: SidechannelObserver | undefined;
  /** Bytes of each end's introduction before the content. */
  readonly #introduced: Record<Sender, number> = { client: 0, server: 0 };
  #id = 0n;

  constructor(
    streamId: number,
    windows: SendWindows,
    nowMs: number,
    findCall: (id: string) => GrpcCall | undefined,
    events: SidechannelEvents,
  ) {
    this.streamId = streamId;
    this.windows = windows;
    this.openedAtMs = nowMs;
    this.#findCall = findCall;
    this.#events = events;
    windows.client.countIn(events.sidechannelStalls?.client);
    windows.server.countIn(events.sidechannelStalls?.server);
  }

  /** Reads the next bytes; `false` if the stream is not a sidechannel. */
  data(sender: Sender, bytes: Buffer, start: number, end: number): boolean {
    let offset = start;
    while (!this.#hasIntroduced(sender) && offset < end) {
      if (!this.#introduce(sender, this.#introduced[sender]++, bytes[offset++] ?? 0)) return false;
    }
    const content = end - offset;
    if (sender === 'client') this.contentBytes.client += content;
    else this.contentBytes.server += content;
    if (content > 0) this.#observer?.moved(sender, content);
    return true;
  }

  finished(nowMs: number): void {
    this.#observer?.ended('finished', nowMs);
  }

  cut(why: YamuxCut, nowMs: number): void {
    this.#observer?.ended(why, nowMs);
  }

  #hasIntroduced(sender: Sender): boolean {
    return sender === 'client'
      ? this.#introduced.client === OK.length
      : this.#introduced.server === MAGIC.length + ID_BYTES;
  }

  #introduce(sender: Sender, index: number, byte: number): boolean {
    if (sender === 'client') return byte === OK[index];
    if (index < MAGIC.length) return byte === MAGIC[index];
    this.#id = (this.#id << 8n) | BigInt(byte);
    if (index === MAGIC.length + ID_BYTES - 1) {
      this.id = BigInt.asIntN(64, this.#id).toString();
      this.call = this.#findCall(this.id);
      if (this.call) this.call.sidechannel = this;
      this.#observer = this.#events.sidechannelOpened(this);
      // A client need not wait for the response with the id.
      if (this.contentBytes.client > 0) this.#observer.moved('client', this.contentBytes.client);
    }
    return true;
  }
}
