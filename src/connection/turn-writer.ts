import { ByteQueue } from './byte-queue.js';
import { atEndOfTurn, type TurnTask } from './turn.js';

const NOTHING = Buffer.alloc(0);

/** What is written to: a socket, or a message of HTTP. */
export interface TurnSink {
  readonly writableLength: number;
  readonly destroyed: boolean;
  cork(): void;
  uncork(): void;
  write(chunk: Buffer, taken?: (error: Error | null | undefined) => void): boolean;
}

/** What a writer tells. */
export interface TurnWriterEvents {
  /** Something was written, or the sink has taken it. */
  readonly onProgress: () => void;
  /** An exception in `onProgress` or of the sink. */
  readonly onFault: (error: unknown) => void;
}

/**
 * Writes to a sink what one turn of the event loop brought, with one system call at the turn's end. While the sink has not
 * taken that, further bytes wait here, where small ones are joined, and not in the sink, which keeps each by itself.
 */
export class TurnWriter implements TurnTask {
  readonly #sink: TurnSink;
  readonly #events: TurnWriterEvents;
  readonly #waiting = new ByteQueue();
  /** The cost of what was written and not taken. */
  #writtenCost = 0;
  #isWriting = false;
  readonly #taken: (error: Error | null | undefined) => void;

  constructor(sink: TurnSink, events: TurnWriterEvents) {
    this.#sink = sink;
    this.#events = events;
    // After an error whoever watches the sink ends the connection.
    this.#taken = (error) => {
      if (error || !this.#isWriting || sink.writableLength > 0) return;
      this.#isWriting = false;
      this.#writtenCost = 0;
      this.endOfTurn();
    };
  }

  /** What the bytes cost that the sink has not taken, in memory. */
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

  /** `chunk` must stay as it is until it is written. */
  add(chunk: Buffer): void {
    if (this.#waiting.isEmpty && !this.#isWriting) atEndOfTurn(this);
    this.#waiting.add(chunk);
  }

  /** Writes what waits, even if the sink has not taken what was written before. */
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
    // Mostly the kernel has taken all of it by now.
    this.#isWriting = sink.writableLength > 0;
    if (!this.#isWriting) this.#writtenCost = 0;
  }

  /** Forgets what waits. */
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
