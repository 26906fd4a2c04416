import { MAX_HEADER_LIST_BYTES, MAX_HEADER_TABLE_BYTES, MAX_HPACK_INTEGER_BYTES } from '../../limits.js';
import { DynamicTable, ENTRY_OVERHEAD_BYTES, type TableEntry } from './dynamic-table.js';
import type { NameNumbers } from './field-names.js';
import { decodeHuffman, HuffmanCounter } from './huffman.js';
import { STATIC_TABLE } from './static-table.js';

/** Takes the fields whose values are used, in the order of the block. */
export interface FieldSink {
  /** `nameId` as in `NameNumbers`; `value` is Latin-1, as it came, and no longer than its `maxValueBytes`. */
  field(nameId: number, value: string): void;
}

/** The compression error (RFC 7541) after which no header block can be followed. */
export type HpackFailure = 'truncated' | 'integer' | 'index' | 'huffman' | 'table_size';

/** RFC 9113 section 6.5.2: SETTINGS_HEADER_TABLE_SIZE is 4096 until another has been acknowledged. */
const DEFAULT_TABLE_BYTES = 4096;

/** How much of a field in several parts is kept. The rest of a longer value is only counted. */
const MAX_KEPT_BYTES = MAX_HEADER_LIST_BYTES;

const scratch = Buffer.allocUnsafeSlow(MAX_HEADER_LIST_BYTES);
const NOTHING = Buffer.alloc(0);

/** A literal whose value is too long to be buffered. */
interface LongValue {
  readonly indexed: boolean;
  readonly nameId: number;
  readonly nameLength: number;
  /** The part of the value that callers read. */
  readonly value: string;
  /** Encoded bytes that have not arrived yet. */
  left: number;
  /** Decoded bytes so far, if the value is not Huffman-coded. */
  length: number;
  readonly huffman: HuffmanCounter | undefined;
}

/**
 * Follows the header blocks of one direction (RFC 7541), in the order of the wire. A block of any size is followed; its fields
 * are not kept, except as the dynamic table needs them. After a failure every later block fails likewise.
 *
 * It accepts everything that Go's hpack accepts, and more: bytes that the server accepts must not prevent inspection.
 */
export class HpackDecoder {
  readonly #names: NameNumbers;
  readonly #lastValued: number;
  readonly #static: readonly TableEntry[];
  readonly #table = new DynamicTable(DEFAULT_TABLE_BYTES);
  /** The largest table that the reader of these blocks allows, by the SETTINGS that their writer has acknowledged. */
  #allowedTableBytes = DEFAULT_TABLE_BYTES;
  #failure: HpackFailure | undefined;

  #block: Buffer = scratch;
  #offset = 0;
  #end = 0;
  #fieldStart = 0;
  #fields = 0;
  #listBytes = 0;
  // The string that was read last.
  #stringLength = 0;
  #stringNameId = 0;
  #stringValue = '';

  // State of a block that arrives in several parts.
  #kept: Buffer = NOTHING;
  /** The start of the value that the current part ends in; -1 if it ends elsewhere. */
  #cutValueAt = -1;
  #cutValue: LongValue | undefined;
  #long: LongValue | undefined;

  constructor(names: NameNumbers) {
    this.#names = names;
    this.#lastValued = names.lastValued;
    this.#static = staticEntries(names);
  }

  /** Bytes of the dynamic table by RFC 7541's count. */
  get tableBytes(): number {
    return this.#table.bytes;
  }

  /** The number of fields of the last block so far. */
  get fields(): number {
    return this.#fields;
  }

  /** Size of the last block's header list so far, as RFC 7541 section 4.1 defines it. */
  get listBytes(): number {
    return this.#listBytes;
  }

  /** The writer has acknowledged this SETTINGS_HEADER_TABLE_SIZE. */
  acknowledgeTableSize(bytes: number): void {
    // The reader may allow 4 GiB: a writer that makes use of it is followed no further.
    this.#allowedTableBytes = Math.min(bytes, MAX_HEADER_TABLE_BYTES);
  }

  /** Reads one whole block; `undefined` means that it was followed. */
  decode(block: Buffer, start: number, end: number, sink: FieldSink): HpackFailure | undefined {
    this.begin();
    this.#failure ??= this.#read(block, start, end, sink);
    return this.#failure;
  }

