import { describe, expect, test } from 'vitest';

import type { Certificate } from '../../src/x509/certificate.js';
import {
  handshakeAdvice,
  handshakeFailure,
  whyRefused,
  type HandshakeFailure,
} from '../../src/tls/handshake-failure.js';
import { failedVerification, verificationOf } from '../../src/tls/verification.js';
import { oddCertificate, type OddName } from './odd-certificates.js';

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
    ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED', 'certificate_rejected_by_client'],
    ['ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE', 'other'],
    ['ERR_SSL_PACKET_LENGTH_TOO_LONG', 'other'],
    ['', 'other'],
  ])('%s is %s', (code, failure) => {
    expect(handshakeFailure(code)).toBe(failure);
  });
});

/** A certificate that is good for five years, for `gitaly.test` unless asked otherwise. */
function certificateOf(names: readonly OddName[] = [['dns', 'gitaly.test']]): Promise<Certificate> {
  return oddCertificate('CN=gitaly', names);
}

const WITHIN = new Date('2030-01-01T00:00:00Z');

test('what an operator can do something about comes with advice, the setting named', async () => {
  const certificate = await certificateOf();
  const advice = (failure: HandshakeFailure, protocols: readonly ('h2' | 'http/1.1')[] = ['h2']): string =>
    handshakeAdvice(failure, { protocols, certificate, serverName: 'gitaly.test' }, WITHIN) ?? '';
  expect(advice('no_application_protocol')).toMatch(/require_alpn: false/);
  expect(advice('no_application_protocol', ['h2', 'http/1.1'])).toMatch(/neither h2 nor http\/1\.1/);
  expect(advice('timeout')).toMatch(/timeouts\.handshake/);
  expect(advice('unsupported_version')).toMatch(/min_version/);
  expect(advice('not_tls')).toMatch(/a listener of its own without TLS/);
  expect(advice('certificate_rejected_by_client')).toMatch(/the client lacks its CA/);
  expect([advice('closed'), advice('other')]).toEqual(['', '']);
});

describe('a fault of our own certificate is reported first, whatever alert the client sends', () => {
  const FAILURES = ['certificate_rejected_by_client', 'closed', 'reset', 'other'] as const;
  test.each<[string, string | undefined, readonly OddName[], Date, RegExp]>([
    [
      'expired',
      'gitaly.test',
      [['dns', 'gitaly.test']],
      new Date('2040-01-01'),
      /certificate expired on 2036-01-01T00:00:00\.000Z, so clients refuse it: renew it/,
    ],
    [
      'expired and for another name',
      'other.test',
      [['dns', 'gitaly.test']],
      new Date('2040-01-01'),
      /expired/,
    ],
    [
      'not yet valid',
      'gitaly.test',
      [['dns', 'gitaly.test']],
      new Date('2020-01-01'),
      /is not valid before 2026-01-01.*clock/,
    ],
    [
      'for another name',
      'other.test',
      [['dns', 'gitaly.test']],
      WITHIN,
      /the client requested other\.test, which is not in the SAN .* its names are gitaly\.test/,
    ],
    [
      'with a Common Name alone',
      'gitaly',
      [],
      WITHIN,
      /the client requested gitaly, which is not in the SAN .* its names are none/,
    ],
    [
      'without an IP address, for a client that dials one',
      undefined,
      [['dns', 'gitaly.test']],
      WITHIN,
      /has no IP address as SAN; its names are gitaly\.test/,
    ],
  ])('%s', async (_name, serverName, names, now, advice) => {
    const certificate = await certificateOf(names);
    for (const failure of FAILURES)
      expect(handshakeAdvice(failure, { protocols: ['h2'], certificate, serverName }, now)).toMatch(advice);
  });

  test.each<[string, string | undefined, readonly OddName[]]>([
    ['with the root dot and in another case', 'Gitaly.TEST.', [['dns', 'gitaly.test']]],
    ['by its wildcard', 'a.gitaly.test', [['dns', '*.gitaly.test']]],
    ['with an IP address', undefined, [['ip', '10.0.0.1']]],
  ])('a name that it has is not: %s', async (_name, serverName, names) => {
    const presented = { certificate: await certificateOf(names), serverName };
    expect(whyRefused(presented, WITHIN)).toBeUndefined();
  });
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
