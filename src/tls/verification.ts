import type { TLSSocket } from 'node:tls';
import { codeOrMessage } from '../error-codes.js';

/** The reason why a peer's certificate was not accepted, as a closed set of labels. */
export type CertificateFault =
  | 'unknown_authority'
  | 'expired'
  | 'not_yet_valid'
  | 'revoked'
  | 'invalid_purpose'
  | 'invalid_authority'
  | 'name_constraints'
  | 'critical_extension'
  | 'weak_signature'
  | 'weak_key'
  | 'crl'
  | 'name_mismatch'
  | 'other';

/** OpenSSL's verification errors (`X509_V_ERR_…` without the prefix). */
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
  INVALID_CA: 'invalid_authority',
  PATH_LENGTH_EXCEEDED: 'invalid_authority',
  KEYUSAGE_NO_CERTSIGN: 'invalid_authority',
  PERMITTED_VIOLATION: 'name_constraints',
  EXCLUDED_VIOLATION: 'name_constraints',
  SUBTREE_MINMAX: 'name_constraints',
  UNSUPPORTED_CONSTRAINT_TYPE: 'name_constraints',
  UNSUPPORTED_CONSTRAINT_SYNTAX: 'name_constraints',
  UNSUPPORTED_NAME_SYNTAX: 'name_constraints',
  UNHANDLED_CRITICAL_EXTENSION: 'critical_extension',
  CA_MD_TOO_WEAK: 'weak_signature',
  EE_KEY_TOO_SMALL: 'weak_key',
  CA_KEY_TOO_SMALL: 'weak_key',
  EC_KEY_EXPLICIT_PARAMS: 'weak_key',
  UNABLE_TO_GET_CRL: 'crl',
  CRL_HAS_EXPIRED: 'crl',
  CRL_NOT_YET_VALID: 'crl',
  CRL_SIGNATURE_FAILURE: 'crl',
};

/** The errors that Node reports as `UNSPECIFIED`, by their OpenSSL text (crypto/x509/x509_txt.c). */
const UNNAMED: Readonly<Record<string, string>> = {
  'permitted subtree violation': 'PERMITTED_VIOLATION',
  'excluded subtree violation': 'EXCLUDED_VIOLATION',
  'name constraints minimum and maximum not supported': 'SUBTREE_MINMAX',
  'unsupported name constraint type': 'UNSUPPORTED_CONSTRAINT_TYPE',
  'unsupported or invalid name constraint syntax': 'UNSUPPORTED_CONSTRAINT_SYNTAX',
  'unsupported or invalid name syntax': 'UNSUPPORTED_NAME_SYNTAX',
  'unhandled critical extension': 'UNHANDLED_CRITICAL_EXTENSION',
  'key usage does not include certificate signing': 'KEYUSAGE_NO_CERTSIGN',
  'invalid non-CA certificate (has CA markings)': 'INVALID_NON_CA',
  'proxy path length constraint exceeded': 'PROXY_PATH_LENGTH_EXCEEDED',
  'proxy certificates not allowed, please set the appropriate flag': 'PROXY_CERTIFICATES_NOT_ALLOWED',
  'invalid or inconsistent certificate extension': 'INVALID_EXTENSION',
  'invalid or inconsistent certificate policy extension': 'INVALID_POLICY_EXTENSION',
  'no explicit policy': 'NO_EXPLICIT_POLICY',
  'CA signature digest algorithm too weak': 'CA_MD_TOO_WEAK',
  'EE certificate key too weak': 'EE_KEY_TOO_SMALL',
  'CA certificate key too weak': 'CA_KEY_TOO_SMALL',
  'Certificate public key has explicit ECC parameters': 'EC_KEY_EXPLICIT_PARAMS',
  'Cannot find certificate signature algorithm': 'UNSUPPORTED_SIGNATURE_ALGORITHM',
  'subject signature algorithm and issuer public key algorithm mismatch': 'SIGNATURE_ALGORITHM_MISMATCH',
  'cert info signature and signature algorithm mismatch': 'SIGNATURE_ALGORITHM_INCONSISTENCY',
  'path validation error': 'PATH_VALIDATION_ERROR',
};

/** OpenSSL's verdict on the peer's certificate. */
export interface Verification {
  /** OpenSSL's name of the error, or its text. */
  readonly code: string;
  readonly fault: CertificateFault;
}

/** The verdict by an error's name. */
export function verificationOf(code: string): Verification {
  return { code, fault: Object.hasOwn(FAULTS, code) ? (FAULTS[code] ?? 'other') : 'other' };
}

/** The reason why the peer's certificate was not verified; `undefined` if it was. */
export function failedVerification(
  socket: Pick<TLSSocket, 'authorized' | 'authorizationError'>,
): Verification | undefined {
  if (socket.authorized) return undefined;
  const code = nameOf(socket.authorizationError);
  if (code !== 'UNSPECIFIED') return verificationOf(code);
  const text = openSslText(socket);
  return verificationOf(
    text === undefined ? code : Object.hasOwn(UNNAMED, text) ? (UNNAMED[text] ?? text) : text,
  );
}

/** Depending on the side, Node returns the name of a failed verification as a string or wrapped in an error. */
function nameOf(error: unknown): string {
  if (typeof error === 'string') return error;
  if (!(error instanceof Error)) return 'UNSPECIFIED';
  return codeOrMessage(error);
}

/**
 * OpenSSL's text of the error: Node names only some of OpenSSL's errors and drops the text. The handle that has it is not
 * documented; without it the error remains unspecified. A test on every supported Node would detect a change.
 */
function openSslText(socket: object): string | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null) return undefined;
  const verifyError: unknown = Reflect.get(handle, 'verifyError');
  if (typeof verifyError !== 'function') return undefined;
  const error: unknown = Reflect.apply(verifyError, handle, []);
  return error instanceof Error ? error.message : undefined;
}
