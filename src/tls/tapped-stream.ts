import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

import { guarded } from '../guarded.js';

/** Passes the bytes of a socket on, and shows those that come from it to somebody first. */
export class TappedStream extends Duplex {
  readonly #socket: Socket;

  /** `mayPass` is called with all that comes, in its order; what it says no to is dropped. */
  constructor(socket: Socket, mayPass: (bytes: Buffer) => boolean) {
    super({ allowHalfOpen: false });
    this.#socket = socket;
    const onData = (bytes: Buffer): void => {
      if (mayPass(bytes) && !this.push(bytes)) socket.pause();
    };
    socket.on(
      'data',
      guarded((error) => this.destroy(error), onData),
    );
    socket.once('end', () => this.push(null));
    socket.once('error', (error: Error) => this.destroy(error));
    socket.once('close', () => this.destroy());
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(bytes, done);
  }

  /** What HTTP/2 writes at once is many small frames: they leave as one. */
  override _writev(
    chunks: readonly { readonly chunk: Buffer }[],
    done: (error?: Error | null) => void,
  ): void {
    this.#socket.write(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
