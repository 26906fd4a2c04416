import { ListenerCounts } from './listener-counts.js';
import { MethodTable } from './method-table.js';

/** All counts of inspected traffic; one instance per process. */
export class RpcCounts {
  readonly methods = new MethodTable();
  readonly #listeners = new Map<string, ListenerCounts>();

  /** The counts of each listener that has existed since startup. */
  get listeners(): Iterable<readonly [listener: string, counts: ListenerCounts]> {
    return this.#listeners;
  }

  of(listener: string): ListenerCounts {
    let counts = this.#listeners.get(listener);
    if (!counts) {
      counts = new ListenerCounts();
      this.#listeners.set(listener, counts);
    }
    return counts;
  }
}
