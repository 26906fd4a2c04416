import { MAX_CLIENT_CERTIFICATES, MAX_RSA_EXPONENT, MAX_RSA_KEY_BITS } from '../limits.js';
import { Certificate } from '../x509/certificate.js';

/** The curves that are allowed for keys of Gitaly's clients, by their OpenSSL names. */
const CURVES = ['prime256v1', 'secp384r1', 'secp521r1'];

/**
 * Returns why the certificates that a client sent are too expensive to verify, if they are. OpenSSL verifies each certificate's
 * signature with the key of the next one, whatever the result for the first, and Node does not limit their number or key types.
 *
 * @param certificates - DER, as the client sent them.
 */
export function chainFault(certificates: readonly Buffer[]): string | undefined {
  if (certificates.length > MAX_CLIENT_CERTIFICATES)
    return `the client sent ${certificates.length} certificates, the limit is ${MAX_CLIENT_CERTIFICATES}`;
  for (const [index, der] of certificates.entries()) {
    const fault = keyFault(der);
    if (fault !== undefined) return `certificate ${index + 1} of the client ${fault}`;
  }
  return undefined;
}

function keyFault(der: Buffer): string | undefined {
  let key;
  try {
    key = new Certificate(der).publicKey;
  } catch {
    return 'cannot be read, or has an unreadable key';
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  switch (type) {
    case 'rsa':
    case 'rsa-pss': {
      const bits = details?.modulusLength ?? Number.POSITIVE_INFINITY;
      if (bits > MAX_RSA_KEY_BITS) return `has an RSA key of ${bits} bits, the limit is ${MAX_RSA_KEY_BITS}`;
      return (details?.publicExponent ?? Number.POSITIVE_INFINITY) > MAX_RSA_EXPONENT
        ? `has an RSA key whose exponent is above ${MAX_RSA_EXPONENT}`
        : undefined;
    }
    case 'ec':
      return CURVES.includes(details?.namedCurve ?? '')
        ? undefined
        : 'has an EC key on another curve than P-256, P-384 and P-521';
    case 'ed25519':
      return undefined;
    default:
      return `has a key of type ${type ?? 'unknown'}`;
  }
}
