import { METHODS } from 'node:http';

import { MAX_HEADER_FIELDS } from '../limits.js';
import { fieldsOf, foreignCodings, valuesOf } from './hop-by-hop.js';
import type { HttpRequest } from './message.js';
import { isBelow } from './path-rule.js';
import type { RefusalReason } from './refusal.js';
import { passesContent } from './request-headers.js';
import { pathOf, type RequestTarget } from './request-target.js';

/** Whether the version that an HTTP/1.1 message states is one of those that are forwarded. */
export function isVersionServed(httpVersion: string): boolean {
  return httpVersion === '1.0' || httpVersion === '1.1';
}

/**
 * Returns the reason that a request must be refused because of its header, or `undefined`. `paths`: the prefixes of the allowed
 * paths, if paths are restricted.
 */
export function reasonToRefuse(
  request: HttpRequest,
  target: RequestTarget | undefined,
  paths: readonly string[] | undefined,
): RefusalReason | undefined {
  const { method, protocol, httpVersion, rawHeaders } = request;
  if (protocol === 'http1' && !isVersionServed(httpVersion)) return 'version';
  if (rawHeaders.length > 2 * MAX_HEADER_FIELDS) return 'header_too_large';
  const fields = fieldsOf(rawHeaders);
  const codings = valuesOf(fields, 'transfer-encoding');
  // HTTP/1.0 has no chunks: sending them is a smuggling attempt.
  if (httpVersion === '1.0' && codings.length > 0) return 'malformed';
  // RFC 9112 section 6.1: an unknown coding gets 501; a coding after `chunked`, or a second `chunked`, is malformed.
  if (foreignCodings(fields).length > 0) return 'transfer_coding';
  if (codings.length > 0 && codings.join().toLowerCase() !== 'chunked') return 'malformed';
  if (request.expectation === 'unknown') return 'expectation';
  if (!METHODS.includes(method) || method === 'CONNECT' || method === 'TRACE') return 'method';
  if (!target) return 'malformed';
  // RFC 9110 section 9.3.1: the content of a GET has no meaning. It is a smuggling attempt.
  if (!passesContent(request) && statesContent(request)) return 'malformed';
  if (paths && !isBelow(pathOf(target), paths)) return 'path';
  return undefined;
}

/** The header of an HTTP/2 request need not state whether content follows: `ClientSide.endsWithoutContent` waits for it. */
function statesContent({ protocol, rawHeaders, hasContent }: HttpRequest): boolean {
  const [length] = valuesOf(fieldsOf(rawHeaders), 'content-length');
  return protocol === 'http2' ? Number(length ?? 0) > 0 : hasContent;
}
