import { isHost } from './host.js';
import { fieldsOf, valuesOf } from './hop-by-hop.js';
import type { HttpRequest } from './message.js';

/** The path and the host that a request asks for. */
export interface RequestTarget {
  /** The path and the query, as received. */
  readonly path: string;
  /** The host that the client named, with the port if there is one; `undefined` if the client named none. */
  readonly host: string | undefined;
}

/** RFC 9112 section 3.2.2; RFC 9110 section 4.2: the scheme is http or https. */
const ABSOLUTE_FORM = /^https?:\/\/([^/?]*)(.*)$/iu;

/**
 * Reads the target of a request. Returns `undefined` if it is ambiguous or invalid: several hosts, a fragment, bytes that a URI
 * cannot contain, or the authority form (CONNECT), which is not forwarded.
 */
export function requestTarget(request: HttpRequest): RequestTarget | undefined {
  const hosts = namedHosts(request);
  // HTTP/2 has the scheme in a field of its own.
  const schemes = valuesOf(fieldsOf(request.rawHeaders), ':scheme');
  if (schemes.some((scheme) => !/^https?$/iu.test(scheme))) return undefined;
  if (!/^[!-~]+$/u.test(request.url) || request.url.includes('#')) return undefined;
  let path = request.url;
  const [, authority, rest = ''] = ABSOLUTE_FORM.exec(path) ?? [];
  if (authority !== undefined) {
    hosts.push(authority);
    path = rest.startsWith('/') ? rest : `/${rest}`;
  } else if (!path.startsWith('/') && !(path === '*' && request.method === 'OPTIONS')) {
    return undefined;
  }
  // RFC 9112 section 3.2: "A server MUST respond with a 400 … to any request message that contains more than one Host header
  // field line or a Host header field with an invalid field value", and to one of HTTP/1.1 without it.
  const [host, ...others] = hosts;
  if (others.some((other) => other.toLowerCase() !== host?.toLowerCase())) return undefined;
  if (host === undefined) return request.httpVersion === '1.0' ? { path, host } : undefined;
  return isHost(host) ? { path, host } : undefined;
}

/** Returns the path of a target, without the query, which may contain secrets. */
export function pathOf({ path }: RequestTarget): string {
  return path.split('?', 1)[0] ?? '';
}

/** Returns the values of Host and, in HTTP/2, of `:authority`. HTTP/2 allows both if they are the same. */
function namedHosts({ rawHeaders, protocol }: HttpRequest): string[] {
  const fields = fieldsOf(rawHeaders);
  const hosts = valuesOf(fields, 'host');
  if (protocol === 'http2') return [...valuesOf(fields, ':authority'), ...hosts];
  // In HTTP/1.1 several Host fields are malformed even if they are the same.
  return hosts.length > 1 ? [...hosts, ''] : hosts;
}
