import type { OpenKind, OpenPage } from '../../telemetry/open-pages.js';
import type { TrafficReport } from '../../policy/observed-traffic.js';
import type { Problem } from '../../config/model.js';
import type { Arrival } from '../../connection/accepted.js';
import type { OpenExceeded } from '../connection-quota.js';
import type { MetricsReport } from '../../telemetry/metrics.js';
import type { ServingPlan } from '../serving-plan.js';

/** The only argument of a worker process, visible in `ps`. */
export const WORKER_ARGUMENT = 'worker';

/**
 * A message from the primary process to a worker. A worker answers each order that has an `id`. `accept` carries the socket,
 * which is missing if the client disconnected before it was delivered.
 */
export type Order =
  | { readonly kind: 'prepare'; readonly id: number; readonly plan: ServingPlan }
  /** Applies the prepared plan. */
  | { readonly kind: 'publish' }
  /** Discards the prepared plan. */
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
  /** Drains all connections, then exits. */
  | { readonly kind: 'drain'; readonly why: string }
  /** Whether audit lines cannot be written. */
  | { readonly kind: 'audit'; readonly isBlocked: boolean }
  | { readonly kind: 'cut'; readonly why: string }
  | { readonly kind: 'report'; readonly id: number }
  | { readonly kind: 'open'; readonly id: number; readonly list: OpenKind; readonly limit: number }
  | { readonly kind: 'observe'; readonly id: number; readonly limit: number };

/** A message from a worker to the primary process. */
export type Notice =
  | WorkerAnswer
  /** The worker is ready to receive orders. */
  | { readonly kind: 'up' }
  /** To be sent to the other workers as the order of the same name. */
  | { readonly kind: 'endSessions'; readonly listenerId: number; readonly atMs: number }
  /** Connection events, by connection id. */
  | ({ readonly kind: 'connections' } & ConnectionNews)
  | { readonly kind: 'log'; readonly lines: string; readonly isUrgent: boolean }
  /** Bodies of audit lines. */
  | { readonly kind: 'audit'; readonly lines: string }
  | { readonly kind: 'counted'; readonly report: MetricsReport };

/** Connection events since the last message. A connection may be in several lists; its events happened in this order. */
export interface ConnectionNews {
  /** The client address has become known from the PROXY header. */
  readonly identified: readonly (readonly [connection: number, address: string])[];
  readonly authenticated: readonly number[];
  readonly ended: readonly number[];
}

/** The answer to an order with an `id`. */
export type WorkerAnswer =
  /** `problems` is empty if the plan is prepared. */
  | { readonly kind: 'prepared'; readonly id: number; readonly problems: readonly Problem[] }
  | { readonly kind: 'reported'; readonly id: number; readonly report: MetricsReport }
  | { readonly kind: 'listed'; readonly id: number; readonly page: OpenPage }
  | { readonly kind: 'observed'; readonly id: number; readonly traffic: TrafficReport };

/** An order that expects an answer, before it is assigned an id. */
export type Question =
  | { readonly kind: 'prepare'; readonly plan: ServingPlan }
  | { readonly kind: 'report' }
  | { readonly kind: 'open'; readonly list: OpenKind; readonly limit: number }
  | { readonly kind: 'observe'; readonly limit: number };
