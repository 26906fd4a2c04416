import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';

import { destination } from 'pino';

import { LOG_FLUSH_MS, MAX_LOG_QUEUE_BYTES } from '../limits.js';

/** Where log lines go. Writing never waits and never throws: what cannot leave in time is dropped and counted. */
export interface LogSink {
  write(line: string): void;
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
  return kind.isFIFO() || kind.isSocket() ? new PipeSink(fd) : new FileSink(fd);
}

class PipeSink implements LogSink {
  droppedLines = 0;
  readonly #socket: Socket;

  constructor(fd: number) {
    this.#socket = new Socket({ fd, readable: false, writable: true });
    // The reader is gone (EPIPE): from here on every line is dropped and counted, and the traffic goes on.
    this.#socket.on('error', () => undefined);
  }

  write(line: string): void {
    if (!this.#socket.writable || this.#socket.writableLength + line.length > MAX_LOG_QUEUE_BYTES)
      this.droppedLines++;
    else this.#socket.write(line);
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

class FileSink implements LogSink {
  droppedLines = 0;
  readonly #stream: ReturnType<typeof destination>;
  #state: 'open' | 'given up' = 'open';

  constructor(fd: number) {
    // With `minLength: 0` its `flush` would call back before what is being written has left.
    this.#stream = destination({ dest: fd, sync: false, minLength: 1, maxLength: MAX_LOG_QUEUE_BYTES });
    this.#stream.on('drop', () => this.droppedLines++);
    // A full disk: the lines wait, up to the queue's bound, and leave when there is room again.
    this.#stream.on('error', () => undefined);
  }

  write(line: string): void {
    if (this.#state === 'given up') this.droppedLines++;
    else this.#stream.write(line);
  }

  async flush(): Promise<void> {
    if (this.#state === 'given up') return;
    const progress = { left: false };
    await within(LOG_FLUSH_MS, (done) => {
      this.#stream.flush((error) => {
        progress.left = !error;
        done();
      });
    });
    if (progress.left) return;
    // At exit the stream would try once more to write, without end where the disk is full, and hold the process.
    this.#state = 'given up';
    this.#stream.destroy();
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
