import { readDer, TAG, type DerElement } from './der.js';

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

/** RFC 5280 section 5.1.2.4: UTC with seconds in both forms; two digits mean 1950 to 2049. */
function readTime({ tag, content }: DerElement): Date {
  const text = content.toString('latin1');
  const match = /^(\d{2}|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  const [, year = '', month, day, hour, minute, second] = match ?? [];
  if (!match || year.length !== (tag === TAG.utcTime ? 2 : 4)) throw new Error('not a time of RFC 5280');
  const century = tag === TAG.utcTime ? (Number(year) < 50 ? '20' : '19') : '';
  const date = new Date(`${century}${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(date.getTime())) throw new Error('not a date');
  return date;
}
