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
 * Counts the open connections of one listener against its limits. When there are too many, or too many unauthenticated ones, a new
 * connection replaces the oldest unauthenticated one that has used up its grace period. Otherwise idle strangers could lock
 * out all other clients.
 */
export class ConnectionQuota {
  readonly #evict: (id: number) => void;
  /** The ids of the open connections, each with the address of its client, if it is known. */
  readonly #open = new Map<number, string | undefined>();
  readonly #bySource = new Map<string, number>();
  /** When each connection was accepted, in milliseconds; the oldest first. */
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

  /** Counts an accepted connection, unless it exceeds a limit. `source`: the address of its client, if it is already known. */
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

  /** The address of the client has become known. */
  identify(id: number, source: string, limits: ConnectionLimits): OpenExceeded | undefined {
    if (this.#isFull(source, limits)) return 'max_connections_per_source';
    this.#setSource(id, source);
    return undefined;
  }

  /** The client has presented a verified certificate, or upstream has answered it. */
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
