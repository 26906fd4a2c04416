import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';

/** The names of a certificate that count: its Subject Alternative Names. The Common Name does not. */
export interface CertificateNames {
  /** Lower case; may begin with `*.`. */
  readonly dns: readonly string[];
  readonly ip: readonly string[];
  readonly uri: readonly string[];
}

/** Splits at commas outside of quotes: Node quotes (as JSON) a name that itself holds a comma or a quote. */
function splitNames(text: string): string[] {
  return text.match(/(?:[^,"]|"(?:[^"\\]|\\.)*")+/g)?.map((part) => part.trim()) ?? [];
}

/** Reads the SANs out of Node's text form (`DNS:a, IP Address:127.0.0.1, URI:spiffe://…`). */
export function certificateNames(certificate: X509Certificate): CertificateNames {
  const dns: string[] = [];
  const ip: string[] = [];
  const uri: string[] = [];
  for (const entry of splitNames(certificate.subjectAltName ?? '')) {
    const colon = entry.indexOf(':');
    const kind = entry.slice(0, colon);
    const value = entry.slice(colon + 1);
    // A quoted name holds characters that no host name has; it can never match one.
    if (colon < 0 || value.startsWith('"')) continue;
    if (kind === 'DNS') dns.push(value.toLowerCase());
    else if (kind === 'IP Address') ip.push(value);
    else if (kind === 'URI') uri.push(value);
  }
  return { dns, ip, uri };
}

/** A certificate may hold thousands of names; a message needs some of them. */
const MAX_NAMES_TOLD = 20;

/** The names for a message: `gitaly-a.internal, 10.0.0.1`, or `none`. */
export function describeNames(names: CertificateNames): string {
  const all = [...names.dns, ...names.ip, ...names.uri];
  if (all.length === 0) return 'none';
  const told = all.slice(0, MAX_NAMES_TOLD).join(', ');
  return all.length > MAX_NAMES_TOLD ? `${told} and ${all.length - MAX_NAMES_TOLD} more` : told;
}

/** Whether a SAN of a certificate holds the name; the Common Name never counts, as for Gitaly's own clients. */
export function holdsName(certificate: X509Certificate, name: string): boolean {
  if (isIP(name) !== 0) return certificate.checkIP(name) !== undefined;
  return certificate.checkHost(name, { subject: 'never', partialWildcards: false }) !== undefined;
}

/**
 * Who a verified certificate is, for the log: its first URI (SPIFFE), else its first DNS name, else the subject's
 * Common Name, else the whole subject. An identity to read, not one to decide by.
 */
export function certificateIdentity(certificate: X509Certificate): string {
  const names = certificateNames(certificate);
  const named = names.uri[0] ?? names.dns[0];
  if (named !== undefined) return named;
  const commonName = /^CN=(.*)$/m.exec(certificate.subject)?.[1];
  return commonName ?? certificate.subject.trim().split('\n').join(', ');
}
