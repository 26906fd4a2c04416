import type { Socket } from 'node:net';

import { MAX_UNANSWERED_BYTES } from '../../limits.js';
import { ByteQueue } from '../relay/byte-queue.js';
import { isFiller, stopRead } from '../relay/hang-up.js';

/**
 * Reads a client while its upstream is dialled, so that a disconnect is detected, and keeps its bytes. Reading stops if the client
 * sends too much.
 */
export class EarlyBytes {
  readonly #stream: Socket;
  readonly #kept = new ByteQueue();

  /** `head`: the bytes that the client has sent so far. */
  constructor(stream: Socket, head: Buffer) {
    this.#stream = stream;
    this.#kept.add(head);
    stream.on('data', this.#onData).resume();
  }

  readonly #onData = (bytes: Buffer): void => {
    if (isFiller(bytes)) return;
    this.#kept.add(bytes);
    if (this.#kept.cost > MAX_UNANSWERED_BYTES) stopRead(this.#stream);
  };

  /** Stops reading, and returns all bytes that the client has sent. */
  take(): Buffer {
    this.#stream.off('data', this.#onData).pause();
    const chunks = this.#kept.take();
    const [first] = chunks;
    return first && chunks.length === 1 ? first : Buffer.concat(chunks);
  }
}
