import { createDecipheriv, createHmac, type CipherGCMTypes } from 'node:crypto';

import { AEAD_TAG_BYTES, FieldReader } from './wire-format.js';

const NONCE_BYTES = 12;
const SUPPORTED_VERSIONS = 43;
const TLS_1_3 = 0x0304;

/** The encryption of TLS 1.3 records. */
export interface Suite {
  readonly cipher: CipherGCMTypes | 'chacha20-poly1305';
  readonly hash: 'sha256' | 'sha384';
  readonly keyBytes: number;
}

/** RFC 8446 section B.4. */
const SUITES: ReadonlyMap<number, Suite> = new Map([
  [0x1301, { cipher: 'aes-128-gcm', hash: 'sha256', keyBytes: 16 }],
  [0x1302, { cipher: 'aes-256-gcm', hash: 'sha384', keyBytes: 32 }],
  [0x1303, { cipher: 'chacha20-poly1305', hash: 'sha256', keyBytes: 32 }],
]);

/** The parameters that a ServerHello selects. */
export interface ServerHello {
  readonly version: 'TLSv1.2' | 'TLSv1.3';
  /** `undefined` unless it is a TLS 1.3 cipher suite. */
  readonly suite: Suite | undefined;
}

/** RFC 8446 section 4.1.3. A HelloRetryRequest has the same format and is followed by another ServerHello. */
export function readServerHello(body: Buffer): ServerHello {
  const fields = new FieldReader(body);
  fields.skip(2 + 32); // legacy_version, random
  fields.vector(1); // legacy_session_id_echo
  const suite = SUITES.get(fields.uint(2));
  fields.skip(1); // legacy_compression_method
  const extensions = new FieldReader(fields.vector(2));
  let version: ServerHello['version'] = 'TLSv1.2';
  while (extensions.remaining > 0) {
    const type = extensions.uint(2);
    const content = extensions.vector(2);
    if (type === SUPPORTED_VERSIONS && content.length === 2 && content.readUInt16BE() === TLS_1_3)
      version = 'TLSv1.3';
  }
  return { version, suite };
}

/**
 * RFC 8446 section 4.4.2: a context, then certificates with their extensions. RFC 5246 section 7.4.2 has neither. An incomplete
 * certificate or list is returned as an empty certificate, so that it does not pass as a shorter chain.
 */
export function certificatesOf(body: Buffer, isTls13: boolean): Buffer[] {
  const fields = new FieldReader(body);
  if (isTls13) fields.vector(1);
  const list = new FieldReader(fields.vector(3));
  const certificates: Buffer[] = fields.failed ? [Buffer.alloc(0)] : [];
  while (list.remaining > 0) {
    certificates.push(list.vector(3));
    if (isTls13) list.vector(2);
  }
  return certificates;
}

/** Opens the records of one traffic secret (RFC 8446 section 5.2 and 5.3). */
export class RecordDecrypter {
  readonly #suite: Suite;
  readonly #key: Buffer;
  readonly #iv: Buffer;
  #sequence = 0;

  constructor(suite: Suite, secret: Buffer) {
    this.#suite = suite;
    this.#key = expandLabel(suite.hash, secret, 'key', suite.keyBytes);
    this.#iv = expandLabel(suite.hash, secret, 'iv', NONCE_BYTES);
  }

  /** `undefined` for a record that was encrypted with other keys. */
  decrypt(header: Buffer, content: Buffer): { readonly type: number; readonly content: Buffer } | undefined {
    if (content.length < AEAD_TAG_BYTES) return undefined;
    const nonce = Buffer.from(this.#iv);
    nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ this.#sequence++) >>> 0, 8);
    const decipher = this.#decipher(nonce);
    decipher.setAAD(header, { plaintextLength: content.length - AEAD_TAG_BYTES });
    decipher.setAuthTag(content.subarray(-AEAD_TAG_BYTES));
    try {
      const plain = Buffer.concat([decipher.update(content.subarray(0, -AEAD_TAG_BYTES)), decipher.final()]);
      // The type follows the content, and zero padding follows the type.
      let end = plain.length - 1;
      while (end > 0 && plain[end] === 0) end--;
      return { type: plain[end] ?? 0, content: plain.subarray(0, end) };
    } catch {
      return undefined;
    }
  }

  #decipher(nonce: Buffer) {
    const { cipher } = this.#suite;
    return cipher === 'chacha20-poly1305'
      ? createDecipheriv(cipher, this.#key, nonce, { authTagLength: AEAD_TAG_BYTES })
      : createDecipheriv(cipher, this.#key, nonce, { authTagLength: AEAD_TAG_BYTES });
  }
}

/** RFC 8446 section 7.1, HKDF-Expand-Label with an empty context; one block of the hash is enough. */
function expandLabel(hash: Suite['hash'], secret: Buffer, label: string, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`, 'latin1');
  const info = Buffer.concat([
    Buffer.from([length >> 8, length & 0xff, name.length]),
    name,
    Buffer.from([0]),
  ]);
  const block = createHmac(hash, secret)
    .update(info)
    .update(Buffer.from([1]))
    .digest();
  return block.subarray(0, length);
}
