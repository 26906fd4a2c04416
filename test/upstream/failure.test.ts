import { describe, expect, test } from 'vitest';

import { UpstreamFailure, upstreamFailure, type UpstreamFailureReason } from '../../src/upstream/failure.js';

function systemError(code: string): Error {
  return Object.assign(new Error(`the library's words for ${code}`), { code });
}

describe('every error becomes one of the labels', () => {
  test.each<[string, UpstreamFailureReason]>([
    ['ECONNREFUSED', 'refused'],
    ['ETIMEDOUT', 'timeout'],
    ['ENOTFOUND', 'name_not_found'],
    ['EAI_AGAIN', 'name_not_found'],
    ['EHOSTUNREACH', 'unreachable'],
    ['ENETUNREACH', 'unreachable'],
    ['ENOENT', 'no_socket'],
    ['EACCES', 'permission'],
    ['ECONNRESET', 'reset'],
    ['EPIPE', 'reset'],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'tls'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'tls'],
    ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'client_certificate_refused'],
    ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'client_certificate_refused'],
    ['ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE', 'client_certificate_refused'],
    ['EMFILE', 'other'],
    ['', 'other'],
  ])('%s is %s', (code, reason) => {
    expect(upstreamFailure(systemError(code)).reason).toBe(reason);
  });

  test("the system's words stay; those of the TLS library become an operator's", () => {
    expect(upstreamFailure(systemError('ECONNREFUSED')).message).toBe("the library's words for ECONNREFUSED");
    expect(upstreamFailure(new Error('plain')).message).toBe('plain');
    const words = (code: string): string => upstreamFailure(systemError(code)).message;
    expect(words('ERR_SSL_WRONG_VERSION_NUMBER')).toMatch(/does not speak TLS on this port; forward to tcp:/);
    expect(words('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION')).toMatch(/no TLS version in common/);
    expect(words('ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE')).toMatch(/may want a client certificate/);
    expect(words('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED')).toMatch(/refused the client certificate/);
    expect(words('ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL')).toMatch(/does not know ALPN h2/);
    expect(words('ERR_SSL_TLSV1_UNRECOGNIZED_NAME')).toMatch(/upstream_tls\.server_name/);
    expect(words('ERR_SSL_BAD_SIGNATURE')).toBe('the TLS handshake failed (ERR_SSL_BAD_SIGNATURE)');
  });

  test('what is a failure already stays as it is', () => {
    const failure = new UpstreamFailure('no_alpn', 'told');
    expect(upstreamFailure(failure)).toBe(failure);
  });
});
