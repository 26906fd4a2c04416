import { TLSSocket } from 'node:tls';

import { stackOf } from '../stack.js';
import { closeNotifyBytes } from '../tls/close-notify.js';
import type { Upstream } from '../upstream/dialer.js';
import { ConnectionEnd } from './close-reason.js';
import {
  ReadHalfPipe,
  TurnHalfPipe,
  type Direction,
  type HalfPipe,
  type HalfPipeOptions,
  type RelayObserver,
} from './half-pipe.js';
import { abort, farewell } from './abort.js';

/** One end of a relay: `stream` carries plaintext, `raw` is the socket below TLS (or `stream` itself). */
export interface RelayEnd extends Pick<Upstream, 'stream' | 'raw'> {
  readonly receive?: Upstream['receive'];
}

/** What a relay needs besides its ends. */
export interface RelayOptions {
  /** What upstream sent before the relay began, for the client. */
  readonly head: Buffer;
  readonly observer: RelayObserver;
  /** How long the connection may be silent after one side has finished, milliseconds. */
  readonly halfCloseMs: number;
}

type Side = 'client' | 'upstream';

interface EndedRecords {
  /** How much had been read below TLS when something last came of it. */
  understoodAt: number;
  /** Whether anything came since we ended it. */
  hasAnswered: boolean;
  readonly closeNotifyBytes: number;
}

const EMPTY = Buffer.alloc(0);

/**
 * Passes bytes between a client and upstream until both have finished or one breaks off.
 *
 * An end of one side becomes an end of the other, a reset a reset. A side that breaks off without an end always
 * shows on the other as a reset, so that nobody takes a cut stream for a finished one.
 */
export class Relay {
  /** How it ended; never rejects. All sockets are closed, or about to be, when it settles. */
  readonly done: Promise<ConnectionEnd>;
  readonly #ends: Readonly<Record<Side, RelayEnd>>;
  readonly #pipes: Readonly<Record<Side, HalfPipe>>;
  readonly #options: RelayOptions;
  /** Sides whose end was seen and is no reset, in the order in which they came. */
  readonly #finished: Side[] = [];
  readonly #settle: (end: ConnectionEnd) => void;
  /** The TLS records of a side that we have ended. */
  readonly #records: Partial<Record<Side, EndedRecords>> = {};
  #state: 'running' | 'settled' = 'running';
  /** Why both sides are being ended, where we do. */
  #ending: ConnectionEnd | undefined;
  #halfCloseTimer: NodeJS.Timeout | undefined;

