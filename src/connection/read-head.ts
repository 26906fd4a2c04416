import type { Socket } from 'node:net';

/** The bytes at the start of a stream, as far as a parser needed them (and what else came with them). */
export interface Head<T> {
  readonly value: T;
  readonly bytes: Buffer;
}

/** A client that ended its stream, or closed or reset its connection, before a stage had what it waits for. */
export class ClientLeft extends Error {}

/** The only one needed: it tells nothing but its kind, and a stack for each connection would cost. */
export const clientLeft = new ClientLeft('the client left');

/** A buffer for the first bytes of a stream; its size doubles as needed, so no byte is copied more than twice. */
class FirstBytes {
  #room: Buffer = Buffer.alloc(0);
  #length = 0;

  /** Adds a chunk and returns all bytes so far. */
  add(chunk: Buffer): Buffer {
    const length = this.#length + chunk.length;
    if (this.#length === 0) this.#room = chunk;
    else {
      if (length > this.#room.length) {
        const room = Buffer.allocUnsafe(2 * length);
        this.#room.copy(room, 0, 0, this.#length);
        this.#room = room;
      }
      chunk.copy(this.#room, this.#length);
    }
    this.#length = length;
    return this.#room.subarray(0, length);
  }
}

/**
 * Collects a stream's first bytes until `parse` returns a value; the stream is then paused. Each call sees all
 * bytes so far; `parse` bounds how many it asks for.
 *
 * Rejects with what `parse` throws, or `ClientLeft`. Does not settle when the stream is destroyed: its owner does.
 */
export function readHead<T>(stream: Socket, parse: (bytes: Buffer) => T | undefined): Promise<Head<T>> {
  return new Promise((resolve, reject) => {
    const first = new FirstBytes();
    const stop = (): void => {
      stream.off('data', onData);
      stream.off('end', onEnd);
      stream.pause();
    };
    const onData = (chunk: Buffer): void => {
      const bytes = first.add(chunk);
      let value: T | undefined;
      try {
        value = parse(bytes);
      } catch (error) {
        stop();
        reject(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      if (value === undefined) return;
      stop();
      resolve({ value, bytes });
    };
    const onEnd = (): void => {
      stop();
      reject(clientLeft);
    };
    // Its end may have come while the stage before had it paused: a pause does not hold an end back.
    if (stream.readableEnded) {
      reject(clientLeft);
      return;
    }
    stream.on('data', onData);
    stream.on('end', onEnd);
    // Explicit: a stream that was paused does not start to flow for a new listener.
    stream.resume();
  });
}
