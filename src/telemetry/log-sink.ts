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

/** A destination of log lines. Writing never blocks and never throws: lines that do not fit into the buffer are dropped and counted. */
export interface LogSink {
  /** Writes one or more lines, each with its line end. A part of the buffer is reserved for urgent lines. */
  write(lines: string, isUrgent?: boolean): void;
  /** The number of lines dropped since startup. */
  readonly droppedLines: number;
  /** Waits until all lines have been written to the file descriptor, at most `LOG_FLUSH_MS`. */
  flush(): Promise<void>;
}

/**
 * Opens a sink for a file descriptor: standard output, except in tests.
 *
 * Pipes and sockets are written without blocking. Files are written on a thread; a stalled reader of a pipe would block
 * that thread, and with it the exit of the process.
 */
export function openLogSink(fd: number): LogSink {
  const kind = fstatSync(fd);
  return batchLines(kind.isFIFO() || kind.isSocket() ? new PipeOutlet(fd) : new FileOutlet(fd));
}

/** A sink that collects lines into batches before it sends them to an outlet. */
export function batchLines(outlet: Outlet): LogSink {
  return new BatchingSink(outlet);
}

/** Writes batches of lines to a file descriptor. */
export interface Outlet {
  /** Bytes that were sent but not yet written; infinite once nothing can be written any more. */
  readonly queued: number;
  send(lines: Buffer, isUrgent: boolean): void;
  /** Waits until everything sent has been written, at most `LOG_FLUSH_MS`. */
  flush(): Promise<void>;
}

/** Collects lines for a short time: one write costs as much as ten lines do. */
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
    // The reader has closed the pipe (EPIPE): from now on every line is dropped and counted. Traffic is not affected.
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
      // `drain` is only emitted after a write that returned false; the callback of an empty write runs after all others.
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
  /** Called when nothing is left to write, or when a write fails. */
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
    // Lines that could not be written by now are given up, so that they do not delay the exit.
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
        // The disk is full or the terminal is stopped: the lines wait, up to the limit of the queue.
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

/** Settles when `start` calls back, or after `ms`. */
function within(ms: number, start: (done: () => void) => void): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    start(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
