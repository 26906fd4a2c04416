import { constants } from 'node:crypto';
import { createSecureContext, type SecureContextOptions } from 'node:tls';

import type { TlsVersion } from '../config/model.js';

/** The only application protocol of Gitaly and its gRPC clients. */
export const ALPN_H2 = 'h2';

/** RFC 8446 section 6.2: the fatal alerts, as TLS records, for a ClientHello that is refused before OpenSSL reads it. */
export const HELLO_ALERTS = {
  unexpected_message: fatalAlert(10),
  record_overflow: fatalAlert(22),
  illegal_parameter: fatalAlert(47),
  decode_error: fatalAlert(50),
  unrecognized_name: fatalAlert(112),
  no_application_protocol: fatalAlert(120),
} as const;

/** The name of an alert. */
export type HelloAlert = keyof typeof HELLO_ALERTS;

function fatalAlert(description: number): Buffer {
  return Buffer.from([0x15, 0x03, 0x03, 0x00, 0x02, 0x02, description]);
}

/**
 * Mozilla's intermediate profile without its two finite-field suites (no Gitaly client needs DHE): forward secrecy and
 * AEAD only. AES-128 comes first because it costs about a fifth less than AES-256, in bulk and in a handshake.
 *
 * Security level 2 refuses certificates with RSA keys below 2048 bits or SHA-1 signatures, as Go does. It is OpenSSL's
 * default from 3.2 on; Node 20 still has 1.
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
  '@SECLEVEL=2',
].join(':');

/** OpenSSL's default list also has X448, P-521 and ffdhe2048 to ffdhe8192; ffdhe8192 costs 70 times as much as X25519. */
const GROUPS = 'X25519:P-256:P-384';

/** Includes the post-quantum hybrid of Go 1.24 and OpenSSL 3.5. OpenSSL 3.0 of Node 20 does not support it. */
const HYBRID_GROUPS = `X25519MLKEM768:${GROUPS}`;

/** A client that offers the hybrid also sends an X25519 key share (`*`), so that an older server needs no further round trip. */
const HYBRID_CLIENT_GROUPS = '*X25519MLKEM768:*X25519:P-256:P-384';

/** The algorithms that Go offers, without SHA-1. OpenSSL's default adds Ed448, SHA-224, Brainpool curves, and ML-DSA or DSA. */
const SIGNATURE_ALGORITHMS = [
  'ecdsa_secp256r1_sha256',
  'ecdsa_secp384r1_sha384',
  'ecdsa_secp521r1_sha512',
  'ed25519',
  'rsa_pss_rsae_sha256',
  'rsa_pss_rsae_sha384',
  'rsa_pss_rsae_sha512',
  'rsa_pss_pss_sha256',
  'rsa_pss_pss_sha384',
  'rsa_pss_pss_sha512',
  'rsa_pkcs1_sha256',
  'rsa_pkcs1_sha384',
  'rsa_pkcs1_sha512',
].join(':');

const hasHybrid = supportsGroups(HYBRID_CLIENT_GROUPS);

function supportsGroups(groups: string): boolean {
  try {
    // An empty `ca` avoids loading the public roots.
    createSecureContext({ ca: [], ecdhCurve: groups });
    return true;
  } catch {
    return false;
  }
}

/**
 * The options that all TLS contexts of the program share. They prevent unauthenticated peers from selecting an expensive
 * algorithm: without `ecdhCurve` and `sigalgs`, OpenSSL offers all algorithms that it implements.
 */
export function contextParameters(minVersion: TlsVersion, side: 'server' | 'client'): SecureContextOptions {
  const hybrid = side === 'server' ? HYBRID_GROUPS : HYBRID_CLIENT_GROUPS;
  return {
    minVersion,
    maxVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    ecdhCurve: hasHybrid ? hybrid : GROUPS,
    sigalgs: SIGNATURE_ALGORITHMS,
    honorCipherOrder: true,
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION,
  };
}
