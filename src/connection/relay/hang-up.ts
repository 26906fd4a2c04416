import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

import { codeOf } from '../../error-codes.js';
import { READ_BUFFER_BYTES } from '../../limits.js';
import { closeNotifyBytes } from '../../tls/close-notify.js';

/** One end of a relay: `stream` carries plaintext; `raw` is the socket below TLS, or `stream` itself. */
export interface Peer {
  readonly stream: Socket;
  readonly raw: Socket;
}

/** How a peer hangs up. Every method is called at most once. */
export interface HangUpEvents {
  /** The peer has sent a FIN or a close_notify. It may still read. */
  finished(): void;
  /** The peer reset the connection. `error` is the error of the socket, if there is one. */
  reset(error: Error | undefined): void;
  /** The peer had finished, and has now closed the connection. */
  gone(): void;
}

const EMPTY = Buffer.alloc(0);

/**
 * Detects how a peer hangs up. The events of Node depend on whether the socket was being read, and whether our own side had ended.
 * Each cell has a test in hang-up.test.ts, with its source in Node or libuv.
 *
 * | peer                       | read           | paused, then resumed         | after our own end   |
 * | -------------------------- | -------------- | ---------------------------- | ------------------- |
 * | FIN, close_notify          | `end`          | `end`                        | `end`, `close`      |
 * | FIN, then RST              | `end`          | `end`                        | `end`, `close`      |
 * | close_notify, then RST     | `end`          | `end`                        | `end`, `close`      |
 * | RST                        | `error`        | `error`; unread bytes: `end`¹ | `error`             |
 * | bytes, then RST            | `end`¹         | `end`¹                       | `error`, by a stop² |
 * | session tickets, then RST  | `end`¹         | `end`¹                       | `error`, by a stop² |
 * | part of a record, then RST | `end`¹         | `end`¹                       | `end`¹              |
 * | part of a record, then FIN | `end`          | `end`                        | `end`, `close`      |
 * | fatal alert, forged record | `error` alone³ | `error` alone³               | `error` alone³      |
 *
 * ¹ `error` since libuv 1.52 (Node 24). ² `end` unless reading stops within the read, see `stopRead` and `stopReadBelow`.
 * ³ Node does not destroy the socket.
 *
 * An `end` alone is therefore ambiguous:
 * - Before our own end, an empty write below TLS decides: it fails on a connection that was reset.
 * - After our own end, such a write always fails. Reading must then stop within each read, so that the next read reports a reset. A
 *   reset within a TLS record is detected by the bytes of the incomplete record.
 *
 * The following cases cannot be distinguished:
 * - Before our own end, a FIN within a TLS record counts as `finished`. Node reports a bare FIN like a close_notify, too.
 * - A close_notify before a reset counts as a reset before our own end, and as `finished` after it, because no bytes were lost.
 * - After an answer that followed our own end, up to `closeNotifyBytes` of an incomplete record count as a close_notify.
 * - The close of a unix socket counts as its FIN, unless some of our bytes were unread: then it is an ECONNRESET.
 */
export class HangUpWatch {
  readonly #peer: Peer;
  readonly #events: HangUpEvents;
  #hasFinished = false;
  #isOver = false;
  /** The TLS records of a peer whose side we have ended. */
  #records: EndedRecords | undefined;

  /** `events` are called from `start` on, not before. */
  constructor(peer: Peer, events: HangUpEvents) {
    this.#peer = peer;
    this.#events = events;
  }

  /** Whether the peer has sent everything. */
  get hasFinished(): boolean {
    return this.#hasFinished;
  }

