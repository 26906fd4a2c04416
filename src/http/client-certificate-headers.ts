import { percentEncoded } from '../percent-encoding.js';
import { MAX_CERTIFICATE_HEADER_LENGTH } from '../limits.js';
import { certificateIdentity } from '../x509/certificate-names.js';
import type { Certificate } from '../x509/certificate.js';
import type { HeaderField } from './hop-by-hop.js';

/**
 * Returns the headers about a client's verified certificate; `undefined` if the client presented none. The names are those that
 * NGINX configurations commonly use.
 *
 * A value that is missing or too long gets no header. It is not truncated, because a part of a name can be the name of another
 * client.
 */
export function clientCertificateFields(certificate: Certificate | undefined): HeaderField[] {
  if (!certificate) return [['x-ssl-client-verify', 'NONE']];
  const { subject, issuer, serialNumber, fingerprint256 } = certificate;
  return [
    ['x-ssl-client-verify', 'SUCCESS'],
    ...field('x-ssl-client-identity', certificateIdentity(certificate)),
    ...field('x-ssl-client-s-dn', subject),
    ...field('x-ssl-client-i-dn', issuer),
    ...field('x-ssl-client-serial', serialNumber.toUpperCase()),
    ...field('x-ssl-client-fingerprint', fingerprint256.replaceAll(':', '').toLowerCase()),
  ];
}

function field(name: string, text: string | undefined): HeaderField[] {
  const value = text === undefined ? '' : fieldValue(text);
  return value === '' || value.length > MAX_CERTIFICATE_HEADER_LENGTH ? [] : [[name, value]];
}

/**
 * RFC 9110 section 5.5: visible ASCII, and spaces between. All other characters, `%`, and leading and trailing spaces, which a
 * recipient would drop, are percent-encoded. The decoded value is exactly the text.
 */
function fieldValue(text: string): string {
  return percentEncoded(text).replace(/^ +| +$/g, (spaces) => '%20'.repeat(spaces.length));
}
