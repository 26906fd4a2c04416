import { MAX_HEADER_FIELDS, MAX_HEADER_LIST_BYTES, MAX_HEADER_TABLE_BYTES } from '../../limits.js';
import { DynamicTable, ENTRY_OVERHEAD_BYTES, type TableEntry } from './dynamic-table.js';
import type { NameNumbers } from './field-names.js';
import { decodeHuffman } from './huffman.js';
import { STATIC_TABLE } from './static-table.js';

/** Takes the fields that somebody reads, in the order of the block. */
export interface FieldSink {
  /** `nameId` as in `NameNumbers`; `value` is Latin-1, as it came, and no longer than its `maxValueBytes`. */
  field(nameId: number, value: string): void;
}

/**
 * Why a header block cannot be followed; from then on neither can the next. `too_large` is a limit of ours (see
 * `WhenTooLarge`), all others are compression errors (RFC 7541).
 */
export type HpackFailure =
  'truncated' | 'integer' | 'index' | 'huffman' | 'table_size' | 'table_size_missing' | 'too_large';

/**
 * What becomes of a block with more fields than `MAX_HEADER_FIELDS`, or more bytes than `MAX_HEADER_LIST_BYTES`: `stop`, it
 * is read no further, and nothing behind it; `pass`, the rest of it goes through the table unseen, and the next is read.
 */
export type WhenTooLarge = 'stop' | 'pass';

/** RFC 9113 section 6.5.2: SETTINGS_HEADER_TABLE_SIZE is 4096 until another has been acknowledged. */
const DEFAULT_TABLE_BYTES = 4096;

/** Nothing that is allowed here needs more; four bytes after the prefix hold it. */
const MAX_INTEGER_SHIFT = 21;

const scratch = Buffer.allocUnsafeSlow(MAX_HEADER_LIST_BYTES);

/**
 * Follows the header blocks of one direction (RFC 7541). Each block must be given whole, in the order of the wire.
 * After a failure there is nothing to follow any more, and every further block fails likewise.
 */
export class HpackDecoder {
  readonly #names: NameNumbers;
  readonly #whenTooLarge: WhenTooLarge;
  readonly #static: readonly TableEntry[];
  readonly #table = new DynamicTable(DEFAULT_TABLE_BYTES);
  /** The largest table that the reader of these blocks allows, by the SETTINGS that their writer has acknowledged. */
  #allowedTableBytes = DEFAULT_TABLE_BYTES;
  /** The writer must say that it has made its table smaller (section 4.2), at the start of the next block. */
  #mustShrinkTo: number | undefined;
  #failure: HpackFailure | undefined;

  #block: Buffer = scratch;
  #offset = 0;
  #end = 0;
  #fields = 0;
  #listBytes = 0;
  // What the string that was read last comes to.
  #stringLength = 0;
  #stringNameId = 0;
  #stringValue = '';

  constructor(names: NameNumbers, whenTooLarge: WhenTooLarge = 'stop') {
    this.#names = names;
    this.#whenTooLarge = whenTooLarge;
    this.#static = staticEntries(names);
  }

  /** Bytes of the dynamic table by RFC 7541's count. */
  get tableBytes(): number {
    return this.#table.bytes;
  }

