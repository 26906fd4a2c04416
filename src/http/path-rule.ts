import { isUtf8 } from 'node:buffer';

/** How many times a path may be percent-encoded on top of itself. No correct client does it more than twice. */
const READINGS_MAX = 3;

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
  for (let readings = 0; readings <= READINGS_MAX; readings++) {
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
