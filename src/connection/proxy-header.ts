import { isIPv4, isIPv6 } from 'node:net';

import { MAX_PROXY_V1_BYTES, MAX_PROXY_V2_BYTES } from '../limits.js';
import { canonicalAddress, type SocketEnd } from './peer-address.js';

/**
 * Reads and writes PROXY headers (HAProxy's proxy-protocol.txt, versions 1 and 2). The section numbers below refer to that
 * document.
 */

/** `source` is `undefined` if the header states that the socket's own address applies (v1 UNKNOWN, v2 LOCAL). */
export type ProxyHeaderResult =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'malformed'; readonly detail: string }
  | { readonly kind: 'header'; readonly consumed: number; readonly source: SocketEnd | undefined };

const V2_SIGNATURE = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const V1_PREFIX = Buffer.from('PROXY ', 'latin1');
const V2_HEADER_BYTES = 16;

const INCOMPLETE = { kind: 'incomplete' } as const;

function malformed(detail: string): ProxyHeaderResult {
  return { kind: 'malformed', detail };
}

/** Reads the header at the start of a connection's bytes. */
export function parseProxyHeader(bytes: Buffer): ProxyHeaderResult {
  if (startsLike(bytes, V2_SIGNATURE)) return bytes.length < V2_HEADER_BYTES ? INCOMPLETE : parseV2(bytes);
  if (startsLike(bytes, V1_PREFIX)) return bytes.length < V1_PREFIX.length ? INCOMPLETE : parseV1(bytes);
  return malformed('the connection does not start with a PROXY header, which this client must send');
}

function startsLike(bytes: Buffer, wanted: Buffer): boolean {
  const length = Math.min(bytes.length, wanted.length);
  return bytes.compare(wanted, 0, length, 0, length) === 0;
}

/** Section 2.1: `PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n`, at most 107 bytes. */
function parseV1(bytes: Buffer): ProxyHeaderResult {
  const window = bytes.subarray(0, MAX_PROXY_V1_BYTES);
  const end = window.indexOf('\r\n', 0, 'latin1');
  if (end < 0) {
    return bytes.length >= MAX_PROXY_V1_BYTES ? malformed('PROXY v1: no CR LF within 107 bytes') : INCOMPLETE;
  }
  const consumed = end + 2;
  const [, protocol, source = '', destination = '', sourcePort = '', destinationPort = '', ...more] = window
    .toString('latin1', 0, end)
    .split(' ');
  if (protocol === 'UNKNOWN') return { kind: 'header', consumed, source: undefined };
  const isOfFamily = protocol === 'TCP4' ? isIPv4 : protocol === 'TCP6' ? isIPv6 : undefined;
  if (isOfFamily === undefined) return malformed('PROXY v1: the protocol must be TCP4, TCP6 or UNKNOWN');
  const address = canonicalAddress(source);
  if (!isOfFamily(source) || !isOfFamily(destination) || address === undefined)
    return malformed('PROXY v1: an address does not match its family, or has a zone');
  if (!isPort(sourcePort) || !isPort(destinationPort))
    return malformed('PROXY v1: a port is not a number from 0 to 65535');
  if (more.length > 0) return malformed('PROXY v1: more than six words');
  return { kind: 'header', consumed, source: { address, port: Number(sourcePort) } };
}

function isPort(text: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535;
}

