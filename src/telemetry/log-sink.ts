import { fstatSync, write } from 'node:fs';
import { Socket } from 'node:net';

import {
  LOG_BATCH_BYTES,
  LOG_DELAY_MS,
  LOG_FLUSH_MS,
  LOG_RETRY_MS,
  MAX_LOG_QUEUE_BYTES,
  RESERVED_LOG_BYTES,
} from '../limits.js';

/** Where log lines go. Writing never waits and never throws: what cannot leave in time is dropped and counted. */
export interface LogSink {
  /** One or more lines, each with its line end. Urgent lines are still accepted when the buffer is full for others. */
  write(lines: string, isUrgent?: boolean): void;
  /** Lines that were dropped since the start. */
  readonly droppedLines: number;
  /** Waits until what was written has left, at most `LOG_FLUSH_MS`. */
  flush(): Promise<void>;
}

/**
 * The sink for a file descriptor, which is standard output's unless a test says otherwise.
 *
 * A pipe or socket is written without blocking: were it written on a thread, as files are, a reader that does not
 * read would hold that thread, and with it the process when it wants to exit.
 */
export function openLogSink(fd: number): LogSink {
  const kind = fstatSync(fd);
  return batchLines(kind.isFIFO() || kind.isSocket() ? new PipeOutlet(fd) : new FileOutlet(fd));
}

/** A sink that lets lines wait for each other before they leave by an outlet. */
export function batchLines(outlet: Outlet): LogSink {
  return new BatchingSink(outlet);
}

/** Where lines leave the process. */
export interface Outlet {
  /** Bytes that were sent and have not left; infinite once nothing leaves any more. */
  readonly queued: number;
  send(lines: Buffer, isUrgent: boolean): void;
  /** Waits until what was sent has left, at most `LOG_FLUSH_MS`. */
  flush(): Promise<void>;
}

/** Lets lines wait for each other, not long: a write costs as much as ten of them. */
class BatchingSink implements LogSink {
  droppedLines = 0;
  readonly #outlet: Outlet;
  #batch = '';
  #isUrgent = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #sendBatch = (): void => {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const batch = this.#batch;
    this.#batch = '';
    if (batch !== '') this.#outlet.send(Buffer.from(batch), this.#isUrgent);
  };

  constructor(outlet: Outlet) {
    this.#outlet = outlet;
  }

  write(lines: string, isUrgent = false): void {
    const room = isUrgent ? MAX_LOG_QUEUE_BYTES : MAX_LOG_QUEUE_BYTES - RESERVED_LOG_BYTES;
    if (this.#batch.length + this.#outlet.queued + lines.length > room) {
      this.droppedLines += lines.split('\n').length - 1;
      return;
    }
    if (isUrgent !== this.#isUrgent) this.#sendBatch();
    this.#isUrgent = isUrgent;
    this.#batch += lines;
    if (this.#batch.length >= LOG_BATCH_BYTES) this.#sendBatch();
    else this.#timer ??= setTimeout(this.#sendBatch, LOG_DELAY_MS);
  }

  flush(): Promise<void> {
    this.#sendBatch();
    return this.#outlet.flush();
  }
}

class PipeOutlet implements Outlet {
  readonly #socket: Socket;

  constructor(fd: number) {
    this.#socket = new Socket({ fd, readable: false, writable: true });
    // The reader is gone (EPIPE): from here on every line is dropped and counted, and the traffic goes on.
    this.#socket.on('error', () => undefined);
  }

  get queued(): number {
    return this.#socket.writable ? this.#socket.writableLength : Number.POSITIVE_INFINITY;
  }

  send(lines: Buffer): void {
    this.#socket.write(lines);
  }

  flush(): Promise<void> {
    if (!this.#socket.writable || this.#socket.writableLength === 0) return Promise.resolve();
    return within(LOG_FLUSH_MS, (done) => {
      this.#socket.once('drain', done);
      this.#socket.once('close', done);
      // `drain` is only promised after a write that returned false; an empty write's callback comes after all others.
      this.#socket.write('', done);
    });
  }
}

class FileOutlet implements Outlet {
  queued = 0;
  readonly #fd: number;
  #waiting: Buffer[] = [];
  #isWriting = false;
  #retry: NodeJS.Timeout | undefined;
  /** Waits for the first moment at which nothing is left to write, or nothing can be written. */
  #onStop: (() => void) | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  send(lines: Buffer): void {
    if (this.queued === Number.POSITIVE_INFINITY) return;
    this.queued += lines.length;
    this.#waiting.push(lines);
    this.#write();
  }

  async flush(): Promise<void> {
    if (this.queued === 0 || this.queued === Number.POSITIVE_INFINITY) return;
    await within(LOG_FLUSH_MS, (done) => {
      this.#onStop = done;
      this.#write();
    });
    // What could not leave now will not: it must not hold the process.
    if (this.#waiting.length > 0) this.queued = Number.POSITIVE_INFINITY;
  }

  #write(): void {
    const [first] = this.#waiting;
    if (this.#isWriting) return;
    if (!first) {
      this.#onStop?.();
      return;
    }
    this.#isWriting = true;
    write(this.#fd, first, (error, written) => {
      this.#isWriting = false;
      if (error) {
        // A full disk, or a terminal that is stopped: the lines wait, up to the queue's bound.
        this.#onStop?.();
        this.#retry ??= setTimeout(() => {
          this.#retry = undefined;
          this.#write();
        }, LOG_RETRY_MS).unref();
        return;
      }
      this.queued -= written;
      if (written < first.length) this.#waiting[0] = first.subarray(written);
      else this.#waiting.shift();
      this.#write();
    });
  }
}

/** Settles when `start` calls back, or after `ms`; the timer does not keep the process. */
function within(ms: number, start: (done: () => void) => void): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    start(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
