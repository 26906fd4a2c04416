import { guarded } from '../guarded.js';
import { HEADER_BLOCK_MS } from '../limits.js';
import type { Accepted } from './accepted.js';
import type { ConnectionEnd } from './close-reason.js';
import type { DropReason } from './events.js';
import { formatEnd } from './peer-address.js';
import { endFrom } from './relay.js';
import type { ServedConnection } from './served-connection.js';
import type { ListenerSettings } from './settings.js';
import type { ConnectionStatus } from './status.js';

/** What all listeners of the process share. */
export interface ConnectionBudget {
  /** Whether memory is nearly used up: no connection is accepted. */
  readonly isMemoryLow: boolean;
  /** Whether descriptors for one more connection are left; if so, they are taken. */
  take(): boolean;
  giveBack(): void;
}

const SWEEP_MS_MIN = 100;
const SWEEP_MS_MAX = HEADER_BLOCK_MS / 2;

/** The connections of one port, each under the settings that held when it was accepted. */
export class Listener {
  readonly #budget: ConnectionBudget;
  readonly #connections = new Set<ServedConnection>();
  #settings: ListenerSettings;
  #sweep: NodeJS.Timeout | undefined;
  #drained: Promise<void> | undefined;
  #whenDrained: (() => void) | undefined;

  constructor(settings: ListenerSettings, budget: ConnectionBudget) {
    this.#budget = budget;
    this.#settings = settings;
    this.publish(settings);
  }

  /** What new connections are accepted under. */
  get settings(): ListenerSettings {
    return this.#settings;
  }

  /** Connections that are open, those accepted under earlier settings too. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** From now on connections are accepted under these settings; open ones keep theirs. */
  publish(settings: ListenerSettings): void {
    this.#settings = settings;
    const { http, timeouts } = settings.configuration;
    const { idleMs, writeStallMs } = timeouts;
    // A relay has timers for the deadlines of its beginning; each request of HTTP has one.
    const shortestMs = Math.min(idleMs, writeStallMs, http ? timeouts.prefaceMs : Infinity);
    clearInterval(this.#sweep);
    this.#sweep = setInterval(
      () => {
        const now = performance.now();
        this.#each((connection) => connection.sweep(now));
      },
      Math.min(Math.max(shortestMs / 4, SWEEP_MS_MIN), SWEEP_MS_MAX),
    );
    this.#sweep.unref();
  }

  /** Serves an accepted connection, or closes it at once where a limit says so. `ended` is called when it is gone. */
  accept(accepted: Accepted, ended?: () => void): void {
    const dropped = this.#reasonToDrop();
    if (dropped !== undefined) {
      this.#settings.events.dropped(dropped, formatEnd(accepted.peer));
      accepted.raw.destroy();
      ended?.();
      return;
    }
    this.#settings.events.accepted();
    const connection = this.#settings.connect(accepted);
    this.#connections.add(connection);
    void connection.run().finally(() => {
      this.#connections.delete(connection);
      this.#budget.giveBack();
      ended?.();
      if (this.#connections.size === 0) this.#whenDrained?.();
    });
  }

  /** Drains open connections; none is accepted any more. Settles when the last has ended. `why` is for the log. */
  drain(why: string): Promise<void> {
    this.#each((connection) => connection.drain(why));
    this.#drained ??= new Promise((resolve) => {
      this.#whenDrained = () => {
        clearInterval(this.#sweep);
        resolve();
      };
    });
    if (this.#connections.size === 0) this.#whenDrained?.();
    return this.#drained;
  }

  /** Breaks all connections off and says how many there were. */
  cutAll(end: ConnectionEnd): number {
    const count = this.#connections.size;
    for (const connection of this.#connections) connection.cut(end);
    return count;
  }

  /** The open connections that were accepted first, so many at most. */
  oldest(limit: number): ConnectionStatus[] {
    const statuses: ConnectionStatus[] = [];
    for (const connection of this.#connections) {
      if (statuses.length >= limit) break;
      statuses.push(connection.status);
    }
    return statuses;
  }

  /** Makes every connection tell of the bytes that have moved. */
  reportBytes(): void {
    this.#each((connection) => connection.reportBytes());
  }

  /** A fault in one connection's code ends that connection alone, not the step for all others. */
  #each(step: (connection: ServedConnection) => void): void {
    for (const connection of this.#connections) {
      guarded(
        (fault) => connection.cut(endFrom(fault)),
        () => step(connection),
      )();
    }
  }

  #reasonToDrop(): DropReason | undefined {
    if (this.#connections.size >= this.#settings.configuration.maxConnections) return 'max_connections';
    if (this.#budget.isMemoryLow) return 'memory';
    return this.#budget.take() ? undefined : 'descriptors';
  }
}
