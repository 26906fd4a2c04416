import type { Address, ListenerConfiguration } from '../config/model.js';
import type { ConnectionEvents } from '../connection/connection-events.js';
import type { ConnectionBudget } from '../connection/admission.js';
import type { HttpEvents } from './http-events.js';
import type { UpstreamPool } from './upstream-pool.js';

/** What the requests of one listener are served with. */
export interface HttpService {
  readonly configuration: ListenerConfiguration;
  readonly upstream: Address;
  readonly pool: UpstreamPool;
  readonly requests: HttpEvents;
  readonly events: Pick<ConnectionEvents, 'upstreamFailed'>;
  readonly budget: ConnectionBudget;
}

/**
 * What is served with at the moment. A connection lasts longer than a configuration: each of its requests follows the one
 * that is in force.
 */
export class CurrentService {
  #service: HttpService | undefined;

  /** @throws before the first was published */
  get service(): HttpService {
    if (!this.#service) throw new Error('no service was published');
    return this.#service;
  }

  publish(service: HttpService): void {
    const former = this.#service;
    this.#service = service;
    if (former && former.pool !== service.pool) former.pool.retire();
  }
}
