import { constants } from 'node:crypto';
import type { SecureContextOptions } from 'node:tls';

import type { TlsVersion } from '../config/model.js';

/** The only application protocol that Gitaly and its gRPC clients speak. */
export const ALPN_H2 = 'h2';

/** RFC 8446 section 6.2: the fatal alerts that a ClientHello is answered with before OpenSSL sees it, as TLS records. */
export const HELLO_ALERTS = {
  unrecognized_name: fatalAlert(112),
  no_application_protocol: fatalAlert(120),
} as const;

function fatalAlert(description: number): Buffer {
  return Buffer.from([0x15, 0x03, 0x03, 0x00, 0x02, 0x02, description]);
}

/**
 * Mozilla's intermediate profile less its two finite-field suites (no Gitaly client needs DHE): forward secrecy and
 * AEAD only. AES-128 stands first: it costs about a fifth less than AES-256, for bulk and for a handshake.
 */
export const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':');

/** What every TLS context of the program has in common. */
export function contextParameters(minVersion: TlsVersion): SecureContextOptions {
  return {
    minVersion,
    maxVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    honorCipherOrder: true,
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION,
  };
}
