import type { X509Certificate } from 'node:crypto';

import { certificateIdentity } from '../tls/certificate-names.js';
import { oneLineName } from '../tls/pem-files.js';
import type { Field } from './hop-by-hop.js';

/** A name may fill a certificate; what reads it is a header of 16 KiB. */
const VALUE_LENGTH_MAX = 1024;

/**
 * What upstream is told of a client's certificate, which has been verified; `undefined`: it presented none. The names are
 * those that NGINX configurations commonly have.
 */
export function clientCertificateFields(certificate: X509Certificate | undefined): Field[] {
  if (!certificate) return [['x-ssl-client-verify', 'NONE']];
  return [
    ['x-ssl-client-verify', 'SUCCESS'],
    ['x-ssl-client-identity', fieldValue(certificateIdentity(certificate))],
    ['x-ssl-client-s-dn', fieldValue(oneLineName(certificate.subject))],
    ['x-ssl-client-i-dn', fieldValue(oneLineName(certificate.issuer))],
    ['x-ssl-client-serial', certificate.serialNumber],
    ['x-ssl-client-fingerprint', certificate.fingerprint256.replaceAll(':', '').toLowerCase()],
  ];
}

/** RFC 9110 section 5.5: visible ASCII and spaces within. All other characters, and `%`, are percent-encoded. */
function fieldValue(text: string): string {
  return text
    .slice(0, VALUE_LENGTH_MAX)
    .replace(/[^ !-$&-~]/gu, (character) =>
      [...Buffer.from(character)]
        .map((byte) => `%${byte.toString(16).padStart(2, '0').toUpperCase()}`)
        .join(''),
    )
    .trim();
}
