import type { Socket } from 'node:net';

import { CLIENT_LEFT, interruptionOf, type Interruption } from '../connection-context.js';

/** The value that a parser has read from the first bytes of a stream, and all bytes received so far. */
export interface Head<T> {
  readonly value: T;
  readonly bytes: Buffer;
}

/** A head that was interrupted before it was complete. */
export interface IncompleteHead {
  readonly interruption: Interruption;
  /** The number of bytes received before the interruption. */
  readonly receivedBytes: number;
}

/** A buffer for the first bytes of a stream; its size doubles as needed, so no byte is copied more than twice. */
class FirstBytes {
  #room: Buffer = Buffer.alloc(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

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
 * Collects a stream's first bytes until `parse` returns a value, or `signal` aborts; the stream is then paused. Each call of `parse`
 * gets all bytes so far; `parse` must bound how many it waits for. Rejects if `parse` throws.
 */
export function readHead<T>(
  stream: Socket,
  signal: AbortSignal,
  parse: (bytes: Buffer) => T | undefined,
): Promise<Head<T> | IncompleteHead> {
  return new Promise((resolve, reject) => {
    const first = new FirstBytes();
    const stop = (): void => {
      stream.off('data', onData);
      stream.off('end', onEnd);
      signal.removeEventListener('abort', onAbort);
      stream.pause();
    };
    const interrupt = (interruption: Interruption): void => {
      stop();
      resolve({ interruption, receivedBytes: first.length });
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
    const onEnd = (): void => interrupt(CLIENT_LEFT);
    const onAbort = (): void => interrupt(interruptionOf(signal));
    if (signal.aborted) {
      onAbort();
      return;
    }
    // The stream may have ended while the previous stage had it paused: a pause does not delay `end`.
    if (stream.readableEnded) {
      onEnd();
      return;
    }
    stream.on('data', onData);
    stream.on('end', onEnd);
    signal.addEventListener('abort', onAbort, { once: true });
    // A paused stream does not start to flow when a listener is added.
    stream.resume();
  });
}

/** Returns bytes to the stream for the next stage. */
export function putBack(stream: Socket, bytes: Buffer): void {
  if (bytes.length > 0) stream.unshift(bytes);
}
