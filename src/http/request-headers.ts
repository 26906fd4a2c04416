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

/** Methods whose requests have no content; http2-proxy passes none on. */
const WITHOUT_CONTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/** How the proxy is called in `Via` (RFC 9110 section 7.6.3). */
const PSEUDONYM = 'gitaly-tls-proxy';

/** Fields that the proxy writes itself, by what it has understood. */
const REWRITTEN: ReadonlySet<string> = new Set(['content-length', 'host', 'expect', 'via']);

/** What upstream is told of a client by the proxy. */
export interface ClientDescription {
  /** Who the client is, by the socket or a PROXY header; `undefined` on a unix socket. */
  readonly end: SocketEnd | undefined;
  readonly scheme: 'https' | 'http';
  /** The host that the client named. */
  readonly host: string | undefined;
  /** X-SSL-Client-*, where upstream is to have them. */
  readonly certificate: readonly HeaderField[];
}

/** Whether a request of this method has content that is passed on. */
export function passesContent({ method }: Pick<HttpRequest, 'method'>): boolean {
  return !WITHOUT_CONTENT.has(method);
}

/**
 * The header of a request as upstream, at the address `forward`, gets it.
 *
 * The framing is the proxy's own: a length that the client has stated and its parser has followed, else chunks. Node's client
 * would send the content of a DELETE without either.
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

/** RFC 9110 section 7.2: what upstream is asked for. One that is verified by name is asked for that name. */
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
  // Trailers need chunks, in HTTP/1.1; over HTTP/2 a client may state a length too.
  if (length !== undefined && trailers.length === 0) return [...te, ...expect, ['content-length', length]];
  return [
    ...te,
    ...expect,
    ['transfer-encoding', 'chunked'],
    ...trailers.map((value): HeaderField => ['trailer', value]),
  ];
}

/** RFC 9113 section 8.2.3: over HTTP/2 a cookie may come in pieces. */
function joinCookies(fields: readonly HeaderField[]): HeaderField[] {
  const cookies = valuesOf(fields, 'cookie');
  if (cookies.length < 2) return [...fields];
  return [...fields.filter(([name]) => name !== 'cookie'), ['cookie', cookies.join('; ')]];
}

/** RFC 7239, and the fields that it was made of. */
function forwarded({ end, scheme, host }: ClientDescription): HeaderField[] {
  // A loopback address says nothing on another host, and may be taken there for its own.
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
