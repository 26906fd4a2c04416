import type { OpenKind, OpenPage } from '../telemetry/open-pages.js';
import type { Accepted } from '../connection/accepted.js';
import type { Snapshot } from '../telemetry/metrics.js';
import type { ServingPlan } from './serving-plan.js';

/** A plan that is built and not yet in effect. */
export interface PreparedPlan {
  /** Applies it; cannot fail. The connections of listeners that it does not have are drained. */
  publish(): void;
  /** Forgets it. */
  discard(): void;
}

/** Who serves accepted connections: this process, or workers. */
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
  /** Breaks every connection off and says how many there were. */
  cutAll(why: string): number;
  /** The open connections of all listeners. */
  readonly connectionCount: number;
  /** The open connections of one listener. */
  connectionsOn(listenerId: number): number;
  /** The listeners of the current plan, and removed ones that still have connections. */
  listeners(): Snapshot['listeners'];
  /** Processes that serve. */
  readonly workers: number;
  /** Why no traffic should be sent here, one a line. */
  notReadyReasons(): string[];
  /** Makes the metrics current. */
  report(): Promise<void>;
  /** The oldest open connections or calls, at most `limit`. */
  open(kind: OpenKind, limit: number): Promise<OpenPage>;
}
