import { METHODS } from 'node:http';
import { isUtf8 } from 'node:buffer';

import { MAX_HEADER_FIELDS, MAX_PATH_READINGS } from '../limits.js';
import { fieldsOf, foreignCodings, valuesOf } from './hop-by-hop.js';
import type { HttpRequest } from './message.js';
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

/**
 * Whether a path (the part of a target before `?`) is below one of these prefixes for every server that may read it.
 *
 * Servers read paths differently: some decode them once, some twice, some normalise Unicode, some treat `\` like `/`, some cut a
 * segment at `;`, or the path at an encoded `?` or `#`, some merge `//`. The path as received must therefore begin with the prefix,
 * and must not contain a segment that leaves the prefix in any of these readings. Only `..` can leave it.
 */
export function isBelow(path: string, prefixes: readonly string[]): boolean {
  return prefixes.some((prefix) => beginsWith(path, prefix)) && staysBelow(path);
}

function beginsWith(path: string, prefix: string): boolean {
  // `/api` matches /api and paths below it, but not /apiary.
  return prefix.endsWith('/') ? path.startsWith(prefix) : path === prefix || path.startsWith(`${prefix}/`);
}

function staysBelow(path: string): boolean {
  // RFC 3986 section 2.1: a `%` is followed by two hexadecimal digits. Servers differ on anything else.
  if (/%(?![0-9a-f]{2})/iu.test(path)) return false;
  let reading = path;
  for (let readings = 0; readings <= MAX_PATH_READINGS; readings++) {
    const bytes = Buffer.from(reading, 'latin1');
    // Bytes that are not UTF-8 may be a `/` or `.` in disguise (RFC 3629 section 10); so may compatibility characters.
    if (!isUtf8(bytes) || hasControl(reading) || hasParentSegment(reading)) return false;
    if (hasParentSegment(bytes.toString().normalize('NFKC'))) return false;
    const decoded = decodeBytes(reading);
    if (decoded === reading) return true;
    reading = decoded;
  }
  return false;
}

function hasControl(text: string): boolean {
  return /[\0-\x1f\x7f]/u.test(text);
}

/** A `..` at the beginning of a segment, unless it is the beginning of a longer name. */
const PARENT = /(?:^|[/\\])\s*\.\.(?![\p{L}\p{N}._~-])/u;

function hasParentSegment(text: string): boolean {
  return PARENT.test(text);
}

/** Percent-decodes a path to one character per byte, as in the path itself. */
function decodeBytes(text: string): string {
  return text.replace(/%([0-9a-f]{2})/giu, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
}
