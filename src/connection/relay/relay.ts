import { deferred } from '../../deferred.js';
import { codeOrMessage } from '../../error-codes.js';
import { guarded } from '../../guarded.js';
import type { ReadReceiver } from '../../upstream/dialer.js';
import { UpstreamFailure, upstreamFailure } from '../../upstream/failure.js';
import { MAX_UNANSWERED_BYTES } from '../../limits.js';
import { ConnectionEnd, internalError } from '../connection-end.js';
import { abort, farewell } from './abort.js';
import { ByteQueue } from './byte-queue.js';
import { ReadHalfPipe, TurnHalfPipe, type HalfPipe, type HalfPipeOptions } from './half-pipe.js';
import { HangUpWatch, type Peer } from './hang-up.js';
import type { Direction, Tap } from './tap.js';

/** The client's end of a relay, paused. */
export interface ClientEnd extends Peer {
  /** The bytes that it sent before the relay began. */
  readonly head: Buffer;
}

/** The upstream's end of a relay, paused. */
export interface UpstreamEnd extends Peer {
  /** Installs the receiver of bytes read from a plaintext socket, which get no copy. */
  readonly receive?: ((receiver: ReadReceiver) => void) | undefined;
}

export interface RelayOptions {
  readonly tap: Tap;
  /** How long the connection may be silent after one side has finished, milliseconds. */
  readonly halfCloseMs: number;
  /** How long upstream may take to send its first byte, milliseconds; `undefined` if it need not send one by itself. */
  readonly firstByteMs: number | undefined;
  /** Called when upstream has sent its first byte. */
  readonly onAnswer: () => void;
}

/** An upstream that failed before its first byte. Nothing was sent to the client, and its connection is still open. */
export interface Unanswered {
  readonly failure: UpstreamFailure;
  /** All bytes that the client has sent. */
  readonly sent: Buffer;
}

export type RelayOutcome = ConnectionEnd | Unanswered;

/** The bytes of one direction: `read + edited === written + queued`. */
export interface Balance {
  readonly read: number;
  /** Bytes that taps and the proxy have added, minus those that taps have dropped or hold back. */
  readonly edited: number;
  /** Bytes that were written to the sink or wait for it. */
  readonly written: number;
}

type Side = 'client' | 'upstream';

/**
 * The state of a relay. It only advances.
 *
 * - `unanswered`: upstream has sent no bytes yet. If it fails now, the proxy can still answer the client, as long as all bytes of the
 *   client are kept.
 * - `running`: bytes are relayed in both directions. One side may have finished, or the proxy may be ending both.
 * - `settled`: the outcome is known, and no more bytes are read or written.
 */
type State = 'unanswered' | 'running' | 'settled';

const NOTHING = Buffer.alloc(0);

/**
 * Relays bytes between a client and upstream until both have finished or one resets the connection. All bytes to upstream are
 * written here, except those that precede TLS.
 *
 * An end of one side becomes an end of the other, and a reset becomes a reset. A connection lost without an end always becomes
 * a reset on the other side, so that a truncated stream never looks complete.
 */
export class Relay {
  /** Resolves with the outcome; never rejects. All sockets are closed or closing then, except the client's of an `Unanswered`. */
  readonly done: Promise<RelayOutcome>;
  readonly #ends: { readonly client: ClientEnd; readonly upstream: UpstreamEnd };
  readonly #client: TurnHalfPipe;
  readonly #upstream: HalfPipe;
  readonly #watches: Readonly<Record<Side, HangUpWatch>>;
  readonly #options: RelayOptions;
  readonly #settle: (outcome: RelayOutcome) => void;
  readonly #edited: Record<Direction, number> = { to_upstream: 0, to_client: 0 };
  /** The bytes that the client has sent, while they are kept. */
  readonly #sent = new ByteQueue();
  #isKept = true;
  #state: State = 'unanswered';
  /** The side that finished first. */
  #firstFinished: Side | undefined;
  /** Set while the proxy is ending both sides: the reason. */
  #ending: ConnectionEnd | undefined;
  #halfCloseTimer: NodeJS.Timeout | undefined;
  #firstByteTimer: NodeJS.Timeout | undefined;

  constructor(client: ClientEnd, upstream: UpstreamEnd, options: RelayOptions) {
    this.#options = options;
    this.#ends = { client, upstream };
    const { promise, resolve } = deferred<RelayOutcome>();
    this.done = promise;
    this.#settle = resolve;
    this.#watches = { client: this.#watch('client'), upstream: this.#watch('upstream') };
    this.#client = new TurnHalfPipe(this.#pipeOptions('client', 'to_upstream'), this.#sent);
    const upstreamOptions = this.#pipeOptions('upstream', 'to_client');
    this.#upstream = upstream.receive
      ? new ReadHalfPipe(upstreamOptions, upstream.receive)
      : new TurnHalfPipe(upstreamOptions);
  }

