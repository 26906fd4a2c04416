import { isUtf8 } from 'node:buffer';

import { MAX_PATH_READINGS } from '../limits.js';

/**
 * Whether a path (the part of a target before `?`) is below one of these prefixes for every server that may read it.
 *
 * Servers read paths differently: some decode them once, some twice, some normalise Unicode, some take `\` for `/`, some cut a
 * segment at `;`, or the path at an encoded `?` or `#`, some merge `//`. So the path must begin with the prefix as it came,
 * and in none of these readings may it contain a segment that leads out again: without `..` nothing does.
 */
export function isBelow(path: string, prefixes: readonly string[]): boolean {
  return prefixes.some((prefix) => beginsWith(path, prefix)) && staysBelow(path);
}

function beginsWith(path: string, prefix: string): boolean {
  // `/api` is /api and what is below it, and not /apiary.
  return prefix.endsWith('/') ? path.startsWith(prefix) : path === prefix || path.startsWith(`${prefix}/`);
}

function staysBelow(path: string): boolean {
  // RFC 3986 section 2.1: a `%` is followed by two hexadecimal digits; readings of anything else differ.
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

/** One character a byte, as in the path itself. */
function decodeBytes(text: string): string {
  return text.replace(/%([0-9a-f]{2})/giu, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
}
