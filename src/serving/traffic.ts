import type { OpenKind, OpenPage } from '../telemetry/open-pages.js';
import type { Accepted } from '../connection/accepted.js';
import type { Snapshot } from '../telemetry/metrics.js';
import type { ServingPlan } from './serving-plan.js';

/** A plan that is built and not yet in force. */
export interface PreparedPlan {
  /** Puts it in force; cannot fail. Ports that it does not hold are drained. */
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
  /** Serves an accepted connection of a port of the plan in force. */
  accept(port: number, accepted: Accepted): void;
  /** Drains every connection; settles when the last has ended. `why` is for the log. */
  drain(why: string): Promise<void>;
  /** Breaks every connection off and says how many there were. */
  cutAll(why: string): number;
  /** Connections that are open, on all ports. */
  readonly connectionCount: number;
  /** Connections that are open on one port. */
  connectionsOn(port: number): number;
  /** The ports of the plan in force, and those that have connections still. */
  listeners(): Snapshot['listeners'];
  /** Processes that serve. */
  readonly workers: number;
  /** Why no traffic should be sent here, one a line. */
  reasonsAgainst(): string[];
  /** Makes the metrics current. */
  report(): Promise<void>;
  /** The oldest open connections or calls, at most `limit`. */
  open(kind: OpenKind, limit: number): Promise<OpenPage>;
}
