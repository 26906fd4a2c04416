import { ListenerCounts } from './listener-counts.js';
import { MethodTable } from './method-table.js';

/** Everything that is counted by looking inside connections; one for the process. */
export class RpcCounts {
  readonly methods = new MethodTable();
  readonly #listeners = new Map<string, ListenerCounts>();

  /** Of each listener that there is or was since the start. */
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
