/** RFC 8446 section 5.1. */
export const RecordType = { changeCipherSpec: 20, alert: 21, handshake: 22, applicationData: 23 } as const;

/** RFC 8446 section 4; those of TLS 1.2 are in RFC 5246 section 7.4. */
export const Message = {
  clientHello: 1,
  serverHello: 2,
  certificate: 11,
  certificateRequest: 13,
  serverHelloDone: 14,
  finished: 20,
  /** RFC 8879. */
  compressedCertificate: 25,
} as const;

/** Type, version and length. */
export const RECORD_HEADER_BYTES = 5;

/** RFC 8446 section 5.1. */
export const MAX_FRAGMENT_BYTES = 16_384;

/** The tag length of every AEAD cipher that is offered (`parameters.ts`). */
export const AEAD_TAG_BYTES = 16;

/** Type and length. */
export const MESSAGE_HEADER_BYTES = 4;

/** The length of a handshake message with its header, read from that header. */
export function messageBytes(header: Buffer): number {
  return MESSAGE_HEADER_BYTES + header.readUIntBE(1, 3);
}

export interface TlsRecord {
  readonly type: number;
  readonly header: Buffer;
  readonly content: Buffer;
  /** The offset of the next record. */
  readonly end: number;
}

/** The record that begins at an offset; `undefined` if it is incomplete. `length`: the number of bytes that have arrived. */
export function recordAt(bytes: Buffer, offset: number, length = bytes.length): TlsRecord | undefined {
  const start = offset + RECORD_HEADER_BYTES;
  if (start > length) return undefined;
  const end = start + bytes.readUInt16BE(offset + 3);
  if (end > length) return undefined;
  return {
    type: bytes.readUInt8(offset),
    header: bytes.subarray(offset, start),
    content: bytes.subarray(start, end),
    end,
  };
}

export interface HandshakeMessage {
  readonly type: number;
  readonly body: Buffer;
}

/** Assembles handshake messages from the content of records: a record may have several, and a message may span records. */
export class HandshakeMessages {
  #bytes: Buffer = Buffer.alloc(0);

  /** Adds the content of a record. */
  add(content: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? content : Buffer.concat([this.#bytes, content]);
  }

  /** Removes and returns the next message; `undefined` if it is incomplete. */
  next(): HandshakeMessage | undefined {
    const bytes = this.#bytes;
    if (bytes.length < MESSAGE_HEADER_BYTES) return undefined;
    const end = messageBytes(bytes);
    if (end > bytes.length) return undefined;
    this.#bytes = bytes.subarray(end);
    return { type: bytes.readUInt8(0), body: bytes.subarray(MESSAGE_HEADER_BYTES, end) };
  }
}

/** Reads the fields of a message. A read beyond the end fails; then nothing remains and every value is 0 or empty. */
export class FieldReader {
  readonly #bytes: Buffer;
  #offset = 0;
  #failed = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get failed(): boolean {
    return this.#failed;
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  skip(length: number): void {
    this.#take(length);
  }

  uint(size: 1 | 2 | 3): number {
    const bytes = this.#take(size);
    return this.#failed ? 0 : bytes.readUIntBE(0, size);
  }

  /** A field whose length precedes it. */
  vector(lengthSize: 1 | 2 | 3): Buffer {
    return this.#take(this.uint(lengthSize));
  }

  #take(length: number): Buffer {
    if (this.#failed || length > this.remaining) {
      this.#failed = true;
      this.#offset = this.#bytes.length;
      return Buffer.alloc(0);
    }
    const start = this.#offset;
    this.#offset += length;
    return this.#bytes.subarray(start, this.#offset);
  }
}
