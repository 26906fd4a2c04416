import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

import { MAX_TAPPED_BYTES } from '../limits.js';

/** Passes the bytes of a socket on, and keeps a copy of the first that come from it. */
export class TappedStream extends Duplex {
  readonly #socket: Socket;
  readonly #kept: Buffer[] = [];
  #keptBytes = 0;

  constructor(socket: Socket) {
    super({ allowHalfOpen: false });
    this.#socket = socket;
    socket.on('data', (bytes: Buffer) => {
      if (this.#keptBytes < MAX_TAPPED_BYTES) {
        this.#kept.push(bytes);
        this.#keptBytes += bytes.length;
      }
      if (!this.push(bytes)) socket.pause();
    });
    socket.once('end', () => this.push(null));
    socket.once('error', (error: Error) => this.destroy(error));
    socket.once('close', () => this.destroy());
  }

  /** What has come so far. */
  get received(): Buffer {
    return Buffer.concat(this.#kept);
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(bytes, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
