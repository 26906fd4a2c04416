import { BACKCHANNEL_MAGIC } from '../inspect/backchannel/magic.js';
import { CLIENT_PREFACE } from '../inspect/http2/http2-frame.js';
import { HTTP2_PREFACE_BYTES } from '../limits.js';

/** The protocol of a gRPC client, by its first decrypted bytes. */
export type Protocol = 'http2' | 'backchannel';

/** The protocol of a connection; label `protocol`. */
export type ConnectionProtocol = Protocol | 'http1';

if (CLIENT_PREFACE.length !== HTTP2_PREFACE_BYTES) throw new Error('the preface has 24 bytes');

/**
 * Returns the protocol that begins with these bytes: `undefined` while more bytes are needed, `unknown` as soon as a byte fits no
 * protocol.
 */
export function protocolOf(bytes: Buffer): Protocol | 'unknown' | undefined {
  if (beginsLike(bytes, BACKCHANNEL_MAGIC))
    return bytes.length >= BACKCHANNEL_MAGIC.length ? 'backchannel' : undefined;
  if (beginsLike(bytes, CLIENT_PREFACE)) return bytes.length >= CLIENT_PREFACE.length ? 'http2' : undefined;
  return 'unknown';
}

function beginsLike(bytes: Buffer, wanted: Buffer): boolean {
  const length = Math.min(bytes.length, wanted.length);
  return bytes.compare(wanted, 0, length, 0, length) === 0;
}

/** Whether the bytes are the beginning of a TLS handshake. */
export function isTls(bytes: Buffer): boolean {
  return bytes[0] === 0x16 && (bytes.length === 1 || bytes[1] === 3);
}

/** Describes the first bytes of an unexpected protocol for a log. The bytes themselves are never logged. */
export function describeUnknown(bytes: Buffer): string {
  if (bytes.length > 0 && beginsLike(bytes, CLIENT_PREFACE))
    return 'plaintext HTTP/2, like a gRPC client that dials tcp://';
  if (bytes.length > 0 && beginsLike(bytes, BACKCHANNEL_MAGIC))
    return 'the plaintext backchannel, like a Gitaly client that dials tcp://';
  if (isTls(bytes)) return 'a TLS handshake: this listener is plaintext, or TLS is wrapped in TLS';
  if (/^(GET|HEAD|POST|PUT|DELETE|OPTIONS|CONNECT|PATCH|TRACE) /.test(bytes.toString('latin1', 0, 8)))
    return 'HTTP/1';
  if (bytes.toString('latin1', 0, 6) === 'PROXY ' || bytes[0] === 0x0d) {
    return 'a PROXY header, from an address that proxy_protocol.accept_from does not list';
  }
  return 'neither an HTTP/2 preface nor the backchannel magic';
}
