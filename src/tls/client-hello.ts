import { MAX_CLIENT_HELLO_BYTES } from '../limits.js';

/** What a ClientHello says that is needed before OpenSSL sees it. */
export interface ClientHello {
  /** The name of the server_name extension, as sent; for the log of handshakes that fail. */
  readonly serverName: string | undefined;
  /** The protocols of the ALPN extension in the client's order; `undefined` if it sent none. */
  readonly alpn: readonly string[] | undefined;
}

/**
 * `incomplete`: give it more bytes. `not_tls`: the first bytes are no TLS handshake. `malformed`: a handshake that
 * cannot be read here; OpenSSL decides on it and sends the right alert.
 */
export type ClientHelloResult =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'not_tls' }
  | { readonly kind: 'malformed' }
  | { readonly kind: 'hello'; readonly hello: ClientHello };

const RECORD_HEADER_BYTES = 5;
const CONTENT_TYPE_HANDSHAKE = 22;
const HANDSHAKE_TYPE_CLIENT_HELLO = 1;
const EXTENSION_SERVER_NAME = 0;
const EXTENSION_ALPN = 16;

const INCOMPLETE = { kind: 'incomplete' } as const;
const MALFORMED = { kind: 'malformed' } as const;

/**
 * Reads the ClientHello (RFC 8446 section 4.1.2) at the start of a connection's bytes, across TLS records
 * (section 5.1 lets a handshake message span them). Reads only; nothing is consumed.
 */
export function parseClientHello(bytes: Buffer): ClientHelloResult {
  const message: Buffer[] = [];
  let collected = 0;
  let needed = Number.POSITIVE_INFINITY;
  let offset = 0;
  // Short records make a message many times as long as it is: what bounds the memory is what has come.
  const unfinished = bytes.length > MAX_CLIENT_HELLO_BYTES ? MALFORMED : INCOMPLETE;
  while (collected < needed) {
    if (bytes.length > offset && bytes[offset] !== CONTENT_TYPE_HANDSHAKE) {
      return offset === 0 ? { kind: 'not_tls' } : MALFORMED;
    }
    // The major version has been 3 since SSL 3.0: anything else is a protocol that happens to begin with 0x16.
    if (bytes.length > offset + 1 && bytes[offset + 1] !== 3) return { kind: 'not_tls' };
    if (bytes.length < offset + RECORD_HEADER_BYTES) return unfinished;
    const length = bytes.readUInt16BE(offset + 3);
    // RFC 8446 section 5.1: "Zero-length fragments of Handshake types are not to be sent"; 2^14 is the most.
    if (length === 0 || length > 16_384) return MALFORMED;
    const start = offset + RECORD_HEADER_BYTES;
    const fragment = bytes.subarray(start, start + length);
    message.push(fragment);
    collected += fragment.length;
    if (needed === Number.POSITIVE_INFINITY && collected >= 4) {
      const head = Buffer.concat(message);
      if (head[0] !== HANDSHAKE_TYPE_CLIENT_HELLO) return MALFORMED;
      needed = 4 + head.readUIntBE(1, 3);
      if (needed > MAX_CLIENT_HELLO_BYTES) return MALFORMED;
    }
    if (fragment.length < length && collected < needed) return unfinished;
    offset = start + length;
  }
  return readHello(Buffer.concat(message).subarray(4, needed));
}

function readHello(body: Buffer): ClientHelloResult {
  const reader = new Reader(body);
  reader.skip(2 + 32); // legacy_version, random
  reader.vector(1); // legacy_session_id
  reader.vector(2); // cipher_suites
  reader.vector(1); // legacy_compression_methods
  let serverName: string | undefined;
  let alpn: string[] | undefined;
  if (reader.remaining > 0) {
    const extensions = new Reader(reader.vector(2));
    while (extensions.remaining > 0) {
      const type = extensions.uint(2);
      const data = new Reader(extensions.vector(2));
      if (type === EXTENSION_SERVER_NAME) serverName = readServerName(data);
      if (type === EXTENSION_ALPN) alpn = readAlpn(data);
      if (data.failed) return MALFORMED;
    }
    if (extensions.failed) return MALFORMED;
  }
  return reader.failed ? MALFORMED : { kind: 'hello', hello: { serverName, alpn } };
}

/** RFC 6066 section 3: a list of (type 0, name). */
function readServerName(data: Reader): string | undefined {
  const list = new Reader(data.vector(2));
  while (list.remaining > 0) {
    const type = list.uint(1);
    const name = list.vector(2);
    if (type === 0) return name.toString('latin1');
  }
  return undefined;
}

/** RFC 7301 section 3.1: a list of length-prefixed names. */
function readAlpn(data: Reader): string[] {
  const list = new Reader(data.vector(2));
  const names: string[] = [];
  while (list.remaining > 0) names.push(list.vector(1).toString('latin1'));
  return names;
}

/** Reads TLS's length-prefixed vectors; a read past the end makes it fail and stay so, with nothing remaining. */
class Reader {
  #failed = false;
  #offset = 0;
  readonly #bytes: Buffer;

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
    this.take(length);
  }

  uint(size: 1 | 2): number {
    const bytes = this.take(size);
    return this.#failed ? 0 : bytes.readUIntBE(0, size);
  }

  vector(lengthSize: 1 | 2): Buffer {
    return this.take(this.uint(lengthSize));
  }

  private take(length: number): Buffer {
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
