/**
 * Fields that apply to one connection (RFC 9110 section 7.6.1 and its predecessors): an intermediary removes them. `Trailer` is not
 * one of them, but is meaningful only if trailers can follow.
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

/** The fields of a header, from alternating names and values. */
export function fieldsOf(rawHeaders: readonly string[]): HeaderField[] {
  const fields: HeaderField[] = [];
  for (let index = 0; index + 1 < rawHeaders.length; index += 2)
    fields.push([rawHeaders[index]?.toLowerCase() ?? '', rawHeaders[index + 1] ?? '']);
  return fields;
}

/** The end-to-end fields: without hop-by-hop fields and those that `Connection` names. */
export function endToEnd(fields: readonly HeaderField[]): HeaderField[] {
  const named = new Set(fields.flatMap(([name, value]) => (name === 'connection' ? listOf(value) : [])));
  return fields.filter(([name]) => !HOP_BY_HOP.has(plainName(name)) && !named.has(name));
}

/** The members of a comma-separated field, in lower case. */
export function listOf(value: string): string[] {
  return value
    .toLowerCase()
    .split(',')
    .map((word) => word.trim());
}

/** The transfer codings of a message besides `chunked`. An intermediary that removes `Transfer-Encoding` must decode them. */
export function foreignCodings(fields: readonly HeaderField[]): string[] {
  return valuesOf(fields, 'transfer-encoding')
    .flatMap(listOf)
    .filter((coding) => coding !== 'chunked' && coding !== '');
}

/**
 * Returns a field name, given in lower case, as CGI and similar interfaces (Rack, WSGI, PHP) read it. They treat `_`, and some of
 * them `.` and other characters, like `-`, so a check that removes fields must do the same.
 */
export function plainName(name: string): string {
  return name.replaceAll(/[^a-z\d]/gu, '-');
}

/** Whether a field, by its plain name, states facts about a client that only the proxy knows. It is never accepted from clients. */
export function isProxysOwn(name: string): boolean {
  return PROXYS_OWN.test(name) || OTHER_NAMES.has(name);
}

/** The proxy's own names, alone or followed by a hyphen and more. */
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

export function valuesOf(fields: readonly HeaderField[], wanted: string): string[] {
  return fields.flatMap(([name, value]) => (name === wanted ? [value] : []));
}

/** Fields in the form that Node accepts: several values of a name become several lines. */
export type OutgoingFields = Record<string, string | string[]>;

/**
 * Joins the lines of each name into one, except those of Set-Cookie (RFC 9110 section 5.3). For many names Node refuses to send two
 * lines over HTTP/2.
 */
export function oneLineEach(fields: readonly HeaderField[]): HeaderField[] {
  const joined = new Map<string, string>();
  for (const [name, value] of fields) {
    const before = joined.get(name);
    if (name !== 'set-cookie') joined.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return [...joined, ...fields.filter(([name]) => name === 'set-cookie')];
}

/** Groups fields by name, in their order. */
export function outgoing(fields: readonly HeaderField[]): OutgoingFields {
  const together = new Map<string, string | string[]>();
  for (const [name, value] of fields) {
    const before = together.get(name);
    together.set(name, before === undefined ? value : [before, value].flat());
  }
  return Object.fromEntries(together);
}

/**
 * The trailers that are forwarded. RFC 9110 section 6.5.1 excludes fields that are needed for framing, routing, authentication or
 * content. Fields that only the proxy may set are excluded, too.
 */
export function passedTrailers(rawTrailers: readonly string[]): HeaderField[] {
  return endToEnd(fieldsOf(rawTrailers)).filter(([name]) => {
    const plain = plainName(name);
    return !NO_TRAILER.test(plain) && !isProxysOwn(plain);
  });
}

const NO_TRAILER =
  /^(?:content-.*|host|authorization|cookie|set-cookie|expect|max-forwards|range|location|cache-control|age|date|expires|vary|via|www-authenticate|private-token|gitlab-shell-api-request)$/u;
