import type { OpenKind, OpenPage } from '../../telemetry/open-pages.js';
import type { Problem } from '../../config/model.js';
import type { Arrival } from '../../connection/accepted.js';
import type { OpenExceeded } from '../connection-quota.js';
import type { MetricsReport } from '../../telemetry/metrics.js';
import type { ServingPlan } from '../serving-plan.js';

/** The only argument of a worker's process; `ps` shows it. */
export const WORKER_ARGUMENT = 'worker';

/**
 * What the primary process tells a worker. An order with an `id` is answered; `accept` comes with the socket, which is
 * missing if its client has left on the way.
 */
export type Order =
  | { readonly kind: 'prepare'; readonly id: number; readonly plan: ServingPlan }
  /** Puts what was prepared in force. */
  | { readonly kind: 'publish' }
  /** Forgets what was prepared. */
  | { readonly kind: 'discard' }
  | { readonly kind: 'accept'; readonly listenerId: number; readonly arrival: Arrival }
  /** TLS sessions of this listener that began before this time must not be resumed after it. */
  | { readonly kind: 'endSessions'; readonly listenerId: number; readonly atMs: number }
  /** Closes a connection that exceeds a limit. */
  | {
      readonly kind: 'refuse';
      readonly listenerId: number;
      readonly connection: number;
      readonly exceeded: OpenExceeded;
    }
  /** Ends once all connections have. */
  | { readonly kind: 'drain'; readonly why: string }
  | { readonly kind: 'cut'; readonly why: string }
  | { readonly kind: 'report'; readonly id: number }
  | { readonly kind: 'open'; readonly id: number; readonly list: OpenKind; readonly limit: number };

/** What a worker tells the primary process. */
export type Notice =
  | WorkerAnswer
  /** It listens. */
  | { readonly kind: 'up' }
  /** The order of the same name, for the other workers. */
  | { readonly kind: 'endSessions'; readonly listenerId: number; readonly atMs: number }
  /** The events of connections, by their ids. */
  | ({ readonly kind: 'connections' } & ConnectionNews)
  | { readonly kind: 'log'; readonly lines: string; readonly isUrgent: boolean }
  | { readonly kind: 'counted'; readonly report: MetricsReport };

/** The events of connections since the last message. A connection may be in several of these lists, in this order. */
export interface ConnectionNews {
  /** Their PROXY header has named the client's address. */
  readonly identified: readonly (readonly [connection: number, address: string])[];
  readonly authenticated: readonly number[];
  readonly ended: readonly number[];
}

/** What an order with an `id` is answered with. */
export type WorkerAnswer =
  /** What speaks against the plan; nothing if it is prepared. */
  | { readonly kind: 'prepared'; readonly id: number; readonly problems: readonly Problem[] }
  | { readonly kind: 'reported'; readonly id: number; readonly report: MetricsReport }
  | { readonly kind: 'listed'; readonly id: number; readonly page: OpenPage };

/** An order that is answered, before it has its number. */
export type Question =
  | { readonly kind: 'prepare'; readonly plan: ServingPlan }
  | { readonly kind: 'report' }
  | { readonly kind: 'open'; readonly list: OpenKind; readonly limit: number };
