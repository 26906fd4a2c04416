import type { ConnectionLimits } from '../config/model.js';
import { UNAUTHENTICATED_MS } from '../limits.js';
import type { CloseReason } from '../connection/connection-end.js';

/** The limit that an open connection is closed for. */
export type OpenExceeded = Extract<
  CloseReason,
  'max_unauthenticated_connections' | 'max_connections_per_source'
>;

/** The limit that a new connection would exceed. */
export type ExceededQuota = 'max_connections' | OpenExceeded;

/**
 * Counts the open connections of one listener against its limits. If `max_connections` or `max_unauthenticated_connections` is
 * reached, a new connection replaces the oldest unauthenticated one whose grace period has expired. Otherwise idle
 * unauthenticated clients could lock out all other clients.
 */
export class ConnectionQuota {
  readonly #evict: (id: number) => void;
  /** The client address of each open connection, if known, by connection id. */
  readonly #open = new Map<number, string | undefined>();
  readonly #bySource = new Map<string, number>();
  /** The time each unauthenticated connection was accepted, in milliseconds; the oldest first. */
  readonly #unauthenticated = new Map<number, number>();
  /** Replaced connections that have not ended yet. */
  readonly #leaving = new Set<number>();

  /** `evict`: closes an open connection. */
  constructor(evict: (id: number) => void) {
    this.#evict = evict;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Counts an accepted connection, unless it exceeds a limit. `source`: the client address, if it is already known. */
  admit(
    id: number,
    source: string | undefined,
    limits: ConnectionLimits,
    nowMs: number,
  ): ExceededQuota | undefined {
    if (this.#isFull(source, limits)) return 'max_connections_per_source';
    const exceeded = this.#exceeded(limits);
    if (exceeded !== undefined && !this.#makeRoom(nowMs)) return exceeded;
    this.#open.set(id, undefined);
    this.#unauthenticated.set(id, nowMs);
    this.#setSource(id, source);
    return undefined;
  }

  /** Records the client address once it is known. */
  identify(id: number, source: string, limits: ConnectionLimits): OpenExceeded | undefined {
    if (this.#isFull(source, limits)) return 'max_connections_per_source';
    this.#setSource(id, source);
    return undefined;
  }

  /** Records that the client presented a verified certificate or received a response from the upstream. */
  authenticate(id: number): void {
    this.#unauthenticated.delete(id);
  }

  end(id: number): void {
    this.#setSource(id, undefined);
    this.#open.delete(id);
    this.#unauthenticated.delete(id);
    this.#leaving.delete(id);
  }

  #exceeded(limits: ConnectionLimits): ExceededQuota | undefined {
    if (this.#open.size - this.#leaving.size >= limits.maxConnections) return 'max_connections';
    return this.#unauthenticated.size >= limits.maxUnauthenticatedConnections
      ? 'max_unauthenticated_connections'
      : undefined;
  }

  #makeRoom(nowMs: number): boolean {
    for (const [id, sinceMs] of this.#unauthenticated) {
      if (nowMs - sinceMs < UNAUTHENTICATED_MS) return false;
      this.#unauthenticated.delete(id);
      this.#leaving.add(id);
      this.#evict(id);
      return true;
    }
    return false;
  }

  #isFull(source: string | undefined, { maxConnectionsPerSource }: ConnectionLimits): boolean {
    if (source === undefined || maxConnectionsPerSource === undefined) return false;
    return (this.#bySource.get(source) ?? 0) >= maxConnectionsPerSource;
  }

  #setSource(id: number, source: string | undefined): void {
    const former = this.#open.get(id);
    if (!this.#open.has(id) || former === source) return;
    this.#open.set(id, source);
    if (former !== undefined) this.#add(former, -1);
    if (source !== undefined) this.#add(source, 1);
  }

  #add(source: string, connections: number): void {
    const sum = (this.#bySource.get(source) ?? 0) + connections;
    if (sum > 0) this.#bySource.set(source, sum);
    else this.#bySource.delete(source);
  }
}