  /** Begins to watch. A peer that hung up before is reported immediately. */
  start(): void {
    const { stream, raw } = this.#peer;
    if (raw.destroyed) {
      this.#reset();
      return;
    }
    stream.on('end', this.#onEnd);
    stream.on('close', this.#onClose);
    if (raw !== stream) {
      raw.on('close', this.#onClose);
      // Must run before listeners that destroy the socket without a reason.
      stream.prependListener('error', this.#onError);
    }
    // A pause does not delay `end` if no bytes are left to read, so `end` may have been emitted before there was a listener.
    if (stream.readableEnded) this.#onEnd();
  }

  stop(): void {
    const { stream, raw } = this.#peer;
    this.#isOver = true;
    stream.off('end', this.#onEnd).off('close', this.#onClose).off('error', this.#onError);
    stream.off('data', this.#onRecord).off('session', this.#onTicket);
    raw.off('close', this.#onClose);
  }

  /** Our own side of the connection is about to end. From now on, the peer's TLS records are followed. */
  endingOurSide(): void {
    const { stream, raw } = this.#peer;
    if (!(stream instanceof TLSSocket) || stream.destroyed) return;
    this.#records = {
      understoodAt: raw.bytesRead,
      hasAnswered: false,
      closeNotifyBytes: closeNotifyBytes(stream),
    };
    stream.on('data', this.#onRecord);
    stream.on('session', this.#onTicket);
  }

  /** A record with plaintext was read. */
  readonly #onRecord = (chunk: Buffer): void => {
    if (!isFiller(chunk)) this.#understood();
  };

  /** A session ticket of a TLS server was read. No other event reports it. */
  readonly #onTicket = (): void => {
    this.#understood();
    stopReadBelow(this.#peer);
  };

  #understood(): void {
    if (!this.#records) return;
    this.#records.understoodAt = this.#peer.raw.bytesRead;
    this.#records.hasAnswered = true;
  }

  /**
   * `end` means that the peer has finished, or that it was reset: Node 20 reports a reset as `end` if the socket was paused
   * with unread bytes, and every version does if one of our writes received the ECONNRESET first. A TLS server writes its
   * session tickets without reporting a failure, and later writes then never complete.
   *
   * On TCP every failure of the empty write is a reset. If a peer sent its FIN before the reset, all its bytes have arrived; but
   * EPIPE does not distinguish that case. A unix socket has no FIN: the close of its peer appears as EPIPE.
   */
  readonly #onEnd = (): void => {
    if (this.#isOver || this.#hasFinished) return;
    const { stream, raw } = this.#peer;
    // The proxy has closed the socket itself; `close` follows.
    if (raw.destroyed && !stream.writableEnded) return;
    if (stream.writableEnded) {
      if (this.#isCutWithinRecord) this.#reset(new Error('ended within a TLS record'));
      else this.#finish();
      return;
    }
    const isTcp = raw.localFamily !== undefined;
    const judge = (error: Error | null | undefined): void => {
      if (this.#isOver || this.#hasFinished) return;
      if (error && (isTcp || codeOf(error) !== 'EPIPE')) this.#reset(error);
      else this.#finish();
    };
    raw.write(EMPTY, judge);
    // The empty write may also queue after a write that waits for the peer to read. After a reset, all of them fail within this
    // turn.
    if (stream.writableLength > 0) setImmediate(() => judge(raw.errored));
  };

  /** A fatal alert and a forged record are reported only by `error`: the TLS socket is not destroyed, and an `end` follows. */
  readonly #onError = (error: Error): void => {
    if (this.#isOver) return;
    if (this.#hasFinished) this.#leave();
    else this.#reset(error);
  };

  readonly #onClose = (): void => {
    if (this.#isOver) return;
    const { stream, raw } = this.#peer;
    if (!this.#hasFinished) {
      // A socket that has ended in both directions closes by itself, possibly before the empty write completes.
      if (!stream.readableEnded || stream.errored || raw.errored) {
        this.#reset();
        return;
      }
      this.#finish();
    }
    this.#leave();
  };

  /**
   * Whether the bytes below TLS end within a record other than a close_notify. That is the one kind of reset that a stopped read does
   * not reveal, because no event reports the bytes of an incomplete record. After an answer, fewer bytes than those of a close_notify
   * may be the rest of one whose beginning was read together with plaintext; they count as a close_notify.
   */
  get #isCutWithinRecord(): boolean {
    const records = this.#records;
    if (!records) return false;
    const rest = this.#peer.raw.bytesRead - records.understoodAt;
    return (
      rest > records.closeNotifyBytes || (rest > 0 && rest < records.closeNotifyBytes && !records.hasAnswered)
    );
  }

  #finish(): void {
    this.#hasFinished = true;
    this.#events.finished();
  }

  #leave(): void {
    if (this.#isOver) return;
    this.stop();
    this.#events.gone();
  }

  #reset(error?: Error): void {
    const { stream, raw } = this.#peer;
    this.stop();
    this.#events.reset(raw.errored ?? stream.errored ?? error);
  }
}

interface EndedRecords {
  /** The number of bytes read below TLS when the last complete record was reported. */
  understoodAt: number;
  /** Whether the peer has sent a complete record since we ended our side. */
  hasAnswered: boolean;
  readonly closeNotifyBytes: number;
}

/** At least as long as the high-water mark of a socket's readable side, so that the read buffer is full. */
const FILLER = Buffer.alloc(READ_BUFFER_BYTES);

/**
 * Stops the reading of a socket from within its `data` event, before the event returns. `resume()` in a later turn of the event loop
 * continues. `pause()` alone is not sufficient: the socket is still read until its buffer reaches the high-water mark.
 *
 * If a hang-up arrives together with bytes, libuv reports an `end` without asking the kernel, so that a reset looks like an end. It
 * does not if reading was stopped while the bytes were delivered (uv__stream_io in its unix/stream.c): the next read then reports
 * the reset.
 */
export function stopRead(socket: Socket): void {
  socket.pause();
  if (!socket.readableEnded) socket.unshift(FILLER);
}

/**
 * Stops the reading of a dialled TLS connection from within a read that contains no plaintext, until the next turn of the event
 * loop. The socket below TLS has `onread` (see `dialer.ts`), so its `pause()` stops the handle immediately.
 */
function stopReadBelow({ stream, raw }: Peer): void {
  raw.pause();
  const goOn = (): void => void raw.resume();
  setImmediate(() => {
    if (stream.isPaused()) stream.once('resume', goOn);
    else goOn();
  });
}

/** Whether a chunk is the filler of `stopRead`, not bytes of the peer. */
export function isFiller(chunk: Buffer): boolean {
  // The socket emits a new view of the same memory.
  return chunk.buffer === FILLER.buffer;
}
