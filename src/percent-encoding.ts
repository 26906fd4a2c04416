/**
 * Encodes the UTF-8 of all characters but printable ASCII, and `%`, as `%XX`. Decoding the result returns the text. gRPC over
 * HTTP/2 calls this "Percent-Encoded".
 */
export function percentEncoded(text: string): string {
  return text.replace(/[^ -$&-~]/gu, (character) =>
    [...Buffer.from(character)]
      .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
      .join(''),
  );
}

/** Decodes a percent-encoded text; returns an invalid one unchanged. */
export function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
