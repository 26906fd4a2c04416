/**
 * How many bits the code of each byte has, and last that of EOS (RFC 7541 appendix B). The code is canonical: codes
 * of one length follow each other in the order of their bytes, so the lengths are all there is to know.
 */
const CODE_LENGTHS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const EOS = 256;
/** A code has at least 5 bits, so 4 bits end at most one. */
const STEP_BITS = 4;
const STEPS = 1 << STEP_BITS;

/** In a transition: bits 0–7 the next state, 8–15 the byte that ended, and these. */
const EMITS = 1 << 16;
const FAILS = 1 << 17;

/** A state is an inner node of the code's tree; `TRANSITIONS[state * STEPS + bits]` is where four bits lead. */
const TRANSITIONS = new Uint32Array(256 * STEPS);
/** Whether a string may end in a state: the bits since the last byte are at most 7 and all ones. */
const ACCEPTS = new Uint8Array(256);

buildAutomaton();

/**
 * Decodes Huffman-coded bytes (RFC 7541 section 5.2) into `target`, as far as they fit, or only counts them without one.
 * @returns how many bytes they decode to; -1 if they are malformed
 */
export function decodeHuffman(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array | undefined,
): number {
  const room = target === undefined ? 0 : target.length;
  let state = 0;
  let length = 0;
  for (let offset = start; offset < end; offset++) {
    const byte = source[offset] ?? 0;
    const high = TRANSITIONS[state * STEPS + (byte >> STEP_BITS)] ?? FAILS;
    if (high >= EMITS) {
      if (high >= FAILS) return -1;
      if (target !== undefined && length < room) target[length] = (high >> 8) & 0xff;
      length++;
    }
    const low = TRANSITIONS[(high & 0xff) * STEPS + (byte & (STEPS - 1))] ?? FAILS;
    if (low >= EMITS) {
      if (low >= FAILS) return -1;
      if (target !== undefined && length < room) target[length] = (low >> 8) & 0xff;
      length++;
    }
    state = low & 0xff;
  }
  return ACCEPTS[state] === 1 ? length : -1;
}

/** Counts the decoded length of Huffman-coded bytes that arrive in several parts. */
export class HuffmanCounter {
  length = 0;
  #state = 0;

  /** Reads the next bytes; `false` if they are malformed. */
  count(source: Uint8Array, start: number, end: number): boolean {
    for (let offset = start; offset < end; offset++) {
      const byte = source[offset] ?? 0;
      for (const bits of [byte >> STEP_BITS, byte & (STEPS - 1)]) {
        const next = TRANSITIONS[this.#state * STEPS + bits] ?? FAILS;
        if (next >= FAILS) return false;
        if (next >= EMITS) this.length++;
        this.#state = next & 0xff;
      }
    }
    return true;
  }

  /** Whether the string may end here. */
  get isWhole(): boolean {
    return ACCEPTS[this.#state] === 1;
  }
}

type Node = [zero: Node | number | undefined, one: Node | number | undefined];

function buildAutomaton(): void {
  const root: Node = [undefined, undefined];
  const inner: Node[] = [root];
  for (const { symbol, code, bits } of canonicalCodes()) {
    let node = root;
    for (let bit = bits - 1; bit > 0; bit--) {
      const branch = (code >>> bit) & 1;
      const next = node[branch];
      if (typeof next === 'object') node = next;
      else {
        const made: Node = [undefined, undefined];
        inner.push(made);
        node[branch] = made;
        node = made;
      }
    }
    node[code & 1] = symbol;
  }
  inner.forEach((from, state) => {
    for (let bits = 0; bits < STEPS; bits++)
      TRANSITIONS[state * STEPS + bits] = step(root, inner, from, bits);
  });
  let padding: Node | number | undefined = root;
  for (let bits = 0; bits <= 7 && typeof padding === 'object'; bits++) {
    ACCEPTS[inner.indexOf(padding)] = 1;
    padding = padding[1];
  }
}

function canonicalCodes(): { symbol: number; code: number; bits: number }[] {
  const order = CODE_LENGTHS.map((bits, symbol) => ({ symbol, bits })).sort(
    (one, other) => one.bits - other.bits || one.symbol - other.symbol,
  );
  let code = 0;
  let length = 0;
  return order.map(({ symbol, bits }, index) => {
    // 30 bits at most: within what a shift keeps.
    code = index === 0 ? 0 : (code + 1) << (bits - length);
    length = bits;
    return { symbol, code, bits };
  });
}

function step(root: Node, inner: readonly Node[], from: Node, bits: number): number {
  let node = from;
  let emitted = 0;
  for (let bit = STEP_BITS - 1; bit >= 0; bit--) {
    const next = node[(bits >> bit) & 1];
    // "A Huffman-encoded string literal containing the EOS symbol MUST be treated as a decoding error."
    if (next === undefined || next === EOS) return FAILS;
    if (typeof next === 'number') {
      emitted = EMITS | (next << 8);
      node = root;
    } else {
      node = next;
    }
  }
  return emitted | inner.indexOf(node);
}
