import type { Address, ListenerConfiguration } from '../config/model.js';
import type { ConnectionEvents } from '../connection/connection-events.js';
import type { ConnectionBudget } from '../connection/admission.js';
import type { HttpEvents } from './http-events.js';
import type { UpstreamPool } from './upstream-pool.js';

/** The configuration and upstream with which the requests of one listener are served. */
export interface HttpService {
  readonly configuration: ListenerConfiguration;
  readonly upstream: Address;
  readonly pool: UpstreamPool;
  readonly requests: HttpEvents;
  readonly events: Pick<ConnectionEvents, 'upstreamFailed'>;
  readonly budget: ConnectionBudget;
}

/**
 * The service currently in effect. A connection can outlive a configuration: each of its requests uses the one in effect when the
 * request arrives.
 */
export class CurrentService {
  #service: HttpService | undefined;

  /** @throws before the first call of `publish` */
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
