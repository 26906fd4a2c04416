import { MAX_CLIENT_HELLO_BYTES } from '../limits.js';
import {
  FieldReader,
  MAX_FRAGMENT_BYTES,
  Message,
  MESSAGE_HEADER_BYTES,
  messageBytes,
  RECORD_HEADER_BYTES,
  recordAt,
  RecordType,
} from './wire-format.js';

/** The fields of a ClientHello that are needed before OpenSSL reads it. */
export interface ClientHello {
  /** The name of the server_name extension, as sent; for the log of handshakes that fail. */
  readonly serverName: string | undefined;
  /** The protocols of the ALPN extension in the client's order; `undefined` if it sent none. */
  readonly alpn: readonly string[] | undefined;
}

/** `incomplete`: needs more bytes. `not_tls`: the first bytes are not a TLS handshake. */
export type ClientHelloResult =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'not_tls' }
  | { readonly kind: 'malformed'; readonly alert: ClientHelloAlert; readonly detail: string }
  /** `length`: of the records that contain it, in bytes. */
  | { readonly kind: 'hello'; readonly hello: ClientHello; readonly length: number };

/** RFC 8446 section 6.2: the alert for a ClientHello that is refused before OpenSSL reads it. */
export type ClientHelloAlert =
  'unexpected_message' | 'record_overflow' | 'illegal_parameter' | 'decode_error';

const EXTENSION_SERVER_NAME = 0;
const EXTENSION_ALPN = 16;

const INCOMPLETE = { kind: 'incomplete' } as const;
const NOT_TLS = { kind: 'not_tls' } as const;
const MALFORMED = malformed('decode_error', 'its fields do not fit its length');
const TOO_LONG = malformed('illegal_parameter', `it is longer than ${MAX_CLIENT_HELLO_BYTES} bytes`);

function malformed(
  alert: ClientHelloAlert,
  detail: string,
): Extract<ClientHelloResult, { kind: 'malformed' }> {
  return { kind: 'malformed', alert, detail: `malformed ClientHello: ${detail}` };
}

/**
 * Reads the ClientHello (RFC 8446 section 4.1.2) at the start of a connection's bytes, across TLS records
 * (section 5.1 lets a handshake message span them). Each record is read once, however the bytes arrive.
 */
export class ClientHelloReader {
  /** The start of the first incomplete record. */
  #record = 0;
  /** Bytes of the message in the records before it. */
  #collected = 0;
  /** The header of the message, as far as those records contain it. */
  #header: Buffer = Buffer.alloc(0);

  /** @param bytes - all bytes received so far, from the first. */
  read(bytes: Buffer): ClientHelloResult {
    for (;;) {
      const left = bytes.length - this.#record;
      if (left >= 1 && bytes[this.#record] !== RecordType.handshake)
        return this.#record === 0
          ? NOT_TLS
          : malformed('unexpected_message', 'a record of another type is within it');
      // The major version has been 3 since SSL 3.0: anything else is a protocol that happens to begin with 0x16.
      if (left >= 2 && bytes[this.#record + 1] !== 3) return NOT_TLS;
      if (left < RECORD_HEADER_BYTES) return unfinished(bytes);
      const length = bytes.readUInt16BE(this.#record + 3);
      // RFC 8446 section 5.1: "Zero-length fragments of Handshake types" must not be sent.
      if (length === 0) return malformed('unexpected_message', 'it has an empty record');
      if (length > MAX_FRAGMENT_BYTES)
        return malformed('record_overflow', 'it has a record above 16384 bytes');
      const start = this.#record + RECORD_HEADER_BYTES;
      const fragment = bytes.subarray(start, start + length);
      const missing = MESSAGE_HEADER_BYTES - this.#header.length;
      const header =
        missing > 0 ? Buffer.concat([this.#header, fragment.subarray(0, missing)]) : this.#header;
      if (header.length === MESSAGE_HEADER_BYTES) {
        if (header[0] !== Message.clientHello)
          return malformed('unexpected_message', 'another message comes first');
        const needed = messageBytes(header);
        if (needed > MAX_CLIENT_HELLO_BYTES) return TOO_LONG;
        if (this.#collected + length > needed)
          return malformed('unexpected_message', 'another message follows it in its record');
        if (this.#collected + fragment.length === needed) {
          const end = start + length;
          return readHello(contentOf(bytes.subarray(0, end)).subarray(MESSAGE_HEADER_BYTES), end);
        }
      }
      if (fragment.length < length) return unfinished(bytes);
      this.#header = header;
      this.#collected += length;
      this.#record = start + length;
    }
  }
}

/** Short records multiply the length of a message, so the limit applies to all bytes that are kept. */
function unfinished(bytes: Buffer): ClientHelloResult {
  return bytes.length > MAX_CLIENT_HELLO_BYTES ? TOO_LONG : INCOMPLETE;
}

/** The content of complete records. */
function contentOf(records: Buffer): Buffer {
  const fragments: Buffer[] = [];
  for (let record = recordAt(records, 0); record; record = recordAt(records, record.end))
    fragments.push(record.content);
  return Buffer.concat(fragments);
}

function readHello(body: Buffer, length: number): ClientHelloResult {
  const reader = new FieldReader(body);
  reader.skip(2 + 32); // legacy_version, random
  reader.vector(1); // legacy_session_id
  reader.vector(2); // cipher_suites
  reader.vector(1); // legacy_compression_methods
  let serverName: string | undefined;
  let alpn: string[] | undefined;
  if (reader.remaining > 0) {
    const extensions = new FieldReader(reader.vector(2));
    while (extensions.remaining > 0) {
      const type = extensions.uint(2);
      const data = new FieldReader(extensions.vector(2));
      if (type === EXTENSION_SERVER_NAME) serverName = readServerName(data);
      if (type === EXTENSION_ALPN) alpn = readAlpn(data);
      if (data.failed) return MALFORMED;
    }
    if (extensions.failed) return MALFORMED;
  }
  return reader.failed ? MALFORMED : { kind: 'hello', hello: { serverName, alpn }, length };
}

/** RFC 6066 section 3: a list of (type 0, name). */
function readServerName(data: FieldReader): string | undefined {
  const list = new FieldReader(data.vector(2));
  while (list.remaining > 0) {
    const type = list.uint(1);
    const name = list.vector(2);
    if (type === 0) return name.toString('latin1');
  }
  return undefined;
}

/** RFC 7301 section 3.1: a list of length-prefixed names. */
function readAlpn(data: FieldReader): string[] {
  const list = new FieldReader(data.vector(2));
  const names: string[] = [];
  while (list.remaining > 0) names.push(list.vector(1).toString('latin1'));
  return names;
}
