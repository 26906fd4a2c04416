import { setTimeout as delay } from 'node:timers/promises';

import { ADMIN_PAUSE_MS_MAX, ADMIN_PAUSE_RATIO } from '../limits.js';

/**
 * Generates one page at a time, with a pause after each, so that clients of the admin port never take all of the event loop
 * from the traffic. Requests that wait for the same page share one copy, which is generated after the last of them arrived.
 */
export class PageQueue<Page> {
  readonly #waiting = new Map<string, Promise<Page>>();
  #last: Promise<unknown> = Promise.resolve();

  /** Rejects as `make` does. `key` identifies the page. */
  page(key: string, make: () => Promise<Page>): Promise<Page> {
    const waiting = this.#waiting.get(key);
    if (waiting) return waiting;
    const page = this.#last.then(() => {
      this.#waiting.delete(key);
      return make();
    });
    this.#waiting.set(key, page);
    this.#last = this.#last.then(() => this.#pauseAfter(page));
    return page;
  }

  async #pauseAfter(page: Promise<Page>): Promise<void> {
    const startedAtMs = performance.now();
    await page.catch(() => undefined);
    const pauseMs = ADMIN_PAUSE_RATIO * (performance.now() - startedAtMs);
    await delay(Math.min(pauseMs, ADMIN_PAUSE_MS_MAX), undefined, { ref: false });
  }
}
