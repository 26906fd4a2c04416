import type { Readable } from 'node:stream';

import { ByteQueue } from '../connection/relay/byte-queue.js';
import { TurnWriter, type TurnSink } from '../connection/relay/turn-writer.js';

interface ContentFlowOptions {
  /** The stream that emits the content. It is read from now on. */
  readonly source: Readable;
  /** The stream below `source`, whose reading is stopped while too much content waits. */
  readonly held: Readable;
  /** The content that may wait before reading stops, measured by its cost in memory. */
  readonly maxCost: number;
  readonly onChunk: (chunk: Buffer) => void;
  readonly onFault: (error: unknown) => void;
}

/**
 * The content of a request or answer on its way to the sink. Content that the sink has not accepted waits here, where small chunks
 * are joined, and not in Node's queues, which keep each chunk separately.
 */
export class ContentFlow {
  readonly #options: ContentFlowOptions;
  readonly #held: HeldReading;
  /** Content that arrives before `start`. */
  readonly #early = new ByteQueue();
  #writer: TurnWriter | undefined;
  #onEnd: (() => void) | undefined;
  #hasEnded = false;
  #isStopped = false;
  #isDropped = false;
  #dropsWhenFull = false;

  constructor(options: ContentFlowOptions) {
    this.#options = options;
    const { source, held, onChunk } = options;
    this.#held = new HeldReading(held, () => this.#stopIfFull());
    source.on('data', (chunk: Buffer) => {
      onChunk(chunk);
      this.#collect(chunk);
    });
    source.once('end', () => {
      this.#hasEnded = true;
      this.#endIfAll();
    });
  }

  /** Bytes that wait here or in the sink. */
  get queuedBytes(): number {
    return this.#writer?.queuedBytes ?? this.#early.bytes;
  }

  /** Writes to `sink` from now on. `onEnd` is called when all was written to it. */
  start(sink: TurnSink, onEnd: () => void): void {
    if (this.#isDropped) return;
    this.#onEnd = onEnd;
    this.#writer = new TurnWriter(sink, {
      onProgress: () => this.#resumeIfRoom(),
      onFault: this.#options.onFault,
    });
    for (const chunk of this.#early.take()) this.#writer.add(chunk);
    this.#endIfAll();
  }

  /** The sink needs no more content. From now on, content is dropped instead of stopping to read. */
  dropWhenFull(): void {
    this.#dropsWhenFull = true;
    if (this.#isFull) this.drop();
  }

  /** Drops the content that waits, and reads and drops the rest. */
  drop(): void {
    if (this.#isDropped) return;
    this.#isDropped = true;
    this.#early.take();
    this.#writer?.drop();
    this.#held.release();
    this.#resumeIfRoom();
  }

  get #isFull(): boolean {
    return !this.#isDropped && (this.#writer ?? this.#early).cost > this.#options.maxCost;
  }

  #stopIfFull(): boolean {
    this.#isStopped ||= this.#isFull;
    return this.#isStopped && !this.#isDropped;
  }

  #collect(chunk: Buffer): void {
    if (this.#isDropped) return;
    (this.#writer ?? this.#early).add(chunk);
    if (this.#dropsWhenFull && this.#isFull) this.drop();
  }

  #resumeIfRoom(): void {
    if (!this.#isStopped || this.#isFull) return;
    this.#isStopped = false;
    this.#held.resume();
  }

  #endIfAll(): void {
    if (!this.#hasEnded || !this.#onEnd || this.#isDropped) return;
    this.#writer?.flush();
    this.#held.release();
    this.#onEnd();
  }
}

/**
 * Stops reading below a stream without pausing the stream. A paused stream queues each chunk separately: the chunks that arrive
 * until reading has stopped, and all that an HTTP/2 client may send without a WINDOW_UPDATE.
 *
 * Node calls `push` with each chunk and stops reading immediately if it returns false. It calls `_read` to start again.
 */
class HeldReading {
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
