/**
 * Fields that are between two neighbours (RFC 9110 section 7.6.1, and what its predecessors named): an intermediary takes
 * them out. `Trailer` is none of them, but is worth something only where trailers can follow.
 */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-authentication-info',
]);

/** A field of a header, its name in lower case. */
export type HeaderField = readonly [name: string, value: string];

/** The fields of a header that names and values make by turns. */
export function fieldsOf(rawHeaders: readonly string[]): HeaderField[] {
  const fields: HeaderField[] = [];
  for (let index = 0; index + 1 < rawHeaders.length; index += 2)
    fields.push([rawHeaders[index]?.toLowerCase() ?? '', rawHeaders[index + 1] ?? '']);
  return fields;
}

/** The fields that go on from end to end: without those between neighbours, and without those that `Connection` names. */
export function endToEnd(fields: readonly HeaderField[]): HeaderField[] {
  const named = new Set(fields.flatMap(([name, value]) => (name === 'connection' ? listOf(value) : [])));
  return fields.filter(([name]) => !HOP_BY_HOP.has(plainName(name)) && !named.has(name));
}

/** The members of a field that is a list of words, in lower case. */
export function listOf(value: string): string[] {
  return value
    .toLowerCase()
    .split(',')
    .map((word) => word.trim());
}

/** The transfer codings of a message besides `chunked`: whoever takes `Transfer-Encoding` out must decode them. */
export function foreignCodings(fields: readonly HeaderField[]): string[] {
  return valuesOf(fields, 'transfer-encoding')
    .flatMap(listOf)
    .filter((coding) => coding !== 'chunked' && coding !== '');
}

/**
 * CGI and its kin (Rack, WSGI, PHP) take `_`, and some of them `.` and others, for `-` in a field's name: so must whoever
 * takes one out. The name is in lower case.
 */
export function plainName(name: string): string {
  return name.replaceAll(/[^a-z\d]/gu, '-');
}

/** Whether a field, by its plain name, says of a client what only the proxy knows: of clients it is never passed on. */
export function isProxysOwn(name: string): boolean {
  return PROXYS_OWN.test(name) || OTHER_NAMES.has(name);
}

/** Names that begin so are the proxy's own, with whatever follows a hyphen. */
const PROXYS_OWN = /^(?:x-forwarded|x-ssl-client)(?:-.*)?$/u;

/**
 * Other names by which servers, load balancers and CDNs state the address of a client, or the host and path that it asked for.
 * Rails reads `Client-IP` beside `X-Forwarded-For`; rate limits and access logs are often configured to read one of the others.
 */
const OTHER_NAMES: ReadonlySet<string> = new Set([
  'forwarded',
  'x-real-ip',
  'client-ip',
  'x-client-ip',
  'true-client-ip',
  'cf-connecting-ip',
  'cf-connecting-ipv6',
  'fastly-client-ip',
  'x-cluster-client-ip',
  'x-remote-ip',
  'x-remote-addr',
  'proxy-client-ip',
  'wl-proxy-client-ip',
  'x-appengine-user-ip',
  'x-appengine-remote-addr',
  'x-azure-clientip',
  'x-azure-socketip',
  'x-envoy-external-address',
  'x-original-forwarded-for',
  'x-original-host',
  'x-original-url',
  'x-rewrite-url',
]);

/** The values of a field. */
export function valuesOf(fields: readonly HeaderField[], wanted: string): string[] {
  return fields.flatMap(([name, value]) => (name === wanted ? [value] : []));
}

/** Fields as Node takes them: several of a name become several lines. */
export type OutgoingFields = Record<string, string | string[]>;

/**
 * Puts the lines of a name together into one, but those of Set-Cookie, of which each stays (RFC 9110 section 5.3). Node
 * refuses to send two lines of many a name over HTTP/2.
 */
export function oneLineEach(fields: readonly HeaderField[]): HeaderField[] {
  const joined = new Map<string, string>();
  for (const [name, value] of fields) {
    const before = joined.get(name);
    if (name !== 'set-cookie') joined.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return [...joined, ...fields.filter(([name]) => name === 'set-cookie')];
}

/** Puts fields together, in their order. */
export function outgoing(fields: readonly HeaderField[]): OutgoingFields {
  const together = new Map<string, string | string[]>();
  for (const [name, value] of fields) {
    const before = together.get(name);
    together.set(name, before === undefined ? value : [before, value].flat());
  }
  return Object.fromEntries(together);
}

/**
 * The trailers that may go on. RFC 9110 section 6.5.1: none that is needed for framing, routing, authentication or
 * content; and none that says what only the proxy may say.
 */
export function passedTrailers(rawTrailers: readonly string[]): HeaderField[] {
  return endToEnd(fieldsOf(rawTrailers)).filter(([name]) => {
    const plain = plainName(name);
    return !NO_TRAILER.test(plain) && !isProxysOwn(plain);
  });
}

const NO_TRAILER =
  /^(?:content-.*|host|authorization|cookie|set-cookie|expect|max-forwards|range|location|cache-control|age|date|expires|vary|via|www-authenticate|private-token|gitlab-shell-api-request)$/u;
