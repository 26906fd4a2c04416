import { ABUSE_LIMITS } from '../limits.js';
import type { GrpcCall } from './grpc/call.js';

/** The reason for which a call cannot be followed: its connection has too many calls, or this process has no memory for more. */
export type CallRefusal = 'too_many_streams' | 'call_budget';

/** An open call with its owner. */
export interface PooledCall<Owner> {
  readonly call: GrpcCall;
  readonly owner: Owner;
  older: PooledCall<Owner> | undefined;
  newer: PooledCall<Owner> | undefined;
}

/**
 * The calls that this process follows, the oldest first, with a limit on their number. All connections share it.
 *
 * A connection may follow at most as many calls as are still free. So one connection that opens as many as it can leaves half
 * of the pool to the others, and two leave a third: an attacker never takes all of it.
 */
export class CallPool<Owner = unknown> {
  readonly #limit: number;
  readonly #isMemoryLow: () => boolean;
  #taken = 0;
  #calls = 0;
  #oldest: PooledCall<Owner> | undefined;
  #newest: PooledCall<Owner> | undefined;

  /** `isMemoryLow` is called for each new call; while it returns true, no new call is followed. */
  constructor(limit: number, isMemoryLow: () => boolean = () => false) {
    this.#limit = limit;
    this.#isMemoryLow = isMemoryLow;
  }

  /** The number of followed calls. */
  get size(): number {
    return this.#calls;
  }

  /** The number of calls that can still be added. */
  get free(): number {
    return this.#isMemoryLow() ? 0 : this.#limit - this.#taken;
  }

  /** The share of one connection, at most `limit` calls. */
  share(owner: Owner, limit: number = ABUSE_LIMITS.callsPerConnection): CallShare<Owner> {
    return new CallShare(this, owner, limit);
  }

  /** The followed calls, the oldest first. The cost is proportional to the number of calls that are iterated. */
  *oldest(): Iterable<PooledCall<Owner>> {
    for (let each = this.#oldest; each; each = each.newer) yield each;
  }

  /** Called by the shares. */
  take(): void {
    this.#taken++;
  }

  /** Called by the shares. */
  giveBack(): void {
    this.#taken--;
  }

  /** Called by the shares when a call begins; it is the newest of all. */
  add(call: GrpcCall, owner: Owner): PooledCall<Owner> {
    const pooled = { call, owner, older: this.#newest, newer: undefined };
    if (this.#newest) this.#newest.newer = pooled;
    else this.#oldest = pooled;
    this.#newest = pooled;
    this.#calls++;
    return pooled;
  }

  /** Called by the shares. */
  remove(pooled: PooledCall<Owner>): void {
    const { older, newer } = pooled;
    if (older) older.newer = newer;
    else this.#oldest = newer;
    if (newer) newer.older = older;
    else this.#newest = older;
    this.#calls--;
  }
}

/** The share of one connection: calls, and backchannel streams, which cost about as much. */
export class CallShare<Owner = unknown> {
  readonly #pool: CallPool<Owner>;
  readonly #owner: Owner;
  readonly #limit: number;
  #taken = 0;

  constructor(pool: CallPool<Owner>, owner: Owner, limit: number) {
    this.#pool = pool;
    this.#owner = owner;
    this.#limit = limit;
  }

  /** Reserves a place, or returns why none is available. */
  take(): CallRefusal | undefined {
    if (this.#taken >= this.#limit) return 'too_many_streams';
    if (this.#taken >= this.#pool.free) return 'call_budget';
    this.#taken++;
    this.#pool.take();
    return undefined;
  }

  giveBack(): void {
    this.#taken--;
    this.#pool.giveBack();
  }

  /** The call that a place was reserved for begins. */
  add(call: GrpcCall): PooledCall<Owner> {
    return this.#pool.add(call, this.#owner);
  }

  /** It is no longer followed; its place is released. */
  remove(call: PooledCall<Owner>): void {
    this.#pool.remove(call);
    this.giveBack();
  }
}
