import { describe, expect, test } from 'vitest';

import { handshakeAdvice, handshakeFailure, type HandshakeFailure } from '../../src/tls/handshake-failure.js';
import { failedVerification, verificationOf } from '../../src/tls/verification.js';

describe('every code becomes one of the labels', () => {
  test.each<[string, HandshakeFailure]>([
    ['ERR_TLS_HANDSHAKE_TIMEOUT', 'timeout'],
    ['ECONNRESET', 'reset'],
    ['EPIPE', 'reset'],
    ['ERR_SSL_HTTP_REQUEST', 'not_tls'],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'not_tls'],
    ['ERR_SSL_NO_APPLICATION_PROTOCOL', 'no_application_protocol'],
    ['ERR_SSL_UNSUPPORTED_PROTOCOL', 'unsupported_version'],
    ['ERR_SSL_NO_SHARED_CIPHER', 'no_shared_cipher'],
    ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'certificate_rejected_by_client'],
    ['ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE', 'certificate_rejected_by_client'],
    ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED', 'certificate_rejected_by_client'],
    ['ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE', 'other'],
    ['', 'other'],
  ])('%s is %s', (code, failure) => {
    expect(handshakeFailure(code)).toBe(failure);
  });
});

test('what an operator can do something about comes with advice, the setting named', () => {
  expect(handshakeAdvice('no_application_protocol', ['h2'])).toMatch(/require_alpn: false/);
  expect(handshakeAdvice('no_application_protocol', ['h2', 'http/1.1'])).toMatch(/neither h2 nor http\/1\.1/);
  expect(handshakeAdvice('timeout', ['h2'])).toMatch(/timeouts\.handshake/);
  expect(handshakeAdvice('unsupported_version', ['h2'])).toMatch(/min_version/);
  expect(handshakeAdvice('not_tls', ['h2'])).toMatch(/a listener of its own without TLS/);
  expect(handshakeAdvice('certificate_rejected_by_client', ['h2'])).toMatch(/CA is missing there/);
  expect(handshakeAdvice('closed', ['h2'])).toBeUndefined();
  expect(handshakeAdvice('other', ['h2'])).toBeUndefined();
});

describe('verification', () => {
  test.each([
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'unknown_authority'],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'unknown_authority'],
    ['CERT_HAS_EXPIRED', 'expired'],
    ['CERT_NOT_YET_VALID', 'not_yet_valid'],
    ['CERT_REVOKED', 'revoked'],
    ['INVALID_PURPOSE', 'invalid_purpose'],
    ['UNABLE_TO_GET_CRL', 'crl'],
    ['CRL_HAS_EXPIRED', 'crl'],
    ['PATH_LENGTH_EXCEEDED', 'invalid_authority'],
    ['OUT_OF_MEM', 'other'],
    ['toString', 'other'],
    ['__proto__', 'other'],
  ])('%s is %s', (code, fault) => {
    expect(verificationOf(code)).toEqual({ code, fault });
  });

  test('the code is found in whatever Node gives', () => {
    const codeOf = (authorizationError: unknown): unknown =>
      failedVerification({ authorized: false, authorizationError: authorizationError as Error })?.code;
    expect(codeOf('CERT_REVOKED')).toBe('CERT_REVOKED');
    expect(codeOf(Object.assign(new Error('words'), { code: 'CERT_REVOKED' }))).toBe('CERT_REVOKED');
    expect(codeOf(new Error('CERT_REVOKED'))).toBe('CERT_REVOKED');
    expect(codeOf(null)).toBe('UNSPECIFIED');
  });
});