  /** Starts to read both sides. */
  start(): void {
    this.#guard(() => {
      const { firstByteMs } = this.#options;
      if (firstByteMs !== undefined)
        this.#firstByteTimer = setTimeout(() => this.#silent(firstByteMs), firstByteMs);
      // Must be first: the client may have finished already, and its head precedes its end.
      this.#client.start(this.#ends.client.head);
      this.#watches.client.start();
      this.#watches.upstream.start();
      if (!this.#isSettled) this.#upstream.start(NOTHING);
    });
  }

  /** Aborts both sides immediately. */
  cut(end: ConnectionEnd): void {
    if (this.#isSettled) return;
    for (const { raw, stream } of Object.values(this.#ends)) abort(raw, stream);
    this.#settleWith(this.#ending ?? end);
  }

  /** Aborts upstream immediately, sends these last bytes to the client and then closes its connection. */
  refuse(end: ConnectionEnd, lastBytes: Buffer): void {
    if (this.#isSettled) return;
    const { client, upstream } = this.#ends;
    // The frame that ends the connection must follow complete frames.
    this.#upstream.flush();
    abort(upstream.raw, upstream.stream);
    farewell(client.raw, client.stream, lastBytes);
    this.#settleWith(end);
  }

  /** Sends bytes of the proxy, after all bytes forwarded so far in this direction. */
  insert(direction: Direction, bytes: Buffer): void {
    if (this.#isSettled) return;
    this.#edited[direction] += bytes.length;
    this.#pipe(direction).insert(bytes);
  }

  /** Ends both sides in an orderly way, as if each had finished. Bytes that they still send are dropped. */
  end(end: ConnectionEnd): void {
    if (this.#isSettled || this.#ending) return;
    this.#ending = end;
    this.#guard(() => {
      this.#upstream.finish();
      this.#client.finish();
    });
    this.#watchHalfClose();
  }

  /** Bytes that wait for the sink of a direction. */
  queuedBytes(direction: Direction): number {
    return this.#pipe(direction).queuedBytes;
  }

  /** The byte counts of a direction so far, for checks. */
  balance(direction: Direction): Balance {
    const { bytesIn, bytesOut } = this.#pipe(direction);
    return { read: bytesIn, edited: this.#edited[direction], written: bytesOut };
  }

  /**
   * A number that changes if plaintext was read, or if a side has taken some of the bytes that wait for it. Other bytes below TLS do
   * not count, because a client can send records without plaintext indefinitely.
   */
  get movement(): number {
    const { client, upstream } = this.#ends;
    return this.#client.bytesIn + this.#upstream.bytesIn + takenBytes(client) + takenBytes(upstream);
  }

  get #isSettled(): boolean {
    return this.#state === 'settled';
  }

  #pipe(direction: Direction): HalfPipe {
    return direction === 'to_client' ? this.#upstream : this.#client;
  }

  #pipeOptions(from: Side, direction: Direction): HalfPipeOptions {
    const to = other(from);
    const [source, sink] = [this.#ends[from], this.#ends[to]];
    return {
      source: source.stream,
      sink: sink.stream,
      sinkEncrypts: sink.stream !== sink.raw,
      pass: (bytes) => this.#pass(direction, bytes),
      onEnd: () => this.#watches[to].endingOurSide(),
      onFault: (error) => this.cut(internalError(error)),
    };
  }

  #pass(direction: Direction, bytes: Buffer): Buffer | undefined {
    if (this.#state === 'unanswered') this.#passUnanswered(direction);
    let passed: Buffer | undefined;
    try {
      passed = this.#options.tap.pass(direction, bytes);
      // A tap may have ended the relay.
      if (this.#isSettled) passed = undefined;
    } finally {
      if (passed !== bytes) this.#edited[direction] += (passed?.length ?? 0) - bytes.length;
    }
    return passed;
  }

  #passUnanswered(direction: Direction): void {
    if (direction === 'to_client') {
      this.#state = 'running';
      clearTimeout(this.#firstByteTimer);
      this.#forget();
      this.#options.onAnswer();
    } else if (this.#mayBeSilent && this.#sent.cost > MAX_UNANSWERED_BYTES) this.#forget();
  }

  /** Whether upstream need not send the first byte by itself. */
  get #mayBeSilent(): boolean {
    return this.#options.firstByteMs === undefined;
  }

  #forget(): void {
    if (!this.#isKept) return;
    this.#isKept = false;
    this.#sent.take();
    this.#client.forget();
  }

  #watch(side: Side): HangUpWatch {
    const peer = this.#ends[side];
    const events = {
      finished: (): void => this.#guard(() => this.#finished(side)),
      reset: (error: Error | undefined): void => this.#guard(() => this.#reset(side, error)),
      gone: (): void => this.#guard(() => this.#gone(side)),
    };
    peer.stream.once('finish', () => this.#guard(() => this.#settleIfDone()));
    return new HangUpWatch(peer, events);
  }

  #finished(side: Side): void {
    if (this.#isSettled) return;
    if (side === 'upstream' && this.#canBeAnswered && !this.#mayBeSilent) {
      this.#failed(new UpstreamFailure('closed', 'it closed the connection at once'));
      return;
    }
    this.#firstFinished ??= side;
    if (side === 'client') this.#client.finish();
    else this.#upstream.finish();
    this.#watchHalfClose();
    this.#settleIfDone();
  }

  #reset(side: Side, error: Error | undefined): void {
    if (side === 'upstream' && this.#canBeAnswered)
      this.#failed(
        error ? upstreamFailure(error) : new UpstreamFailure('reset', 'it reset the connection at once'),
      );
    else this.cut(new ConnectionEnd('reset', side, error ? codeOrMessage(error) : ''));
  }

  /** A side that had finished has closed the connection. */
  #gone(side: Side): void {
    // It has read everything. The bytes that it sent may still be on their way to the other side.
    if (this.#ends[side].stream.writableFinished) this.#settleIfDone();
    // It closed the connection before it had read everything. It may do that, but the other side must be reset.
    else this.cut(new ConnectionEnd('finished', this.#firstFinished ?? side));
  }

  /**
   * Whether the proxy can still answer a failure of upstream. An HTTP/2 client that has finished still reads the answer. A backchannel
   * whose client has finished may be complete without an answer, so a reset stays a reset.
   */
  get #canBeAnswered(): boolean {
    if (this.#state !== 'unanswered' || !this.#isKept || this.#ending) return false;
    return !this.#mayBeSilent || !this.#watches.client.hasFinished;
  }

  #silent(ms: number): void {
    const detail = `it accepted the connection and sent nothing for ${ms} ms (timeouts.dial)`;
    if (this.#canBeAnswered) this.#failed(new UpstreamFailure('silent', detail));
    else this.cut(new ConnectionEnd('upstream_unreachable', 'proxy', detail));
  }

  /** Upstream has failed before its first byte: releases the client. */
  #failed(failure: UpstreamFailure): void {
    const { client, upstream } = this.#ends;
    abort(upstream.raw, upstream.stream);
    this.#client.release();
    this.#watches.client.stop();
    if (client.raw.destroyed) this.#settleWith(new ConnectionEnd('reset', 'client'));
    else this.#settleWith({ failure, sent: Buffer.concat(this.#sent.take()) });
  }

  #settleIfDone(): void {
    const { client, upstream } = this.#ends;
    const { client: clientWatch, upstream: upstreamWatch } = this.#watches;
    if (this.#isSettled || !clientWatch.hasFinished || !upstreamWatch.hasFinished) return;
    if (!client.stream.writableFinished || !upstream.stream.writableFinished) return;
    for (const { stream, raw } of [client, upstream]) {
      stream.destroy();
      raw.destroy();
    }
    this.#settleWith(this.#ending ?? new ConnectionEnd('finished', this.#firstFinished ?? 'client'));
  }

  /** Bounds the silence after the end of one side. The connection is kept as long as bytes move. */
  #watchHalfClose(): void {
    if (this.#halfCloseTimer) return;
    const { halfCloseMs } = this.#options;
    let before = this.movement;
    const check = (): void => {
      const now = this.movement;
      if (now === before) {
        const detail = `silent for ${halfCloseMs} ms after the ${this.#firstFinished ?? ''} finished`;
        this.cut(new ConnectionEnd('half_close_timeout', 'proxy', detail));
        return;
      }
      before = now;
      this.#halfCloseTimer = setTimeout(check, halfCloseMs);
    };
    this.#halfCloseTimer = setTimeout(check, halfCloseMs);
  }

  #settleWith(outcome: RelayOutcome): void {
    this.#state = 'settled';
    clearTimeout(this.#halfCloseTimer);
    clearTimeout(this.#firstByteTimer);
    this.#settle(outcome);
  }

  /** Catches exceptions in callbacks of sockets. Without it the connection would never end. */
  #guard(step: () => void): void {
    guarded((error) => this.cut(internalError(error)), step)();
  }
}

/** The bytes that a side has taken so far, if more bytes wait for it. OpenSSL adds no bytes of its own while a write waits. */
function takenBytes({ stream, raw }: Peer): number {
  return stream.writableLength > 0 ? raw.bytesWritten : 0;
}

function other(side: Side): Side {
  return side === 'client' ? 'upstream' : 'client';
}
