import { MAX_FIELD_VALUE_BYTES } from '../../limits.js';
import { STATIC_TABLE } from './static-table.js';

/** Distinguishes names of fields while a header block is read. */
export interface NameNumbers {
  /** Name numbers of the static table; entry 1 first. */
  readonly ofStaticTable: readonly number[];
  /** The values of names with higher numbers never become strings: they are reported as ''. */
  readonly lastValued: number;
  /** How much of a value becomes a string. */
  readonly maxValueBytes: number;
  /** The number of the name in these bytes, 0 if it is not used. */
  idOf(source: Uint8Array, start: number, end: number): number;
}

/**
 * The names of fields that are read, each with a number from 1: first those whose values are used, then those of which only the
 * presence is. A field whose name is not among them has name 0. Only values that are used become strings.
 */
export class FieldNames implements NameNumbers {
  /** How many there are: the highest number. */
  readonly count: number;
  readonly ofStaticTable: readonly number[];
  readonly lastValued: number;
  readonly maxValueBytes = MAX_FIELD_VALUE_BYTES;
  /** By length, so that nearly every other name is distinguished without looking at it. */
  readonly #byLength: (readonly { readonly bytes: Buffer; readonly id: number }[] | undefined)[] = [];

  constructor(valued: readonly string[], presentOnly: readonly string[] = []) {
    const names = [...valued, ...presentOnly];
    const ids = new Map(names.map((name, index) => [name, index + 1]));
    for (const [name, id] of ids) {
      const bytes = Buffer.from(name, 'latin1');
      this.#byLength[bytes.length] = [...(this.#byLength[bytes.length] ?? []), { bytes, id }];
    }
    this.count = names.length;
    this.lastValued = valued.length;
    this.ofStaticTable = STATIC_TABLE.map(([name]) => ids.get(name) ?? 0);
  }

  idOf(source: Uint8Array, start: number, end: number): number {
    for (const { bytes, id } of this.#byLength[end - start] ?? []) {
      let offset = 0;
      while (offset < bytes.length && bytes[offset] === source[start + offset]) offset++;
      if (offset === bytes.length) return id;
    }
    return 0;
  }
}
