import type { HeaderFault } from '../inspect/http2/client-frames.js';
import { MAX_HTTP2_REQUESTS } from '../limits.js';

/**
 * Streams of HTTP/2 whose header must not be passed on, until Node has made a request of it. It makes none of a header that is
 * wrong in other ways, too.
 */
export class RefusedStreams {
  readonly #faults = new Map<number, HeaderFault>();

  /** @returns whether it may be added: none waits for so many */
  add(streamId: number, fault: HeaderFault): boolean {
    this.#faults.set(streamId, fault);
    return this.#faults.size <= MAX_HTTP2_REQUESTS;
  }

  /** What is wrong with the request that came on a stream. Requests come in the order of their streams. */
  take(streamId: number): HeaderFault | undefined {
    const fault = this.#faults.get(streamId);
    for (const id of this.#faults.keys()) if (id <= streamId) this.#faults.delete(id);
    return fault;
  }
}
