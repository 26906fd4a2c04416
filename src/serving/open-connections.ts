import { deferred, type Deferred } from '../deferred.js';
import { SWEEP_MS_MAX, SWEEP_MS_MIN } from '../limits.js';
import { guarded } from '../guarded.js';
import type { Accepted } from '../connection/accepted.js';
import type { ConnectionWatcher, ConnectionBudget } from '../connection/admission.js';
import { ConnectionEnd, internalError } from '../connection/connection-end.js';
import type { DropReason } from '../connection/connection-events.js';
import { formatEnd } from '../connection/peer-address.js';
import { ConnectionQuota, type OpenExceeded } from './connection-quota.js';
import type { ServedConnection, ConnectionStatus } from '../connection/connection-status.js';
import type { ListenerSettings } from '../connection/opening-settings.js';

/** The open connections of one listener, each with the settings in effect when it was accepted. */
export class OpenConnections {
  readonly #budget: ConnectionBudget;
  readonly #connections = new Map<number, ServedConnection>();
  readonly #quota = new ConnectionQuota((id) => this.refuse(id, 'max_unauthenticated_connections'));
  #settings: ListenerSettings;
  #sweep: NodeJS.Timeout | undefined;
  /** Set once a drain has begun. Settles when the last connection has ended. */
  #drained: Deferred<void> | undefined;

  constructor(settings: ListenerSettings, budget: ConnectionBudget) {
    this.#budget = budget;
    this.#settings = settings;
    this.publish(settings);
  }

  /** The settings that apply to new connections. */
  get settings(): ListenerSettings {
    return this.#settings;
  }

  /** The number of open connections, including those accepted under earlier settings. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Applies these settings to new connections. Open connections keep theirs. */
  publish(settings: ListenerSettings): void {
    this.#settings = settings;
    const { idleMs, prefaceMs, writeStallMs } = settings.configuration.timeouts;
    const shortestMs = Math.min(idleMs, writeStallMs, 2 * prefaceMs);
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

  /** Serves an accepted connection, or closes it immediately if it exceeds a limit. With a `watcher` it is already admitted. */
  accept(accepted: Accepted, watcher?: ConnectionWatcher): void {
    const { id } = accepted;
    const settings = this.#settings;
    const dropped = this.#reasonToDrop(accepted, watcher !== undefined);
    if (dropped !== undefined) {
      settings.events.dropped(dropped, formatEnd(accepted.peer));
      accepted.raw.destroy();
      watcher?.ended();
      return;
    }
    settings.events.accepted();
    const connection = settings.connect(accepted, {
      identified: (address) => {
        watcher?.identified(address);
        const exceeded = this.#quota.identify(id, address, this.#settings.configuration);
        return exceeded && limitExceeded(exceeded);
      },
      authenticated: () => {
        watcher?.authenticated();
        this.#quota.authenticate(id);
      },
    });
    this.#connections.set(id, connection);
    void connection.run().finally(() => {
      this.#connections.delete(id);
      this.#quota.end(id);
      this.#budget.giveBack();
      watcher?.ended();
      this.#endIfDrained();
    });
  }

  /** Closes an open connection that exceeds a limit. */
  refuse(id: number, exceeded: OpenExceeded): void {
    this.#connections.get(id)?.cut(limitExceeded(exceeded));
  }

  /** Drains open connections. No more are accepted. Settles when the last has ended. `why` is for the log. */
  drain(why: string): Promise<void> {
    this.#each((connection) => connection.drain(why));
    this.#drained ??= deferred();
    this.#endIfDrained();
    return this.#drained.promise;
  }

  #endIfDrained(): void {
    if (!this.#drained || this.#connections.size > 0) return;
    clearInterval(this.#sweep);
    this.#drained.resolve();
  }

  /**
   * Ends the connections that began under settings by which their calls are not judged, or without fields that are reserved now:
   * those whose calls are followed are drained, the others reset.
   */
  drainUnjudged(): void {
    const why = 'a reload has changed which of its calls are judged';
    this.#each((connection) => {
      const { stage, inspection } = connection.status;
      if (stage === 'opening' || inspection === 'followed') connection.drain(why);
      else
        connection.cut(
          new ConnectionEnd('inspection_lost', 'proxy', `its calls are not followed, and ${why}`),
        );
    });
  }

  /** Aborts all connections and returns their number. */
  cutAll(end: ConnectionEnd): number {
    const count = this.#connections.size;
    for (const connection of this.#connections.values()) connection.cut(end);
    return count;
  }

  /** The oldest open connections, at most `limit`. */
  oldest(limit: number): ConnectionStatus[] {
    const statuses: ConnectionStatus[] = [];
    for (const connection of this.#connections.values()) {
      if (statuses.length >= limit) break;
      statuses.push(connection.status);
    }
    return statuses;
  }

  /** Makes every connection report its transferred bytes. */
  reportBytes(): void {
    this.#each((connection) => connection.reportBytes());
  }

  /** An exception in one connection closes only that connection. The others are still processed. */
  #each(step: (connection: ServedConnection) => void): void {
    for (const connection of this.#connections.values()) {
      guarded(
        (fault) => connection.cut(internalError(fault)),
        () => step(connection),
      )();
    }
  }

  #reasonToDrop({ id, peer }: Accepted, isAdmitted: boolean): DropReason | undefined {
    const { configuration, expectsProxyHeader } = this.#settings;
    const source = expectsProxyHeader(peer?.address) ? undefined : peer?.address;
    if (this.#budget.lookAtMemory()) return 'memory';
    if (!isAdmitted) {
      const exceeded = this.#quota.admit(id, source, configuration, performance.now());
      if (exceeded !== undefined) return exceeded;
    }
    if (this.#budget.take()) return undefined;
    this.#quota.end(id);
    return 'descriptors';
  }
}

function limitExceeded(exceeded: OpenExceeded): ConnectionEnd {
  return new ConnectionEnd(exceeded, 'proxy');
}