  constructor(client: RelayEnd, upstream: RelayEnd, options: RelayOptions) {
    this.#options = options;
    this.#ends = { client, upstream };
    let settle: (end: ConnectionEnd) => void = () => undefined;
    this.done = new Promise((resolve) => (settle = resolve));
    this.#settle = settle;
    this.#pipes = {
      client: this.#pipe('client', 'to_upstream'),
      upstream: this.#pipe('upstream', 'to_client'),
    };
    for (const side of ['client', 'upstream'] as const) this.#watch(side);
    if (client.raw.destroyed) this.#broken('client');
    else if (upstream.raw.destroyed) this.#broken('upstream');
    else {
      this.#guard(() => {
        this.#pipes.client.start(undefined);
        this.#pipes.upstream.start(options.head);
      });
      // A pause does not hold an `end` back when nothing is left to read: it may have come while nobody listened.
      for (const side of ['client', 'upstream'] as const) {
        if (this.#ends[side].stream.readableEnded) this.#ended(side);
      }
    }
  }

  /** Breaks both sides off, now. */
  cut(end: ConnectionEnd): void {
    if (this.#state === 'settled') return;
    this.#state = 'settled';
    clearTimeout(this.#halfCloseTimer);
    for (const { raw, stream } of Object.values(this.#ends)) abort(raw, stream);
    this.#settle(this.#ending ?? end);
  }

  /** Breaks upstream off now, and the client once it has had these words. */
  refuse(end: ConnectionEnd, words: Buffer): void {
    if (this.#state === 'settled') return;
    this.#state = 'settled';
    clearTimeout(this.#halfCloseTimer);
    const { client, upstream } = this.#ends;
    // The frame that ends the connection must follow whole frames.
    this.#pipes.upstream.flush();
    abort(upstream.raw, upstream.stream);
    farewell(client.raw, client.stream, words);
    this.#settle(end);
  }

  /** Sends bytes of our own, behind all that was passed on in this direction. */
  insert(direction: Direction, bytes: Buffer): void {
    this.#pipes[direction === 'to_client' ? 'upstream' : 'client'].insert(bytes);
  }

  /** Ends both sides cleanly, as if each had said that it is done; what they still send is dropped. */
  end(end: ConnectionEnd): void {
    if (this.#state === 'settled' || this.#ending) return;
    this.#ending = end;
    this.#guard(() => {
      this.#pipes.upstream.finish();
      this.#pipes.client.finish();
    });
    this.#watchHalfClose();
  }

  #pipe(side: Side, direction: Direction): HalfPipe {
    const source = this.#ends[side];
    const sink = this.#ends[other(side)];
    const options: HalfPipeOptions = {
      direction,
      source: source.stream,
      sink: sink.stream,
      sinkEncrypts: sink.stream !== sink.raw,
      observer: this.#options.observer,
      onEnd: () => this.#watchRecords(other(side)),
      onFault: (error) => this.cut(endFrom(error)),
    };
    return source.receive ? new ReadHalfPipe(options, source.receive) : new TurnHalfPipe(options);
  }

  #watch(side: Side): void {
    const { stream, raw } = this.#ends[side];
    stream.once('end', () => this.#guard(() => this.#ended(side)));
    stream.once('finish', () => this.#guard(() => this.#finishIfDone()));
    stream.once('close', () => this.#guard(() => this.#closed(side)));
    if (raw === stream) return;
    raw.once('close', () => this.#guard(() => this.#closed(side)));
    // Before those who break the socket off at once and know no reason.
    stream.prependOnceListener('error', (error) => this.#guard(() => this.#failed(side, error)));
  }

  /** We end a side: from now on it is followed which of its bytes something came of. */
  #watchRecords(side: Side): void {
    const { stream, raw } = this.#ends[side];
    if (!(stream instanceof TLSSocket) || stream.destroyed) return;
    const records = {
      understoodAt: raw.bytesRead,
      hasAnswered: false,
      closeNotifyBytes: closeNotifyBytes(stream),
    };
    this.#records[side] = records;
    const note = (): void => {
      records.understoodAt = raw.bytesRead;
      records.hasAnswered = true;
    };
    stream.on('data', note);
    // A ticket, after which the half-pipe stops the read as it does after plaintext.
    stream.on('session', note);
  }

  /** An exception in a socket's callback has nobody to catch it, and the connection would never end. */
  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.cut(endFrom(error));
    }
  }

  /**
   * A TLS socket tells of a fatal alert or a forged record by `error` alone: it is not destroyed, and what follows is
   * an `end` like that of a peer which is done.
   */
  #failed(side: Side, error: Error): void {
    if (this.#finished.includes(side)) this.#left(side);
    else this.cut(new ConnectionEnd('reset', side, describeSocketError(error)));
  }

  /**
   * `end` means that the side has finished, or that it was reset: Node 20 reports a reset as `end` if the socket was paused
   * with unread bytes, and every version does if one of our writes received the ECONNRESET first. A TLS server writes its
   * session tickets without reporting a failure, and later writes then never complete. An empty write below TLS detects this:
   * it fails if the connection is closed.
   *
   * On TCP every failure is a reset. If a peer sent its FIN before the reset, all its bytes have arrived; but EPIPE does not
   * distinguish that case. A unix socket has no FIN: the close of its peer appears as EPIPE.
   */
  #ended(side: Side): void {
    const { stream, raw } = this.#ends[side];
    // After our own end a write below TLS fails with EPIPE by itself, and takes the socket with it. The half-pipes read in such
    // a way then that a reset is no `end`.
    if (stream.writableEnded || raw.destroyed) {
      if (this.#isCutInRecord(side)) this.cut(new ConnectionEnd('reset', side, 'ended within a TLS record'));
      else this.#finish(side);
      return;
    }
    const isTcp = raw.localFamily !== undefined;
    const judge = (error: Error | null | undefined): void =>
      this.#guard(() => {
        if (this.#finished.includes(side)) return;
        if (error && (isTcp || describeSocketError(error) !== 'EPIPE')) this.#broken(side);
        else this.#finish(side);
      });
    raw.write(EMPTY, judge);
    // The empty write may also queue behind a write that waits for the side to read. After a reset all of them fail within this
    // turn.
    if (stream.writableLength > 0) setImmediate(() => judge(raw.errored));
  }

  /**
   * Bytes below TLS of which nothing came, other than a close_notify: a record whose rest never came. That is the one reset
   * which the half-pipes cannot see, as nobody is told of such bytes. Behind an answer fewer bytes than those of a close_notify
   * may be the rest of one, whose beginning came in one read with plaintext: they are taken for that.
   */
  #isCutInRecord(side: Side): boolean {
    const records = this.#records[side];
    if (!records) return false;
    const rest = this.#ends[side].raw.bytesRead - records.understoodAt;
    return (
      rest > records.closeNotifyBytes || (rest > 0 && rest < records.closeNotifyBytes && !records.hasAnswered)
    );
  }

  #finish(side: Side): void {
    if (this.#state === 'settled' || this.#finished.includes(side)) return;
    this.#finished.push(side);
    this.#pipes[side].finish();
    if (this.#finished.length === 1) this.#watchHalfClose();
    this.#finishIfDone();
  }

  #finishIfDone(): void {
    const { client, upstream } = this.#ends;
    const [first, second] = this.#finished;
    if (this.#state === 'settled' || !first || !second) return;
    if (!client.stream.writableFinished || !upstream.stream.writableFinished) return;
    this.#state = 'settled';
    clearTimeout(this.#halfCloseTimer);
    for (const { stream, raw } of [client, upstream]) {
      stream.destroy();
      raw.destroy();
    }
    this.#settle(this.#ending ?? new ConnectionEnd('finished', first));
  }

  #closed(side: Side): void {
    if (this.#state === 'settled') return;
    const { stream, raw } = this.#ends[side];
    if (!this.#finished.includes(side)) {
      // A socket that is done in both directions closes by itself, maybe before the question in `#ended` is answered.
      if (!stream.readableEnded || stream.errored || raw.errored) {
        this.#broken(side);
        return;
      }
      this.#finish(side);
    }
    this.#left(side);
  }

  /** A side that had finished is gone. */
  #left(side: Side): void {
    // It has all that it was sent: what it sent may still be on its way to the other side.
    if (this.#ends[side].stream.writableFinished) this.#finishIfDone();
    // It left before it had read all that it was sent: its right, but the other side must know.
    else this.cut(new ConnectionEnd('finished', this.#finished[0] ?? side));
  }

  #broken(side: Side): void {
    const { stream, raw } = this.#ends[side];
    const error = raw.errored ?? stream.errored;
    this.cut(new ConnectionEnd('reset', side, error ? describeSocketError(error) : ''));
  }

  /** Silence after one side's end is bounded; as long as bytes move, nothing is cut. */
  #watchHalfClose(): void {
    if (this.#halfCloseTimer) return;
    const { halfCloseMs } = this.#options;
    let before = this.transferred;
    const check = (): void => {
      const now = this.transferred;
      if (now === before) {
        this.cut(
          new ConnectionEnd(
            'half_close_timeout',
            'proxy',
            `silent for ${halfCloseMs} ms after the ${this.#finished[0] ?? ''} finished`,
          ),
        );
        return;
      }
      before = now;
      this.#halfCloseTimer = setTimeout(check, halfCloseMs);
    };
    this.#halfCloseTimer = setTimeout(check, halfCloseMs);
  }

  /** Bytes that wait for the sink of a direction. */
  queuedBytes(direction: Direction): number {
    return this.#pipes[direction === 'to_client' ? 'upstream' : 'client'].queuedBytes;
  }

  /** Bytes that both sockets read and wrote, TLS and all: only good for telling whether it moves. */
  get transferred(): number {
    const { client, upstream } = this.#ends;
    return (
      client.raw.bytesRead + client.raw.bytesWritten + upstream.raw.bytesRead + upstream.raw.bytesWritten
    );
  }
}

function other(side: Side): Side {
  return side === 'client' ? 'upstream' : 'client';
}

function describeSocketError(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

/** The end of a connection in whose code an exception was thrown: a fault, unless it is thrown to end it. */
export function endFrom(error: unknown): ConnectionEnd {
  if (error instanceof ConnectionEnd) return error;
  return new ConnectionEnd('internal_error', 'proxy', stackOf(error));
}
