import { isIPv4, isIPv6 } from 'node:net';

/** An end of a TCP connection; `undefined` stands for a unix socket or an unknown end. */
export interface SocketEnd {
  readonly address: string;
  readonly port: number;
}

/** RFC 4291 section 2.5.5.2: an IPv4 address that a dual-stack socket maps into IPv6, as the URL parser formats it. */
const IPV4_MAPPED = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/u;

/**
 * Returns the canonical spelling of an address, so that logs, limits and lists identify a client by the same text: dotted IPv4,
 * also for IPv4-mapped IPv6; IPv6 as in RFC 5952. Returns `undefined` if the text is not an address or has a zone, which is
 * meaningful only on the machine that assigned it.
 */
export function canonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text;
  if (!isIPv6(text) || text.includes('%')) return undefined;
  // The URL parser formats an address as in RFC 5952.
  const address = new URL(`http://[${text}]`).hostname.slice(1, -1);
  const [, high, low] = IPV4_MAPPED.exec(address) ?? [];
  if (high === undefined || low === undefined) return address;
  const [front, back] = [Number.parseInt(high, 16), Number.parseInt(low, 16)];
  return [front >> 8, front & 0xff, back >> 8, back & 0xff].join('.');
}

/** Converts the address and port that Node reports for a socket. The address becomes canonical and keeps its zone. */
export function socketEnd(address: string | undefined, port: number | undefined): SocketEnd | undefined {
  if (address === undefined || port === undefined) return undefined;
  const [host = '', zone] = address.split('%', 2);
  const canonical = canonicalAddress(host) ?? host;
  return { address: zone === undefined ? canonical : `${canonical}%${zone}`, port };
}

/** `10.0.0.1:5000`, `[::1]:5000`, or `@` for a unix socket, which is what Gitaly logs. */
export function formatEnd(end: SocketEnd | undefined): string {
  if (end === undefined) return '@';
  return end.address.includes(':') ? `[${end.address}]:${end.port}` : `${end.address}:${end.port}`;
}
