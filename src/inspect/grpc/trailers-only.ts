import { MAX_ENCODED_MESSAGE_BYTES } from '../../limits.js';
import { percentEncoded } from '../../percent-encoding.js';
import { neverIndexed } from '../hpack/literal-field.js';

/**
 * The header block of a response that consists of a status only ("Trailers-Only"): `:status 200` (static table entry 8) and the
 * fields that gRPC requires. It does not change the dynamic table.
 */
export function trailersOnly(code: number, message: string): Buffer {
  return Buffer.concat([
    Buffer.from([0x88]),
    neverIndexed('content-type', 'application/grpc'),
    neverIndexed('grpc-status', String(code)),
    neverIndexed('grpc-message', encodedMessage(message)),
  ]);
}

/**
 * Percent-encodes a message. It is truncated at a character if it is too long; RFC 9113 section 8.2.1 forbids spaces at the
 * ends.
 */
function encodedMessage(message: string): string {
  let encoded = '';
  for (const character of message) {
    const next = percentEncoded(character);
    if (encoded.length + next.length > MAX_ENCODED_MESSAGE_BYTES) break;
    encoded += next;
  }
  return encoded.trim();
}
