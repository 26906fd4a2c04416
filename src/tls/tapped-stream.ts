import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

import { guarded } from '../guarded.js';

/** Passes the bytes of a socket on, and shows those that come from it to somebody first. */
export class TappedStream extends Duplex {
  readonly #socket: Socket;
  #hasWritten = false;
  #isReleased = false;
  /** Inserted before the first write; sent after it. */
  #held: Buffer | undefined;

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
    socket.once('end', () => {
      if (!this.destroyed) this.push(null);
    });
    socket.once('error', (error: Error) => this.destroy(error));
    socket.once('close', () => this.destroy());
  }

  /**
   * Sends bytes between two writes, which each consist of whole frames. They never precede the first write, HTTP/2's SETTINGS.
   */
  insert(bytes: Buffer): void {
    if (!this.#hasWritten) this.#held = bytes;
    else if (this.#socket.writable) this.#socket.write(bytes);
  }

  /** Sends bytes as the last ones, and leaves the socket open when the stream is destroyed. Writes that wait are dropped. */
  release(lastBytes: Buffer): void {
    this.#isReleased = true;
    if (this.#socket.writable) this.#socket.write(lastBytes);
  }

  /** Whether anything was written. */
  get hasWritten(): boolean {
    return this.#hasWritten;
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#write(bytes, done);
  }

  /** What HTTP/2 writes at once is many small frames: they leave as one. */
  override _writev(
    chunks: readonly { readonly chunk: Buffer }[],
    done: (error?: Error | null) => void,
  ): void {
    this.#write(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  #write(bytes: Buffer, done: (error?: Error | null) => void): void {
    if (this.#isReleased) {
      done();
      return;
    }
    this.#hasWritten = true;
    this.#socket.write(bytes, done);
    if (this.#held && this.#socket.writable) this.#socket.write(this.#held);
    this.#held = undefined;
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.#isReleased) this.#socket.destroy();
    done(error);
  }
}
