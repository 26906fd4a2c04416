import type { OpenKind, OpenPage } from '../telemetry/open-pages.js';
import type { TrafficReport } from '../policy/observed-traffic.js';
import type { Accepted } from '../connection/accepted.js';
import type { Snapshot } from '../telemetry/metrics.js';
import type { ServingPlan } from './serving-plan.js';

/** A plan that is built but not yet in effect. */
export interface PreparedPlan {
  /** Applies the plan. Cannot fail. Connections of listeners that are not in the plan are drained. */
  publish(): void;
  /** Discards the plan. */
  discard(): void;
}

/** Serves accepted connections, in this process or in workers. */
export interface Traffic {
  /**
   * Builds what a plan needs.
   * @throws PlanRefused, TrafficFailure; nothing has changed then
   */
  prepare(plan: ServingPlan): Promise<PreparedPlan>;
  /** Serves a connection that a listener of the current plan has accepted. */
  accept(listenerId: number, accepted: Accepted): void;
  /** Drains every connection; settles when the last has ended. `why` is for the log. */
  drain(why: string): Promise<void>;
  /** Aborts all connections and returns their number. */
  cutAll(why: string): number;
  /** The number of open connections on all listeners. */
  readonly connectionCount: number;
  /** The number of open connections on one listener. */
  connectionsOn(listenerId: number): number;
  /** The listeners of the current plan, and removed ones that still have connections. */
  listeners(): Snapshot['listeners'];
  /** The number of processes that are serving. */
  readonly workers: number;
  /** The reasons why no traffic should be sent to this process, one line per reason. */
  notReadyReasons(): string[];
  /** Updates the metrics. */
  report(): Promise<void>;
  /** The oldest open connections or calls, at most `limit`. */
  open(kind: OpenKind, limit: number): Promise<OpenPage>;
  /** The observed traffic, at most `limit` groups of clients. */
  observed(limit: number): Promise<TrafficReport>;
}
