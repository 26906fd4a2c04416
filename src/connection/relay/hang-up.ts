import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

import { codeOf } from '../../error-codes.js';
import { READ_BUFFER_BYTES } from '../../limits.js';
import { closeNotifyBytes } from '../../tls/close-notify.js';

/** One end of a relay: `stream` carries plaintext, `raw` is the socket below TLS, or `stream` itself. */
export interface Peer {
  readonly stream: Socket;
  readonly raw: Socket;
}

/** How a peer hangs up. Every method is called at most once. */
export interface HangUpEvents {
  /** It has sent everything: a FIN, or a close_notify. It may still read. */
  finished(): void;
  /** It broke the connection off, with this error of the socket if there is one. */
  reset(error: Error | undefined): void;
  /** It had finished, and reads no more. */
  gone(): void;
}

const EMPTY = Buffer.alloc(0);

/**
 * Tells how a peer hangs up. What Node reports depends on whether the socket was being read, and whether our own side had ended.
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
 * So `end` alone proves nothing:
 * - Before our own end, an empty write below TLS decides: it fails on a connection that was reset.
 * - After our own end such a write would fail by itself. Reading must then stop within each read, so that the read that follows
 *   reports a reset; and the bytes of a TLS record that was cut give the reset away.
 *
 * What remains undecided:
 * - A FIN within a TLS record counts as `finished` before our own end. Node reports a bare FIN like a close_notify, too.
 * - A close_notify before a reset counts as the end after our own end, since nothing was lost, and as a reset before.
 * - After an answer that followed our own end, up to `closeNotifyBytes` of a cut record count as a close_notify.
 * - The close of a unix socket is its FIN, unless some of our bytes were unread: that is an ECONNRESET.
 */
export class HangUpWatch {
  readonly #peer: Peer;
  readonly #events: HangUpEvents;
  #hasFinished = false;
  #isOver = false;
  /** The TLS records of a peer whose side we have ended. */
  #records: EndedRecords | undefined;

  /** `events` may be called from here on, and are not before `start`. */
  constructor(peer: Peer, events: HangUpEvents) {
    this.#peer = peer;
    this.#events = events;
  }

  /** Whether the peer has sent everything. */
  get hasFinished(): boolean {
    return this.#hasFinished;
  }

  /** Begins to watch. A peer that hung up before is reported at once. */
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
      // Before those who break the socket off at once and know no reason.
      stream.prependListener('error', this.#onError);
    }
    // A pause does not hold an `end` back when nothing is left to read: it may have come while nobody listened.
    if (stream.readableEnded) this.#onEnd();
  }

  /** Stops watching. */
  stop(): void {
    const { stream, raw } = this.#peer;
    this.#isOver = true;
    stream.off('end', this.#onEnd).off('close', this.#onClose).off('error', this.#onError);
    stream.off('data', this.#onRecord).off('session', this.#onTicket);
    raw.off('close', this.#onClose);
  }

  /** Our own side of the connection is about to be ended: from now on the peer's TLS records are followed. */
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

  /** A session ticket of a TLS server was read: nothing else reports that. */
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
    if (stream.writableEnded || raw.destroyed) {
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
    // The empty write may also queue behind a write that waits for the peer to read. After a reset all of them fail within
    // this turn.
    if (stream.writableLength > 0) setImmediate(() => judge(raw.errored));
  };

  /** A fatal alert and a forged record are reported by `error` alone: the TLS socket is not destroyed, and an `end` follows. */
  readonly #onError = (error: Error): void => {
    if (this.#isOver) return;
    if (this.#hasFinished) this.#leave();
    else this.#reset(error);
  };

  readonly #onClose = (): void => {
    if (this.#isOver) return;
    const { stream, raw } = this.#peer;
    if (!this.#hasFinished) {
      // A socket that is done in both directions closes by itself, maybe before the empty write is answered.
      if (!stream.readableEnded || stream.errored || raw.errored) {
        this.#reset();
        return;
      }
      this.#finish();
    }
    this.#leave();
  };

  /**
   * Bytes below TLS of which nothing came, other than a close_notify: a record whose rest never came. That is the one reset
   * which a stopped read does not show, as nobody is told of such bytes. Behind an answer, fewer bytes than those of a
   * close_notify may be the rest of one, whose beginning came in one read with plaintext: they count as one.
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
  /** How much had been read below TLS when something last came of it. */
  understoodAt: number;
  /** Whether anything came since we ended our side. */
  hasAnswered: boolean;
  readonly closeNotifyBytes: number;
}

/** As long as the high-water mark of a socket's readable side, at the least: nothing fits beside it. */
const FILLER = Buffer.alloc(READ_BUFFER_BYTES);

/**
 * Stops the reading of a socket from within its `data` event, before the event returns; `resume()` in a later turn of the
 * event loop goes on. `pause()` does not: the socket is read until it holds as much as its high-water mark.
 *
 * Where a hang-up comes together with bytes, libuv makes an `end` of it without asking the kernel, unless reading was
 * stopped while the bytes were handed over (uv__stream_io in its unix/stream.c): a reset looks like an end then. The read
 * that follows reports a reset.
 */
export function stopRead(socket: Socket): void {
  socket.pause();
  if (!socket.readableEnded) socket.unshift(FILLER);
}

/**
 * Stops the reading of a dialled TLS connection from within a read that brings no plaintext, until the next turn of the event
 * loop. `pause()` of the socket below TLS does that because it has `onread` (see `dialer.ts`): Node stops its handle at once.
 */
function stopReadBelow({ stream, raw }: Peer): void {
  raw.pause();
  const goOn = (): void => void raw.resume();
  setImmediate(() => {
    if (stream.isPaused()) stream.once('resume', goOn);
    else goOn();
  });
}

/** Whether a `data` event brought what `stopRead` had filled the socket with, and nothing that was sent. */
export function isFiller(chunk: Buffer): boolean {
  // The socket hands over a view of its own.
  return chunk.buffer === FILLER.buffer;
}
