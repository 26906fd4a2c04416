import type { Readable } from 'node:stream';

/**
 * Stops reading below a stream without pausing the stream. A paused stream queues each chunk separately: the chunks that arrive
 * until reading has stopped, and all that an HTTP/2 client may send without a WINDOW_UPDATE.
 *
 * Node calls `push` with each chunk and stops reading immediately if it returns false. It calls `_read` to start again.
 */
export class HeldReading {
  readonly #stream: Readable;
  readonly #read: () => void;

  /** `isFull` is called after each chunk. `stream` must be flowing. */
  constructor(stream: Readable, isFull: () => boolean) {
    this.#stream = stream;
    const push = stream.push.bind(stream);
    const read = stream._read.bind(stream);
    this.#read = () => read(0);
    stream.push = (chunk: unknown, encoding?: BufferEncoding) => push(chunk, encoding) && !isFull();
    stream._read = (size) => {
      if (!isFull()) read(size);
    };
  }

  /** Starts reading again. */
  resume(): void {
    if (!this.#stream.destroyed) this.#read();
  }

  /** Restores the methods of the stream: a socket may serve another request. */
  release(): void {
    Reflect.deleteProperty(this.#stream, 'push');
    Reflect.deleteProperty(this.#stream, '_read');
  }
}
