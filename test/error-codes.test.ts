import { expect, test } from 'vitest';

import { codeOf, codeOrMessage, isHttpParserCode, tlsFaultOf, type TlsFault } from '../src/error-codes.js';

test('an error without a code has an empty code, and is described by its message', () => {
  const coded = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
  expect([codeOf(coded), codeOrMessage(coded)]).toEqual(['ECONNRESET', 'ECONNRESET']);
  expect([codeOf(new Error('plain')), codeOrMessage(new Error('plain'))]).toEqual(['', 'plain']);
  // The code of an abort is a number.
  expect(codeOf(new DOMException('aborted', 'AbortError'))).toBe('');
  expect([codeOf(undefined), codeOrMessage('text')]).toEqual(['', 'text']);
});

test.each<[string, TlsFault | undefined]>([
  ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'refused_certificate'],
  ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED', 'refused_certificate'],
  ['ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_REVOKED', 'refused_certificate'],
  ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'refused_certificate'],
  ['ERR_SSL_TLSV1_ALERT_ACCESS_DENIED', 'refused_certificate'],
  ['ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE', 'refused_handshake'],
  ['ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', 'refused_version'],
  ['ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL', 'refused_alpn'],
  ['ERR_SSL_TLSV1_UNRECOGNIZED_NAME', 'refused_name'],
  ['ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR', 'refused_otherwise'],
  ['ERR_SSL_UNSUPPORTED_PROTOCOL', 'unsupported_version'],
  ['ERR_SSL_VERSION_TOO_LOW', 'unsupported_version'],
  ['ERR_SSL_INAPPROPRIATE_FALLBACK', 'unsupported_version'],
  ['ERR_SSL_NO_SHARED_CIPHER', 'no_common_cipher'],
  ['ERR_SSL_NO_SHARED_SIGNATURE_ALGORITHMS', 'no_common_cipher'],
  ['ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM', 'no_common_cipher'],
  ['ERR_SSL_NO_SUITABLE_KEY_SHARE', 'no_common_cipher'],
  ['ERR_SSL_NO_APPLICATION_PROTOCOL', 'no_common_alpn'],
  ['ERR_SSL_HTTP_REQUEST', 'http_request'],
  ['ERR_SSL_HTTPS_PROXY_REQUEST', 'http_request'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'not_a_record'],
  ['ERR_SSL_PACKET_LENGTH_TOO_LONG', 'invalid_record'],
  ['ERR_SSL_UNEXPECTED_MESSAGE', 'invalid_record'],
  ['ERR_SSL_RECORD_TOO_SMALL', 'invalid_record'],
  ['ERR_SSL_BAD_SIGNATURE', 'other'],
  ['ECONNRESET', undefined],
  ['ERR_TLS_CERT_ALTNAME_INVALID', undefined],
  ['', undefined],
])('the TLS fault of %s is %s', (code, fault) => {
  expect(tlsFaultOf(code)).toBe(fault);
});

test.each([
  ['HPE_INVALID_CONSTANT', true],
  ['ERR_HTTP2_ERROR', true],
  ['HPE_INVALID_EOF_STATE', false],
  ['ECONNRESET', false],
])('%s is a code of an HTTP parser: %s', (code, expected) => {
  expect(isHttpParserCode(code)).toBe(expected);
});
