import { STREAM_TABLE_SLOTS_KEPT, STREAM_TABLE_SLOTS_MIN } from '../../limits.js';

/** Random and secret, so that a client cannot choose ids that collide in one slot. */
const MULTIPLIER = Math.floor(Math.random() * 2 ** 31) * 2 + 1;

/**
 * The open streams of a connection, by stream id: a hash table with linear probing. A `Map` does the same, but it grows,
 * shrinks and rehashes as calls start and end, which costs as much per call as reading its headers.
 */
export class StreamTable<Value> {
  /** Ids by slot, 0 where it is free: stream 0 is the connection. */
  #ids: number[] = [];
  #values: (Value | undefined)[] = [];
  /** The highest bits of a product are its best. */
  #shift = 32;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: number): Value | undefined {
    return this.#size === 0 ? undefined : this.#values[this.#slotOf(id)];
  }

  /** `id` is not in the table yet. */
  add(id: number, value: Value): void {
    if (2 * (this.#size + 1) > this.#ids.length)
      this.#resize(Math.max(2 * this.#ids.length, STREAM_TABLE_SLOTS_MIN));
    this.#put(id, value);
    this.#size++;
  }

  delete(id: number): void {
    if (this.#size === 0) return;
    const ids = this.#ids;
    const mask = ids.length - 1;
    let hole = this.#slotOf(id);
    if (ids[hole] !== id) return;
    // Entries behind the hole that could be in it move up, so that no search ends too early.
    for (let slot = (hole + 1) & mask; ids[slot] !== 0; slot = (slot + 1) & mask) {
      const moved = ids[slot] ?? 0;
      if (((slot - this.#home(moved)) & mask) < ((slot - hole) & mask)) continue;
      ids[hole] = moved;
      this.#values[hole] = this.#values[slot];
      hole = slot;
    }
    ids[hole] = 0;
    this.#values[hole] = undefined;
    this.#size--;
    if (this.#size === 0 && ids.length > STREAM_TABLE_SLOTS_KEPT) this.#resize(STREAM_TABLE_SLOTS_MIN);
  }

  /** The first `limit` entries, the lowest id first: the oldest stream. */
  entries(limit = Number.POSITIVE_INFINITY): [id: number, value: Value][] {
    if (this.#size === 0) return [];
    const ids = Float64Array.from(this.#ids.filter((id) => id !== 0)).sort();
    const found: [number, Value][] = [];
    for (const id of ids.subarray(0, limit)) {
      const value = this.get(id);
      if (value !== undefined) found.push([id, value]);
    }
    return found;
  }

  clear(): void {
    this.#size = 0;
    this.#resize(0);
  }

  /** The slot at which a search for an id begins. */
  #home(id: number): number {
    return Math.imul(id, MULTIPLIER) >>> this.#shift;
  }

  /** The slot of an id, or the free slot at which its search ends. At most half of the slots are taken, so there is one. */
  #slotOf(id: number): number {
    const ids = this.#ids;
    const mask = ids.length - 1;
    let slot = this.#home(id);
    while (ids[slot] !== id && ids[slot] !== 0) slot = (slot + 1) & mask;
    return slot;
  }

  #put(id: number, value: Value): void {
    const slot = this.#slotOf(id);
    this.#ids[slot] = id;
    this.#values[slot] = value;
  }

  /** `slots`: a power of two, or none. */
  #resize(slots: number): void {
    const [ids, values] = [this.#ids, this.#values];
    this.#ids = new Array<number>(slots).fill(0);
    this.#values = new Array<Value | undefined>(slots).fill(undefined);
    this.#shift = 32 - Math.log2(Math.max(slots, 1));
    if (this.#size === 0) return;
    for (const [slot, id] of ids.entries()) {
      const value = values[slot];
      if (id !== 0 && value !== undefined) this.#put(id, value);
    }
  }
}