/** Section 2.2: signature, version and command, family and protocol, length, addresses, TLVs. */
function parseV2(bytes: Buffer): ProxyHeaderResult {
  const versionCommand = bytes.readUInt8(12);
  const family = bytes.readUInt8(13);
  const length = bytes.readUInt16BE(14);
  const consumed = V2_HEADER_BYTES + length;
  if (versionCommand !== 0x20 && versionCommand !== 0x21)
    return malformed('PROXY v2: unknown version or command');
  if (consumed > MAX_PROXY_V2_BYTES) return malformed(`PROXY v2: longer than ${MAX_PROXY_V2_BYTES} bytes`);
  if (bytes.length < consumed) return INCOMPLETE;
  // "LOCAL … the receiver must accept this connection as valid and must use the real connection endpoints".
  if (versionCommand === 0x20) return { kind: 'header', consumed, source: undefined };
  switch (family) {
    case 0x11:
      if (length < 12) return malformed('PROXY v2: too short for IPv4 addresses');
      return {
        kind: 'header',
        consumed,
        source: { address: readIPv4(bytes, 16), port: bytes.readUInt16BE(24) },
      };
    case 0x21:
      if (length < 36) return malformed('PROXY v2: too short for IPv6 addresses');
      return {
        kind: 'header',
        consumed,
        source: { address: readIPv6(bytes, 16), port: bytes.readUInt16BE(48) },
      };
    case 0x00:
    case 0x31:
      // Unspecified, or a unix socket on the client side of the balancer: the address has no meaning here.
      return { kind: 'header', consumed, source: undefined };
    default:
      return malformed(
        'PROXY v2: the family must be TCP over IPv4, TCP over IPv6, unix stream or unspecified',
      );
  }
}

function readIPv4(bytes: Buffer, offset: number): string {
  return [...bytes.subarray(offset, offset + 4)].join('.');
}

function readIPv6(bytes: Buffer, offset: number): string {
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(offset + 2 * index).toString(16));
  const text = groups.join(':');
  return canonicalAddress(text) ?? text;
}

/** Returns the header that passes the address of the client to upstream. Unknown ends become UNKNOWN (v1) or LOCAL (v2). */
export function encodeProxyHeader(
  version: 'v1' | 'v2',
  source: SocketEnd | undefined,
  destination: SocketEnd | undefined,
): Buffer {
  const known = source && destination ? sameFamily(source, destination) : undefined;
  return version === 'v1' ? encodeV1(known) : encodeV2(known);
}

interface Ends {
  readonly family: 4 | 6;
  readonly source: SocketEnd;
  readonly destination: SocketEnd;
}

/** Converts both ends to one family: if they differ, IPv4 becomes IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2). */
function sameFamily(source: SocketEnd, destination: SocketEnd): Ends {
  if (isIPv4(source.address) && isIPv4(destination.address)) return { family: 4, source, destination };
  const map = (end: SocketEnd): SocketEnd => ({
    // A zone (`fe80::1%eth0`) is meaningful on this machine only.
    address: isIPv4(end.address) ? `::ffff:${end.address}` : end.address.replace(/%.*$/, ''),
    port: end.port,
  });
  return { family: 6, source: map(source), destination: map(destination) };
}

function encodeV1(ends: Ends | undefined): Buffer {
  if (!ends) return Buffer.from('PROXY UNKNOWN\r\n', 'latin1');
  const { family, source, destination } = ends;
  const words = ['PROXY', `TCP${family}`, source.address, destination.address, source.port, destination.port];
  return Buffer.from(`${words.join(' ')}\r\n`, 'latin1');
}

function encodeV2(ends: Ends | undefined): Buffer {
  const addresses = ends ? encodeAddresses(ends) : Buffer.alloc(0);
  const header = Buffer.alloc(V2_HEADER_BYTES);
  V2_SIGNATURE.copy(header);
  header.writeUInt8(ends ? 0x21 : 0x20, 12);
  header.writeUInt8(ends ? (ends.family === 4 ? 0x11 : 0x21) : 0x00, 13);
  header.writeUInt16BE(addresses.length, 14);
  return Buffer.concat([header, addresses]);
}

function encodeAddresses({ family, source, destination }: Ends): Buffer {
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(source.port, 0);
  ports.writeUInt16BE(destination.port, 2);
  const pack = family === 4 ? packIPv4 : packIPv6;
  return Buffer.concat([pack(source.address), pack(destination.address), ports]);
}

function packIPv4(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

function packIPv6(address: string): Buffer {
  // A dotted IPv4 tail stands for two groups.
  const text = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) =>
    [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map((group) => group.toString(16)).join(':'),
  );
  const [head = '', tail] = text.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array<string>(8 - front.length - back.length).fill('0');
  const packed = Buffer.alloc(16);
  [...front, ...(tail === undefined ? [] : zeros), ...back].forEach((group, index) => {
    packed.writeUInt16BE(Number.parseInt(group, 16), 2 * index);
  });
  return packed;
}
