import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

import { guarded } from '../guarded.js';

/** Wraps a socket: bytes from the socket are first passed to an inspector, and may be inserted into those sent to it. */
export class TappedStream extends Duplex {
  readonly #socket: Socket;
  #hasWritten = false;
  #isReleased = false;
  /** Inserted before the first write; sent after it. */
  #held: Buffer | undefined;

  /** @param mayPass - called with all received bytes, in order; bytes for which it returns false are dropped */
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
   * Sends bytes between two writes, each of which consists of whole frames. They never precede the first write, HTTP/2's SETTINGS.
   */
  insert(bytes: Buffer): void {
    if (!this.#hasWritten) this.#held = bytes;
    else if (this.#socket.writable) this.#socket.write(bytes);
  }

  /** Sends the last bytes, and keeps the socket open when the stream is destroyed. Pending writes are dropped. */
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

  /** HTTP/2 writes many small frames at once, which are combined into one write. */
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
