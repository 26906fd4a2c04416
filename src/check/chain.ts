import type { X509Certificate } from 'node:crypto';

/** How far the certificates that a server sent lead to an authority that is trusted. */
export interface FollowedChain {
  /** From the leaf on, each the issuer of the one before; with the trusted one at the end where it was reached. */
  readonly path: readonly X509Certificate[];
  /** `trusted`; `unknown_root`: it ends with one that issued itself and is not trusted; `no_issuer`: it breaks off. */
  readonly end: 'trusted' | 'unknown_root' | 'no_issuer';
}

/** A chain of more is none of this world; and two authorities may have issued each other. */
const MAX_CHAIN = 16;

/** Looks for each certificate's issuer, among the trusted ones first, then among those that were sent, in any order. */
export function followChain(
  leaf: X509Certificate,
  sent: readonly X509Certificate[],
  anchors: readonly X509Certificate[],
): FollowedChain {
  const path = [leaf];
  let current = leaf;
  while (path.length < MAX_CHAIN) {
    const last = current;
    const isLast = ({ fingerprint256 }: X509Certificate): boolean => fingerprint256 === last.fingerprint256;
    if (anchors.some(isLast)) return { path, end: 'trusted' };
    const anchor = anchors.find((candidate) => issued(candidate, last));
    if (anchor) return { path: [...path, anchor], end: 'trusted' };
    if (issued(last, last)) return { path, end: 'unknown_root' };
    const issuer = sent.find((candidate) => !path.includes(candidate) && issued(candidate, last));
    if (!issuer) return { path, end: 'no_issuer' };
    path.push(issuer);
    current = issuer;
  }
  return { path, end: 'no_issuer' };
}

function issued(issuer: X509Certificate, certificate: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
