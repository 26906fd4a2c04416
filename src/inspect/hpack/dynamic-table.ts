/** One field of a table: its value only if fields of this name are used. */
export interface TableEntry {
  /** Number of the name (`FieldNames`), 0 if it is not used. */
  readonly nameId: number;
  readonly nameLength: number;
  /** Latin-1; empty if it is not used. */
  readonly value: string;
  /** RFC 7541 section 4.1: name, value and 32, bytes. */
  readonly size: number;
}

/** RFC 7541 section 4.1, "the additional 32 octets account for an estimated overhead associated with an entry". */
export const ENTRY_OVERHEAD_BYTES = 32;

/** RFC 7541 section 2.3.2: first in, first out; the newest has index 0 here. It holds no more memory than it needs. */
export class DynamicTable {
  #entries: (TableEntry | undefined)[] = [];
  /** Index of the newest entry; older ones follow it, around the end of the array. */
  #newest = 0;
  #length = 0;
  #bytes = 0;
  #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get length(): number {
    return this.#length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get maxBytes(): number {
    return this.#maxBytes;
  }

  /** Section 4.3: "entries are evicted from the end of the dynamic table until the size ... is less than or equal". */
  resize(maxBytes: number): void {
    this.#maxBytes = maxBytes;
    this.#evictTo(maxBytes);
    if (this.#length === 0) this.#entries = [];
  }

  get(index: number): TableEntry | undefined {
    if (index >= this.#length) return undefined;
    return this.#entries[(this.#newest + index) & (this.#entries.length - 1)];
  }

  /** Section 4.4: an entry larger than the table empties it, which "is not an error". */
  add(entry: TableEntry): void {
    this.#evictTo(this.#maxBytes - entry.size);
    if (entry.size > this.#maxBytes) return;
    if (this.#length === this.#entries.length) this.#grow();
    this.#newest = (this.#newest - 1) & (this.#entries.length - 1);
    this.#entries[this.#newest] = entry;
    this.#length++;
    this.#bytes += entry.size;
  }

  #evictTo(maxBytes: number): void {
    while (this.#length > 0 && this.#bytes > maxBytes) {
      const oldest = (this.#newest + this.#length - 1) & (this.#entries.length - 1);
      this.#bytes -= this.#entries[oldest]?.size ?? 0;
      this.#entries[oldest] = undefined;
      this.#length--;
    }
  }

  /** To twice as many places, a power of two. */
  #grow(): void {
    const kept = Array.from({ length: this.#length }, (_, index) => this.get(index));
    this.#entries = [...kept, ...new Array<undefined>(Math.max(kept.length, 8))];
    this.#newest = 0;
  }
}