  /** Begins a block that arrives in several parts. */
  begin(): void {
    this.#fields = 0;
    this.#listBytes = 0;
    this.#kept = NOTHING;
    this.#long = undefined;
  }

  /** Reads the next part of a block. */
  part(bytes: Buffer, start: number, end: number, sink: FieldSink): HpackFailure | undefined {
    if (this.#failure) return this.#failure;
    const from = this.#long ? this.#readLong(this.#long, bytes, start, end, sink) : start;
    if (from < 0) return (this.#failure = 'huffman');
    if (from === end) return undefined;
    const joined = this.#kept.length > 0;
    const block = joined ? Buffer.concat([this.#kept, bytes.subarray(from, end)]) : bytes;
    this.#kept = NOTHING;
    this.#cutValueAt = -1;
    const failure = joined ? this.#read(block, 0, block.length, sink) : this.#read(block, from, end, sink);
    if (failure !== 'truncated') return (this.#failure = failure);
    return this.#keep(block, joined ? block.length : end);
  }

  /** Ends the block. */
  finish(): HpackFailure | undefined {
    if (this.#kept.length > 0 || this.#long) this.#failure ??= 'truncated';
    this.#kept = NOTHING;
    return this.#failure;
  }

  #read(block: Buffer, start: number, end: number, sink: FieldSink): HpackFailure | undefined {
    this.#block = block;
    this.#offset = start;
    this.#end = end;
    const failure = this.#readFields(block, end, sink);
    // The block belongs to the reader of the wire.
    this.#block = scratch;
    this.#stringValue = '';
    return failure;
  }

  #readFields(block: Buffer, end: number, sink: FieldSink): HpackFailure | undefined {
    while (this.#offset < end) {
      this.#fieldStart = this.#offset;
      const first = block[this.#offset] ?? 0;
      let failure: HpackFailure | undefined;
      if (first >= 0x80) failure = this.#readIndexed(sink, first);
      else if ((first & 0xe0) === 0x20) failure = this.#readTableSize();
      else failure = this.#readLiteral(sink, (first & 0x40) !== 0);
      if (failure) return failure;
    }
    return undefined;
  }

  /** Keeps the beginning of a field until the rest arrives, or skips the field if its value is long. */
  #keep(block: Buffer, end: number): HpackFailure | undefined {
    const cut = this.#cutValue;
    this.#cutValue = undefined;
    if (end - this.#fieldStart < MAX_KEPT_BYTES) {
      this.#kept = Buffer.from(block.subarray(this.#fieldStart, end));
      return undefined;
    }
    // No gRPC library sends a name of 64 KiB.
    if (!cut) return (this.#failure = 'truncated');
    const from = this.#cutValueAt;
    const { huffman, nameId, left } = cut;
    if (huffman && !huffman.count(block, from, end)) return (this.#failure = 'huffman');
    // The last code may be incomplete; the codes before it are decoded.
    if (huffman) decodeHuffman(block, from, end, scratch);
    const [source, start] = huffman ? [scratch, 0] : [block, from];
    const length = Math.min(huffman?.length ?? end - from, MAX_KEPT_BYTES, this.#names.maxValueBytes);
    const value = this.#hasValue(nameId) ? source.toString('latin1', start, start + length) : '';
    this.#long = { ...cut, value, left: left - (end - from), length: end - from };
    return undefined;
  }

  /** The end of a long value in this part: the end of the part if the value continues, -1 if it is malformed. */
  #readLong(long: LongValue, bytes: Buffer, start: number, end: number, sink: FieldSink): number {
    const to = Math.min(end, start + long.left);
    if (long.huffman && !long.huffman.count(bytes, start, to)) return -1;
    long.left -= to - start;
    long.length += to - start;
    if (long.left > 0) return to;
    this.#long = undefined;
    if (long.huffman && !long.huffman.isWhole) return -1;
    const { indexed, nameId, nameLength, value, huffman } = long;
    const size = nameLength + (huffman?.length ?? long.length) + ENTRY_OVERHEAD_BYTES;
    if (indexed) this.#table.add({ nameId, nameLength, value, size });
    this.#take(sink, nameId, value, size);
    return to;
  }

  /**
   * Section 6.3. Section 4.2 allows it only at the beginning of a block, and requires one if the table must become smaller; Go
   * checks neither.
   */
  #readTableSize(): HpackFailure | undefined {
    const bytes = this.#readInteger(0x1f);
    if (bytes < 0) return integerFailure(bytes);
    // "The new maximum size MUST be lower than or equal to the limit determined by the protocol using HPACK."
    if (bytes > this.#allowedTableBytes) return 'table_size';
    this.#table.resize(bytes);
    return undefined;
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
    this.#take(sink, entry.nameId, entry.value, entry.size);
    return undefined;
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
    const failure = this.#readString(this.#hasValue(nameId) ? 'value' : 'skip');
    if (failure) {
      if (this.#cutValue) this.#cutValue = { ...this.#cutValue, indexed, nameId, nameLength };
      return failure;
    }
    const size = nameLength + this.#stringLength + ENTRY_OVERHEAD_BYTES;
    const value = this.#stringValue;
    if (indexed) this.#table.add({ nameId, nameLength, value, size });
    this.#take(sink, nameId, value, size);
    return undefined;
  }

  /** Section 5.2. A string that is not used is only measured. */
  #readString(what: 'name' | 'value' | 'skip'): HpackFailure | undefined {
    this.#stringNameId = 0;
    this.#stringValue = '';
    this.#cutValue = undefined;
    if (this.#offset >= this.#end) return 'truncated';
    const huffman = (this.#block[this.#offset] ?? 0) >= 0x80;
    const length = this.#readInteger(0x7f);
    if (length < 0) return integerFailure(length);
    const start = this.#offset;
    const end = start + length;
    if (end > this.#end) {
      if (what !== 'name') this.#cutInValue(start, length, huffman);
      return 'truncated';
    }
    this.#offset = end;
    let bytes = this.#block;
    let [from, to] = [start, end];
    this.#stringLength = length;
    if (huffman) {
      const decoded = decodeHuffman(bytes, start, end, what === 'skip' ? undefined : scratch);
      if (decoded < 0) return 'huffman';
      this.#stringLength = decoded;
      [bytes, from, to] = [scratch, 0, Math.min(decoded, scratch.length)];
    }
    if (what === 'name') this.#stringNameId = this.#names.idOf(bytes, from, to);
    else if (what === 'value')
      this.#stringValue = bytes.toString('latin1', from, Math.min(to, from + this.#names.maxValueBytes));
    return undefined;
  }

  #cutInValue(start: number, left: number, huffman: boolean): void {
    this.#cutValueAt = start;
    this.#cutValue = {
      indexed: false,
      nameId: 0,
      nameLength: 0,
      value: '',
      left,
      length: 0,
      huffman: huffman ? new HuffmanCounter() : undefined,
    };
  }

  #entry(index: number): TableEntry | undefined {
    return index <= STATIC_TABLE.length
      ? this.#static[index - 1]
      : this.#table.get(index - STATIC_TABLE.length - 1);
  }

  /** Section 5.1; `mask` is that of the prefix. Negative if the integer is incomplete or too long. */
  #readInteger(mask: number): number {
    const first = (this.#block[this.#offset++] ?? 0) & mask;
    if (first < mask) return first;
    let value = first;
    let scale = 1;
    for (let bytes = 1; bytes <= MAX_HPACK_INTEGER_BYTES; bytes++) {
      if (this.#offset >= this.#end) return TRUNCATED;
      const byte = this.#block[this.#offset++] ?? 0;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      // Not shifted: a length may use more than 31 bits.
      scale *= 128;
    }
    return OVERFLOW;
  }

  #hasValue(nameId: number): boolean {
    return nameId > 0 && nameId <= this.#lastValued;
  }

  #take(sink: FieldSink, nameId: number, value: string, size: number): void {
    this.#fields++;
    this.#listBytes += size;
    if (nameId !== 0) sink.field(nameId, value);
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
    const isUsed = nameId > 0 && nameId <= names.lastValued;
    return { nameId, nameLength: name.length, value: isUsed ? value : '', size };
  });
  staticEntriesOf.set(names, made);
  return made;
}
