import type { HeaderFault } from '../inspect/http2/client-frames.js';
import { MAX_HTTP2_REQUESTS } from '../limits.js';

/**
 * HTTP/2 streams whose header must not be forwarded, until Node emits the request. Node emits none if the header is invalid in other
 * ways, too.
 */
export class RefusedStreams {
  readonly #faults = new Map<number, HeaderFault>();

  /** @returns false if more than `MAX_HTTP2_REQUESTS` streams wait */
  add(streamId: number, fault: HeaderFault): boolean {
    this.#faults.set(streamId, fault);
    return this.#faults.size <= MAX_HTTP2_REQUESTS;
  }

  /** Returns and removes the fault of a stream. Requests are emitted in the order of their streams. */
  take(streamId: number): HeaderFault | undefined {
    const fault = this.#faults.get(streamId);
    for (const id of this.#faults.keys()) if (id <= streamId) this.#faults.delete(id);
    return fault;
  }
}
