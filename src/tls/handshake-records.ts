import { createDecipheriv, createHmac, type CipherGCMTypes } from 'node:crypto';

/** RFC 8446 section 5.1. */
export const RecordType = { changeCipherSpec: 20, alert: 21, handshake: 22, applicationData: 23 } as const;

/** RFC 8446 section 4; TLS 1.2's are of RFC 5246 section 7.4. */
export const Message = {
  serverHello: 2,
  certificate: 11,
  certificateRequest: 13,
  serverHelloDone: 14,
  finished: 20,
  /** RFC 8879. */
  compressedCertificate: 25,
} as const;

export const RECORD_HEADER_BYTES = 5;
export const MESSAGE_HEADER_BYTES = 4;
const TAG_BYTES = 16;
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
  const fields = new Fields(body);
  fields.skip(2 + 32);
  fields.take(1);
  const suite = SUITES.get(fields.number(2));
  fields.skip(1);
  const extensions = new Fields(fields.take(2));
  let version: ServerHello['version'] = 'TLSv1.2';
  while (extensions.left > 0) {
    const type = extensions.number(2);
    const content = extensions.take(2);
    if (type === SUPPORTED_VERSIONS && content.length === 2 && content.readUInt16BE() === TLS_1_3)
      version = 'TLSv1.3';
  }
  return { version, suite };
}

/** RFC 8446 section 4.4.2: a context, then certificates with their extensions. RFC 5246 section 7.4.2 has neither. */
export function certificatesOf(body: Buffer, isTls13: boolean): Buffer[] {
  const fields = new Fields(body);
  if (isTls13) fields.take(1);
  const list = new Fields(fields.take(3));
  const certificates: Buffer[] = [];
  while (list.left > 0) {
    certificates.push(list.take(3));
    if (isTls13) list.take(2);
  }
  return certificates;
}

/** Reads consecutive fields; missing bytes are read as empty. */
class Fields {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#offset;
  }

  skip(length: number): void {
    this.#offset = Math.min(this.#offset + length, this.#bytes.length);
  }

  number(bytes: number): number {
    const value = this.left >= bytes ? this.#bytes.readUIntBE(this.#offset, bytes) : 0;
    this.skip(bytes);
    return value;
  }

  /** A field with a length prefix of `lengthBytes` bytes. */
  take(lengthBytes: number): Buffer {
    const length = this.number(lengthBytes);
    const taken = this.#bytes.subarray(this.#offset, this.#offset + length);
    this.skip(length);
    return taken;
  }
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
    if (content.length < TAG_BYTES) return undefined;
    const nonce = Buffer.from(this.#iv);
    nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ this.#sequence++) >>> 0, 8);
    const decipher = this.#decipher(nonce);
    decipher.setAAD(header, { plaintextLength: content.length - TAG_BYTES });
    decipher.setAuthTag(content.subarray(-TAG_BYTES));
    try {
      const plain = Buffer.concat([decipher.update(content.subarray(0, -TAG_BYTES)), decipher.final()]);
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
      ? createDecipheriv(cipher, this.#key, nonce, { authTagLength: TAG_BYTES })
      : createDecipheriv(cipher, this.#key, nonce, { authTagLength: TAG_BYTES });
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