  /** The writer has acknowledged this SETTINGS_HEADER_TABLE_SIZE. */
  acknowledgeTableSize(bytes: number): void {
    // The reader may allow 4 GiB: a writer that makes use of it is followed no further.
    this.#allowedTableBytes = Math.min(bytes, MAX_HEADER_TABLE_BYTES);
    if (bytes < this.#table.maxBytes) this.#mustShrinkTo = Math.min(bytes, this.#mustShrinkTo ?? bytes);
  }

  /** Reads one whole block; `undefined` means that it was followed. */
  decode(block: Buffer, start: number, end: number, sink: FieldSink): HpackFailure | undefined {
    if (this.#failure) return this.#failure;
    this.#block = block;
    this.#offset = start;
    this.#end = end;
    this.#fields = 0;
    this.#listBytes = 0;
    this.#failure = this.#readBlock(sink);
    // The block belongs to whoever read it from the wire.
    this.#block = scratch;
    this.#stringValue = '';
    return this.#failure;
  }

  /** Whether the last block had too much, of a decoder that passes that. */
  get isTooLarge(): boolean {
    return this.#fields > MAX_HEADER_FIELDS || this.#listBytes > MAX_HEADER_LIST_BYTES;
  }

  #readBlock(sink: FieldSink): HpackFailure | undefined {
    const sizes = this.#readTableSizes();
    if (sizes) return sizes;
    const block = this.#block;
    const end = this.#end;
    while (this.#offset < end) {
      const first = block[this.#offset] ?? 0;
      let failure: HpackFailure | undefined;
      if (first >= 0x80) failure = this.#readIndexed(sink, first);
      // Section 4.2: a change of size "MUST occur at the beginning of the first header block following the change".
      else if ((first & 0xe0) === 0x20) failure = 'table_size';
      else failure = this.#readLiteral(sink, (first & 0x40) !== 0);
      if (failure) return failure;
    }
    return undefined;
  }

  /** Section 6.3. */
  #readTableSizes(): HpackFailure | undefined {
    while (this.#offset < this.#end && ((this.#block[this.#offset] ?? 0) & 0xe0) === 0x20) {
      const bytes = this.#readInteger(0x1f);
      if (bytes < 0) return integerFailure(bytes);
      // "The new maximum size MUST be lower than or equal to the limit determined by the protocol using HPACK."
      if (bytes > this.#allowedTableBytes) return 'table_size';
      if (this.#mustShrinkTo !== undefined && bytes <= this.#mustShrinkTo) this.#mustShrinkTo = undefined;
      this.#table.resize(bytes);
    }
    return this.#mustShrinkTo === undefined ? undefined : 'table_size_missing';
  }

  /** Section 6.1; nearly every field, and nearly every index is one byte. */
  #readIndexed(sink: FieldSink, first: number): HpackFailure | undefined {
    let index = first & 0x7f;
    if (index < 0x7f) this.#offset++;
    else {
      index = this.#readInteger(0x7f);
      if (index < 0) return integerFailure(index);
    }
    const entry = this.#entry(index);
    if (!entry) return 'index';
    return this.#take(sink, entry.nameId, entry.value, entry.size);
  }

  /** Section 6.2. */
  #readLiteral(sink: FieldSink, indexed: boolean): HpackFailure | undefined {
    const index = this.#readInteger(indexed ? 0x3f : 0x0f);
    if (index < 0) return integerFailure(index);
    let nameId: number;
    let nameLength: number;
    if (index > 0) {
      const named = this.#entry(index);
      if (!named) return 'index';
      ({ nameId, nameLength } = named);
    } else {
      const failure = this.#readString('name');
      if (failure) return failure;
      nameId = this.#stringNameId;
      nameLength = this.#stringLength;
    }
    const failure = this.#readString(nameId === 0 ? 'skip' : 'value');
    if (failure) return failure;
    const size = nameLength + this.#stringLength + ENTRY_OVERHEAD_BYTES;
    const value = this.#stringValue;
    if (indexed) this.#table.add({ nameId, nameLength, value, size });
    return this.#take(sink, nameId, value, size);
  }

  /** Section 5.2. What nobody reads is only measured. */
  #readString(what: 'name' | 'value' | 'skip'): HpackFailure | undefined {
    this.#stringNameId = 0;
    this.#stringValue = '';
    if (this.#offset >= this.#end) return 'truncated';
    const huffman = (this.#block[this.#offset] ?? 0) >= 0x80;
    const length = this.#readInteger(0x7f);
    if (length < 0) return integerFailure(length);
    const start = this.#offset;
    const end = start + length;
    if (end > this.#end) return 'truncated';
    this.#offset = end;
    let bytes = this.#block;
    let [from, to] = [start, end];
    if (huffman) {
      const limit = MAX_HEADER_LIST_BYTES;
      const decoded = decodeHuffman(bytes, start, end, limit, what === 'skip' ? undefined : scratch);
      // A byte has at least 5 bits: what is shorter than the limit by them cannot have passed it.
      if (decoded < 0) return (length * 8) / 5 > limit ? 'too_large' : 'huffman';
      [bytes, from, to] = [scratch, 0, decoded];
    }
    this.#stringLength = to - from;
    if (this.#stringLength > MAX_HEADER_LIST_BYTES) return 'too_large';
    if (what === 'name') this.#stringNameId = this.#names.idOf(bytes, from, to);
    else if (what === 'value')
      this.#stringValue = bytes.toString('latin1', from, Math.min(to, from + this.#names.maxValueBytes));
    return undefined;
  }

  #entry(index: number): TableEntry | undefined {
    return index <= STATIC_TABLE.length
      ? this.#static[index - 1]
      : this.#table.get(index - STATIC_TABLE.length - 1);
  }

  /** Section 5.1; `mask` is of the prefix. Negative: not a whole one, or one larger than anything allowed. */
  #readInteger(mask: number): number {
    let value = (this.#block[this.#offset++] ?? 0) & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      if (this.#offset >= this.#end) return TRUNCATED;
      const byte = this.#block[this.#offset++] ?? 0;
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
      if (shift === MAX_INTEGER_SHIFT) return OVERFLOW;
    }
  }

  /** Counts a field against the limits, which hold while the block is read: a bomb stops, or is not shown, before it is whole. */
  #take(sink: FieldSink, nameId: number, value: string, size: number): HpackFailure | undefined {
    this.#fields++;
    this.#listBytes += size;
    if (this.isTooLarge) return this.#whenTooLarge === 'stop' ? 'too_large' : undefined;
    if (nameId !== 0) sink.field(nameId, value);
    return undefined;
  }
}

/** What `#readInteger` returns instead of a value. */
const TRUNCATED = -1;
const OVERFLOW = -2;

function integerFailure(result: number): HpackFailure {
  return result === TRUNCATED ? 'truncated' : 'integer';
}

const staticEntriesOf = new WeakMap<NameNumbers, readonly TableEntry[]>();

/** The static table under the numbers of some names; made once for them. */
function staticEntries(names: NameNumbers): readonly TableEntry[] {
  const there = staticEntriesOf.get(names);
  if (there) return there;
  const made = STATIC_TABLE.map(([name, value], index) => {
    const nameId = names.ofStaticTable[index] ?? 0;
    const size = name.length + value.length + ENTRY_OVERHEAD_BYTES;
    return { nameId, nameLength: name.length, value: nameId === 0 ? '' : value, size };
  });
  staticEntriesOf.set(names, made);
  return made;
}
