import { ByteQueue } from './byte-queue.js';
import { atEndOfTurn, type TurnTask } from './turn.js';

const NOTHING = Buffer.alloc(0);

/** The destination of the bytes: a socket, or an HTTP message. */
export interface TurnSink {
  readonly writableLength: number;
  readonly destroyed: boolean;
  cork(): void;
  uncork(): void;
  write(chunk: Buffer, taken?: (error: Error | null | undefined) => void): boolean;
}

export interface TurnWriterEvents {
  /** Bytes were written, or the sink has accepted them. */
  readonly onProgress: () => void;
  /** An exception in `onProgress` or of the sink. */
  readonly onFault: (error: unknown) => void;
}

/**
 * Collects the bytes of one turn of the event loop and writes them to a sink with one system call at the end of the turn. While
 * the sink has not accepted them, further bytes wait here, where small chunks are joined. The sink would keep each chunk
 * separately.
 */
export class TurnWriter implements TurnTask {
  readonly #sink: TurnSink;
  readonly #events: TurnWriterEvents;
  readonly #waiting = new ByteQueue();
  /** The cost of the bytes that the sink has not accepted yet. */
  #writtenCost = 0;
  #isWriting = false;
  readonly #taken: (error: Error | null | undefined) => void;

  constructor(sink: TurnSink, events: TurnWriterEvents) {
    this.#sink = sink;
    this.#events = events;
    // After an error, the observer of the sink ends the connection.
    this.#taken = (error) => {
      if (error || !this.#isWriting || sink.writableLength > 0) return;
      this.#isWriting = false;
      this.#writtenCost = 0;
      this.endOfTurn();
    };
  }

  /** The memory cost of the bytes that the sink has not accepted. */
  get cost(): number {
    return this.#waiting.cost + Math.max(this.#writtenCost, this.#sink.writableLength);
  }

  /** Bytes that wait for the sink. */
  get queuedBytes(): number {
    return this.#waiting.bytes + this.#sink.writableLength;
  }

  /** Whether everything was written. */
  get isEmpty(): boolean {
    return this.#waiting.isEmpty;
  }

  /** `chunk` must not be changed until it is written. */
  add(chunk: Buffer): void {
    if (this.#waiting.isEmpty && !this.#isWriting) atEndOfTurn(this);
    this.#waiting.add(chunk);
  }

  /** Writes the queued bytes, even if the sink has not accepted the previous ones. */
  flush(): void {
    if (this.#waiting.isEmpty) return;
    const sink = this.#sink;
    this.#writtenCost += this.#waiting.cost;
    const chunks = this.#waiting.take();
    const last = chunks.length - 1;
    if (last > 0) {
      // One writev without a copy on TCP and unix sockets; TLS joins them into one record stream.
      sink.cork();
      for (let index = 0; index < last; index++) sink.write(chunks[index] ?? NOTHING);
    }
    sink.write(chunks[last] ?? NOTHING, this.#taken);
    if (last > 0) sink.uncork();
    // In most cases the kernel has accepted everything by now.
    this.#isWriting = sink.writableLength > 0;
    if (!this.#isWriting) this.#writtenCost = 0;
  }

  /** Drops the queued bytes. */
  drop(): void {
    this.#waiting.take();
  }

  endOfTurn(): void {
    try {
      if (!this.#isWriting && !this.#sink.destroyed) this.flush();
      this.#events.onProgress();
    } catch (error) {
      this.#events.onFault(error);
    }
  }
}
