import type { TLSSocket } from 'node:tls';

import { AEAD_TAG_BYTES, RECORD_HEADER_BYTES } from './wire-format.js';

/** Section 6: level and description. */
const ALERT_BYTES = 2;

/** The length of the record with a peer's close_notify. No known TLS implementation pads it. */
export function closeNotifyBytes(socket: TLSSocket): number {
  return RECORD_HEADER_BYTES + ALERT_BYTES + AEAD_TAG_BYTES + extraBytes(socket);
}

function extraBytes(socket: TLSSocket): number {
  // RFC 8446 section 5.2: the type moves into the record, one byte.
  if (socket.getProtocol() === 'TLSv1.3') return 1;
  // RFC 5288 section 3: AES-GCM sends 8 bytes of its nonce; ChaCha20 (RFC 7905) none.
  return socket.getCipher().name.includes('GCM') ? 8 : 0;
}
