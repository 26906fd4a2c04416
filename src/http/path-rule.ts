import { isUtf8 } from 'node:buffer';

/** How often a path may be percent-encoded over again: nobody who means well does it more than twice. */
const READINGS_MAX = 3;

/**
 * Whether a path (the part of a target before `?`) lies below one of these beginnings for whoever reads it.
 *
 * Servers read paths differently: some decode them once, some twice, some take `\` for `/`, some leave off what follows a
 * `;`, some put `//` together. So the path must begin with the prefix as it came, and in none of these readings may it
 * hold what leads out of it again: without a `..` nothing does. What nobody can read in a second way is not judged:
 * the path goes upstream as it came.
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
  for (let readings = 0; readings <= READINGS_MAX; readings++) {
    // Bytes that are no UTF-8 may be `/` or `.` in disguise (RFC 3629 section 10).
    if (hasControl(reading) || hasParentSegment(reading) || !isUtf8(Buffer.from(reading, 'latin1')))
      return false;
    const decoded = decodeBytes(reading);
    if (decoded === reading) return true;
    reading = decoded;
  }
  return false;
}

function hasControl(text: string): boolean {
  return /[\0-\x1f\x7f]/u.test(text);
}

function hasParentSegment(text: string): boolean {
  return text.split(/[/\\]/u).some((segment) => segment.split(';', 1)[0] === '..');
}

/** One character a byte, as in the path itself. */
function decodeBytes(text: string): string {
  return text.replace(/%([0-9a-f]{2})/giu, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
}
