/** RFC 7541 section 5.1: an integer with a prefix of 7 bits, whose eighth bit is 0: the length of a string without Huffman coding. */
function stringLength(length: number): number[] {
  if (length < 127) return [length];
  const bytes = [127];
  let rest = length - 127;
  for (; rest >= 128; rest >>>= 7) bytes.push((rest & 127) | 128);
  return [...bytes, rest];
}

/**
 * RFC 7541 section 6.2.3: a literal that is never indexed, with name and value in plain text. It does not change the dynamic table,
 * and no hop compresses its value.
 */
export function neverIndexed(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0x10, ...stringLength(name.length)]),
    Buffer.from(name, 'latin1'),
    Buffer.from(stringLength(value.length)),
    Buffer.from(value, 'latin1'),
  ]);
}
