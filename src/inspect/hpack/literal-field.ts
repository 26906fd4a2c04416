/** RFC 7541 section 5.1: an integer with a 7-bit prefix, which encodes the length of a string without Huffman coding. */
function stringLength(length: number): number[] {
  if (length < 127) return [length];
  const bytes = [127];
  let rest = length - 127;
  while (rest >= 128) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  return [...bytes, rest];
}

/**
 * RFC 7541 section 6.2.3: a literal that is never indexed, with name and value in plain text (Latin-1). It does not change the
 * dynamic table.
 */
export function neverIndexed(name: string, value: string): Buffer {
  const [nameBytes, valueBytes] = [Buffer.from(name, 'latin1'), Buffer.from(value, 'latin1')];
  return Buffer.concat([
    Buffer.from([0x10, ...stringLength(nameBytes.length)]),
    nameBytes,
    Buffer.from(stringLength(valueBytes.length)),
    valueBytes,
  ]);
}
