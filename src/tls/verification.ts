/** Why a peer's certificate was not accepted, as a closed set of labels. */
export type CertificateFault =
  | 'unknown_authority'
  | 'expired'
  | 'not_yet_valid'
  | 'revoked'
  | 'invalid_purpose'
  | 'crl'
  | 'name_mismatch'
  | 'other';

/** OpenSSL's verification errors, as Node names them (`X509_V_ERR_…` without the prefix). */
const FAULTS: Readonly<Record<string, CertificateFault>> = {
  UNABLE_TO_GET_ISSUER_CERT: 'unknown_authority',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'unknown_authority',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'unknown_authority',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'unknown_authority',
  SELF_SIGNED_CERT_IN_CHAIN: 'unknown_authority',
  CERT_UNTRUSTED: 'unknown_authority',
  CERT_SIGNATURE_FAILURE: 'unknown_authority',
  CERT_HAS_EXPIRED: 'expired',
  CERT_NOT_YET_VALID: 'not_yet_valid',
  CERT_REVOKED: 'revoked',
  INVALID_PURPOSE: 'invalid_purpose',
  UNABLE_TO_GET_CRL: 'crl',
  CRL_HAS_EXPIRED: 'crl',
  CRL_NOT_YET_VALID: 'crl',
  CRL_SIGNATURE_FAILURE: 'crl',
};

/** The label of a verification error. */
export function certificateFault(code: string): CertificateFault {
  return Object.hasOwn(FAULTS, code) ? (FAULTS[code] ?? 'other') : 'other';
}

/** Node has the code of a failed verification as text, or wrapped in an error, depending on the side. */
export function verificationCode(error: unknown): string {
  if (typeof error === 'string') return error;
  if (error instanceof Error)
    return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
  return 'UNSPECIFIED';
}
