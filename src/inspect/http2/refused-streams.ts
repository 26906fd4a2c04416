import { MAX_REFUSED_STREAMS, MAX_UNRESET_STREAMS } from '../../limits.js';

/** The streams of refused calls, until both ends are done with them. */
export class RefusedStreams {
  /** Their clients may still send on them; the oldest first. */
  readonly #sending = new Set<number>();
  /** The server has been sent their poisoned header block and has not reset them yet. */
  readonly #unreset = new Set<number>();

  /** Adds a stream. `false` if the server owes too many resets. */
  add(streamId: number, isClientDone: boolean): boolean {
    this.#unreset.add(streamId);
    if (!isClientDone) this.#sending.add(streamId);
    if (this.#sending.size > MAX_REFUSED_STREAMS) {
      // Its client has had the answer for a while. A frame that is still on its way reaches a server that has reset the stream.
      const [oldest = 0] = this.#sending;
      this.#sending.delete(oldest);
    }
    return this.#unreset.size <= MAX_UNRESET_STREAMS;
  }

  /** Whether the client may still send on the stream. */
  isSending(streamId: number): boolean {
    return this.#sending.size > 0 && this.#sending.has(streamId);
  }

  /** The client has ended or reset the stream. */
  clientDone(streamId: number): void {
    this.#sending.delete(streamId);
  }

  /** Whether the server has yet to reset a stream. */
  get awaitsReset(): boolean {
    return this.#unreset.size > 0;
  }

  isUnreset(streamId: number): boolean {
    return this.#unreset.has(streamId);
  }

  serverDone(streamId: number): void {
    this.#unreset.delete(streamId);
  }
}
