import { decodeHuffman } from '../../src/inspect/hpack/huffman.js';
import { STATIC_TABLE } from '../../src/inspect/hpack/static-table.js';

/** How a field is encoded (RFC 7541 section 6). `indexed` writes the index of the whole field if a table has it. */
export type FieldForm = 'indexed' | 'into_table' | 'literal' | 'never_indexed';

export type Field = readonly [name: string, value: string];

/** Writes header blocks, with a dynamic table. Names and values are Latin-1. */
export class HpackWriter {
  readonly #table: Field[] = [];
  #tableBytes = 0;
  #maxBytes = 4096;

  field(field: Field, form: FieldForm, isHuffman = false): Buffer {
    const [name, value] = field;
    const whole = this.#indexOf(staticFields, field, (other) => other[0] === name && other[1] === value);
    if (form === 'indexed' && whole > 0) return integer(0x80, 7, whole);
    const named = this.#indexOf(staticNames, [name, ''], (other) => other[0] === name);
    const isAdded = form === 'indexed' || form === 'into_table';
    const [pattern, bits] = isAdded ? [0x40, 6] : [form === 'literal' ? 0x00 : 0x10, 4];
    const head = [integer(pattern, bits, named), ...(named === 0 ? [text(name, isHuffman)] : [])];
    if (isAdded) this.#add(field);
    return Buffer.concat([...head, text(value, isHuffman)]);
  }

  /** The index of a field in the tables; 0 if it is in neither. */
  #indexOf(ofStatic: ReadonlyMap<string, number>, field: Field, isWanted: (other: Field) => boolean): number {
    const index = ofStatic.get(keyOf(field));
    if (index !== undefined) return index;
    const at = this.#table.findIndex(isWanted);
    return at < 0 ? 0 : STATIC_TABLE.length + 1 + at;
  }

  /** Section 6.3. */
  resize(maxBytes: number): Buffer {
    this.#maxBytes = maxBytes;
    this.#evictTo(maxBytes);
    return integer(0x20, 5, maxBytes);
  }

  #add(field: Field): void {
    this.#evictTo(this.#maxBytes - sizeOf(field));
    if (sizeOf(field) > this.#maxBytes) return;
    this.#table.unshift(field);
    this.#tableBytes += sizeOf(field);
  }

  #evictTo(bytes: number): void {
    while (this.#table.length > 0 && this.#tableBytes > bytes)
      this.#tableBytes -= sizeOf(this.#table.pop() ?? ['', '']);
  }
}

function keyOf([name, value]: Field): string {
  return `${name}\n${value}`;
}

/** The first index of each field, and of each name, in the static table. */
const [staticFields, staticNames] = [new Map<string, number>(), new Map<string, number>()];
STATIC_TABLE.forEach(([name, value], index) => {
  if (!staticFields.has(keyOf([name, value]))) staticFields.set(keyOf([name, value]), index + 1);
  if (!staticNames.has(keyOf([name, '']))) staticNames.set(keyOf([name, '']), index + 1);
});

function sizeOf([name, value]: Field): number {
  return name.length + value.length + 32;
}

/** Section 5.1. */
function integer(pattern: number, bits: number, value: number): Buffer {
  const mask = 2 ** bits - 1;
  if (value < mask) return Buffer.of(pattern | value);
  const bytes = [pattern | mask];
  let rest = value - mask;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

/** Section 5.2. */
function text(value: string, isHuffman: boolean): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  if (!isHuffman) return Buffer.concat([integer(0, 7, bytes.length), bytes]);
  const coded: number[] = [];
  let [rest, length] = [0, 0];
  for (const byte of bytes) {
    for (const bit of codes().get(byte) ?? '') {
      rest = rest * 2 + (bit === '1' ? 1 : 0);
      if (++length % 8 > 0) continue;
      coded.push(rest);
      rest = 0;
    }
  }
  const missing = (8 - (length % 8)) % 8;
  if (missing > 0) coded.push((rest + 1) * 2 ** missing - 1);
  return Buffer.concat([integer(0x80, 7, coded.length), Buffer.from(coded)]);
}

let known: Map<number, string> | undefined;

/** The code of `0`. */
const ZERO = '00000';

/** The Huffman codes of the bytes that have short ones, among them all of a path; found by decoding them with a `0` behind. */
function codes(): Map<number, string> {
  if (known) return known;
  known = new Map();
  const decoded = Buffer.alloc(8);
  for (let length = 5; length <= 15; length++) {
    for (let code = 0; code < 2 ** length; code++) {
      const bits = code.toString(2).padStart(length, '0');
      const source = octetsOf(bits + ZERO);
      const isWhole = decodeHuffman(source, 0, source.length, decoded) === 2 && decoded[1] === 0x30;
      if (isWhole) known.set(decoded[0] ?? 0, bits);
    }
  }
  return known;
}

/** Bits, padded with ones. */
function octetsOf(bits: string): Buffer {
  const padded = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1');
  return Buffer.from((padded.match(/.{8}/gu) ?? []).map((octet) => Number.parseInt(octet, 2)));
}
