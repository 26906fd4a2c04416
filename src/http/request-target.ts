import { isHost } from './host.js';
import { fieldsOf, valuesOf } from './hop-by-hop.js';
import type { HttpRequest } from './message.js';

/** Where a request goes to. */
export interface RequestTarget {
  /** The path and the query, as they came. */
  readonly path: string;
  /** The host that the client named, with its port if it named that; `undefined` if it named none. */
  readonly host: string | undefined;
}

/** RFC 9112 section 3.2.2; RFC 9110 section 4.2: the scheme is http or https. */
const ABSOLUTE_FORM = /^https?:\/\/([^/?]*)(.*)$/iu;

/**
 * Reads where a request goes to, or `undefined` if that can be read in two ways: several hosts, a fragment, bytes that no
 * URI has. The authority form (CONNECT) is none of what can be passed on.
 */
export function requestTarget(request: HttpRequest): RequestTarget | undefined {
  const hosts = namedHosts(request);
  // HTTP/2 has it in a field of its own.
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

/** The path of a target, without the query, which may hold secrets. */
export function pathOf({ path }: RequestTarget): string {
  return path.split('?', 1)[0] ?? '';
}

/** The values of Host, and of `:authority` in HTTP/2, where they may stand beside each other if they are the same. */
function namedHosts({ rawHeaders, protocol }: HttpRequest): string[] {
  const fields = fieldsOf(rawHeaders);
  const hosts = valuesOf(fields, 'host');
  if (protocol === 'http2') return [...valuesOf(fields, ':authority'), ...hosts];
  // Several of them are malformed even if they are the same.
  return hosts.length > 1 ? [...hosts, ''] : hosts;
}
