import { MAX_HTTP2_REQUESTS } from '../limits.js';

/**
 * Streams of HTTP/2 whose header holds a field that is forbidden, until Node has made a request of it. It makes none of a
 * header that is wrong in other ways, too.
 */
export class ForbiddenStreams {
  readonly #ids = new Set<number>();

  /** @returns whether it may be added: none waits for so many */
  add(streamId: number): boolean {
    this.#ids.add(streamId);
    return this.#ids.size <= MAX_HTTP2_REQUESTS;
  }

  /** Whether the request that came on a stream is one of them. Requests come in the order of their streams. */
  take(streamId: number): boolean {
    const isThere = this.#ids.has(streamId);
    for (const id of this.#ids) if (id <= streamId) this.#ids.delete(id);
    return isThere;
  }
}
