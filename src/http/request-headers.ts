import type { Address } from '../config/model.js';
import type { SocketEnd } from '../connection/peer-address.js';
import {
  endToEnd,
  fieldsOf,
  isProxysOwn,
  listOf,
  outgoing,
  plainName,
  valuesOf,
  type HeaderField,
  type OutgoingFields,
} from './hop-by-hop.js';
import type { HttpRequest } from './message.js';

/** Methods whose requests have no content: http2-proxy forwards none. */
const WITHOUT_CONTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/** The pseudonym of the proxy in `Via` (RFC 9110 section 7.6.3). */
const PSEUDONYM = 'gitaly-tls-proxy';

/** Fields that the proxy writes itself, from the parsed request. */
const REWRITTEN: ReadonlySet<string> = new Set(['content-length', 'host', 'expect', 'via']);

/** The facts about a client that the proxy passes to upstream. */
export interface ClientDescription {
  /** The address of the client, from the socket or a PROXY header; `undefined` on a unix socket. */
  readonly end: SocketEnd | undefined;
  readonly scheme: 'https' | 'http';
  /** The host that the client named. */
  readonly host: string | undefined;
  /** X-SSL-Client-*, if they are enabled. */
  readonly certificate: readonly HeaderField[];
}

/** Whether the content of a request with this method is forwarded. */
export function passesContent({ method }: Pick<HttpRequest, 'method'>): boolean {
  return !WITHOUT_CONTENT.has(method);
}

/**
 * Returns the header of a request for upstream at the address `forward`.
 *
 * The proxy sets the framing itself: the length that the client has stated and the parser has enforced, otherwise chunks. Node's
 * client would send the content of a DELETE without either.
 */
export function upstreamHeader(
  request: HttpRequest,
  client: ClientDescription,
  forward: Address,
): OutgoingFields {
  const received = fieldsOf(request.rawHeaders).filter(([name]) => !name.startsWith(':'));
  const passed = endToEnd(received).filter(([name]) => isPassed(plainName(name)));
  const via = [...valuesOf(received, 'via'), `${request.httpVersion} ${PSEUDONYM}`];
  return outgoing([
    ['host', hostFor(forward, client.host)],
    ...joinCookies(passed),
    ...framing(request, received),
    ...forwarded(client),
    ...client.certificate,
    ['via', via.join(', ')],
  ]);
}

/** RFC 9110 section 7.2: the Host for upstream. An upstream that is verified by name gets that name. */
function hostFor(forward: Address, named: string | undefined): string {
  if (forward.scheme === 'https' || (named === undefined && forward.scheme !== 'unix'))
    return forward.url.slice(forward.url.indexOf('//') + 2);
  return named ?? 'localhost';
}

function isPassed(name: string): boolean {
  return !isProxysOwn(name) && !REWRITTEN.has(name);
}

function framing(request: HttpRequest, received: readonly HeaderField[]): HeaderField[] {
  const acceptsTrailers = valuesOf(received, 'te').some((value) =>
    listOf(value).some((word) => word.split(';', 1)[0] === 'trailers'),
  );
  const te: HeaderField[] = acceptsTrailers
    ? [
        // RFC 9110 section 10.1.4: "A sender of TE MUST also send a 'TE' connection option".
        ['connection', 'te, keep-alive'],
        ['te', 'trailers'],
      ]
    : [];
  if (!passesContent(request)) return te;
  if (!request.hasContent) return [...te, ['content-length', '0']];
  const expect: HeaderField[] = request.expectation === 'continue' ? [['expect', '100-continue']] : [];
  const [length] = valuesOf(received, 'content-length');
  const trailers = valuesOf(received, 'trailer');
  // Trailers require chunks in HTTP/1.1. Over HTTP/2 a client may state a length as well.
  if (length !== undefined && trailers.length === 0) return [...te, ...expect, ['content-length', length]];
  return [
    ...te,
    ...expect,
    ['transfer-encoding', 'chunked'],
    ...trailers.map((value): HeaderField => ['trailer', value]),
  ];
}

/** RFC 9113 section 8.2.3: over HTTP/2 a cookie may be split into several fields. */
function joinCookies(fields: readonly HeaderField[]): HeaderField[] {
  const cookies = valuesOf(fields, 'cookie');
  if (cookies.length < 2) return [...fields];
  return [...fields.filter(([name]) => name !== 'cookie'), ['cookie', cookies.join('; ')]];
}

/** The field of RFC 7239, and the X-Forwarded-* fields that it replaces. */
function forwarded({ end, scheme, host }: ClientDescription): HeaderField[] {
  // A loopback address is meaningless on another host, which may mistake it for its own.
  const address = end && !isLoopback(end.address) ? end.address : undefined;
  const node = address?.includes(':') ? `"[${address}]"` : (address ?? 'unknown');
  return [
    [
      'forwarded',
      [`for=${node}`, ...(host === undefined ? [] : [`host="${host}"`]), `proto=${scheme}`].join(';'),
    ],
    ...(address === undefined ? [] : [['x-forwarded-for', address] as const]),
    ...(host === undefined ? [] : [['x-forwarded-host', host] as const]),
    ['x-forwarded-proto', scheme],
  ];
}

function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.');
}
