import { readDer, readTime, TAG } from './der.js';

/**
 * When a certificate revocation list must have been replaced (RFC 5280 section 5.1): `undefined` if it does not say.
 * Reads as far as that date and no further; whether the rest is sound is the TLS library's to judge.
 *
 * @param der - a `CertificateList`.
 * @throws Error if it is none.
 */
export function crlNextUpdate(der: Buffer): Date | undefined {
  const list = readDer(der, TAG.sequence);
  // tbsCertList: version (optional), signature, issuer, thisUpdate, nextUpdate (optional), …
  let rest = readDer(list.content, TAG.sequence).content;
  if (rest[0] === TAG.integer) rest = readDer(rest, TAG.integer).rest;
  rest = readDer(rest, TAG.sequence).rest;
  rest = readDer(rest, TAG.sequence).rest;
  const thisUpdate = readDer(rest, TAG.utcTime, TAG.generalizedTime);
  readTime(thisUpdate);
  const [tag] = thisUpdate.rest;
  if (tag !== TAG.utcTime && tag !== TAG.generalizedTime) return undefined;
  return readTime(readDer(thisUpdate.rest, tag));
}
