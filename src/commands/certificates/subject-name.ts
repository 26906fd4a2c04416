import { isIP } from 'node:net';

/** A name for the Subject Alternative Names of a certificate. */
export interface SubjectName {
  readonly kind: 'dns' | 'ip' | 'url';
  readonly value: string;
}

/** RFC 5280 appendix A.1, ub-common-name. */
export const MAX_COMMON_NAME_LENGTH = 64;

/** RFC 1123 section 2.1 with the underscore that many networks use; the whole leftmost label may be a wildcard. */
const DNS_NAME =
  /^(?=.{1,253}$)(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/iu;
const URI = /^[a-z][a-z0-9+.-]*:\/\/[\x21-\x7e]+$/iu;

/**
 * Reads a name of `certificates create`: a host name, an IP address (IPv6 with or without brackets), or a URI such as
 * SPIFFE's.
 * @returns `undefined` for any other text
 */
export function readSubjectName(text: string): SubjectName | undefined {
  const address = text.replace(/^\[(.*)\]$/u, '$1');
  if (isIP(address) !== 0) return { kind: 'ip', value: address };
  if (URI.test(text)) return { kind: 'url', value: text };
  return DNS_NAME.test(text) ? { kind: 'dns', value: text.toLowerCase() } : undefined;
}

/** The file name of a certificate with this name, without the extension. */
export function fileNameOf({ value }: SubjectName): string {
  return value.replaceAll('*', 'wildcard').replaceAll(/[^a-z0-9._-]+/giu, '-');
}
