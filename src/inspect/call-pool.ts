import { MAX_FOLLOWED_CALLS } from '../limits.js';
import type { GrpcCall } from './grpc/call.js';

/** Why a call cannot be followed: its connection has too many, or there is no memory for more in this process. */
export type CallRefusal = 'too_many_streams' | 'call_budget';

/** An open call, and whose it is. */
export interface PooledCall<Owner> {
  readonly call: GrpcCall;
  readonly owner: Owner;
  older: PooledCall<Owner> | undefined;
  newer: PooledCall<Owner> | undefined;
}

/**
 * The calls that this process follows, the oldest first, and the bound on how many there may be. All connections share it.
 *
 * A connection may follow as many calls as are still free at most. So one that opens as many as it can leaves half of the
 * pool to the others, and two leave a third: what an attacker takes is never all of it.
 */
export class CallPool<Owner = unknown> {
  readonly #limit: number;
  readonly #isMemoryLow: () => boolean;
  #taken = 0;
  #calls = 0;
  #oldest: PooledCall<Owner> | undefined;
  #newest: PooledCall<Owner> | undefined;

  /** `isMemoryLow`: asked for each call; while it says so, none is followed anew. */
  constructor(limit: number, isMemoryLow: () => boolean = () => false) {
    this.#limit = limit;
    this.#isMemoryLow = isMemoryLow;
  }

  /** How many calls are followed. */
  get size(): number {
    return this.#calls;
  }

  /** How many more may be. */
  get free(): number {
    return this.#isMemoryLow() ? 0 : this.#limit - this.#taken;
  }

  /** The part of one connection. */
  share(owner: Owner): CallShare<Owner> {
    return new CallShare(this, owner);
  }

  /** Calls that are followed, the oldest first; costs as much as is taken of it. */
  *oldest(): Iterable<PooledCall<Owner>> {
    for (let each = this.#oldest; each; each = each.newer) yield each;
  }

  /** For the shares. */
  take(): void {
    this.#taken++;
  }

  /** For the shares. */
  giveBack(): void {
    this.#taken--;
  }

  /** For the shares: a call begins, later than all others. */
  add(call: GrpcCall, owner: Owner): PooledCall<Owner> {
    const pooled = { call, owner, older: this.#newest, newer: undefined };
    if (this.#newest) this.#newest.newer = pooled;
    else this.#oldest = pooled;
    this.#newest = pooled;
    this.#calls++;
    return pooled;
  }

  /** For the shares. */
  remove(pooled: PooledCall<Owner>): void {
    const { older, newer } = pooled;
    if (older) older.newer = newer;
    else this.#oldest = newer;
    if (newer) newer.older = older;
    else this.#newest = older;
    this.#calls--;
  }
}

/** What one connection follows: calls, and the streams of a backchannel, which cost about as much. */
export class CallShare<Owner = unknown> {
  readonly #pool: CallPool<Owner>;
  readonly #owner: Owner;
  #taken = 0;

  constructor(pool: CallPool<Owner>, owner: Owner) {
    this.#pool = pool;
    this.#owner = owner;
  }

  /** Takes one; or says why there is none. */
  take(): CallRefusal | undefined {
    if (this.#taken >= MAX_FOLLOWED_CALLS) return 'too_many_streams';
    if (this.#taken >= this.#pool.free) return 'call_budget';
    this.#taken++;
    this.#pool.take();
    return undefined;
  }

  giveBack(): void {
    this.#taken--;
    this.#pool.giveBack();
  }

  /** A call for which one was taken begins. */
  add(call: GrpcCall): PooledCall<Owner> {
    return this.#pool.add(call, this.#owner);
  }

  /** It is followed no more; what was taken for it is given back. */
  remove(call: PooledCall<Owner>): void {
    this.#pool.remove(call);
    this.giveBack();
  }
}
