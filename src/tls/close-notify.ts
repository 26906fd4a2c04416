import type { TLSSocket } from 'node:tls';

import { RECORD_HEADER_BYTES } from './wire-format.js';

/** Section 6: level and description. */
const ALERT_BYTES = 2;

/** Of the AEAD ciphers that are offered (`parameters.ts`), each. */
const TAG_BYTES = 16;

/** How long the record of a close_notify is which the peer of a connection sends. None that is known pads it. */
export function closeNotifyBytes(socket: TLSSocket): number {
  return RECORD_HEADER_BYTES + ALERT_BYTES + TAG_BYTES + extraBytes(socket);
}

function extraBytes(socket: TLSSocket): number {
  // RFC 8446 section 5.2: the type moves into the record, one byte.
  if (socket.getProtocol() === 'TLSv1.3') return 1;
  // RFC 5288 section 3: AES-GCM sends 8 bytes of its nonce; ChaCha20 (RFC 7905) none.
  return socket.getCipher().name.includes('GCM') ? 8 : 0;
}
