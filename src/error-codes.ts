/** The code of an error of Node, the system or OpenSSL, as `ECONNRESET`; empty if it has none. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** The code of an error; its message if it has none. */
export function codeOrMessage(error: unknown): string {
  const code = codeOf(error);
  if (code !== '') return code;
  return error instanceof Error ? error.message : String(error);
}

/** Whether a system call failed, as opposed to the program. */
export function isSystemError(error: unknown): error is Error {
  return codeOf(error) !== '' && error instanceof Error && 'syscall' in error;
}

/** The cause of an error of OpenSSL. `refused_*`: the peer sent an alert; the others were found on this side. */
export type TlsFault =
  /** The peer refused our certificate, or requires one. In TLS 1.3 this may arrive after the handshake. */
  | 'refused_certificate'
  /** TLS 1.2 has no other alert for a missing client certificate. */
  | 'refused_handshake'
  | 'refused_version'
  | 'refused_alpn'
  | 'refused_name'
  | 'refused_otherwise'
  | 'unsupported_version'
  | 'no_common_cipher'
  | 'no_common_alpn'
  | 'http_request'
  /** The first bytes are not a TLS record. */
  | 'not_a_record'
  /** A record of invalid length, or an unexpected message: most often the peer does not use TLS either. */
  | 'invalid_record'
  | 'other';

/**
 * The ends of OpenSSL's reasons as Node writes them. The prefix depends on the version: `ERR_SSL_TLSV1_ALERT_UNKNOWN_CA` in
 * Node 20 has another one in Node 24. The name of an alert follows `ALERT_`, except in `TLSV1_UNRECOGNIZED_NAME`.
 */
const TLS_FAULTS: readonly (readonly [RegExp, TlsFault])[] = [
  [
    /ALERT_(?:UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_\w+|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED)$/,
    'refused_certificate',
  ],
  [/ALERT_HANDSHAKE_FAILURE$/, 'refused_handshake'],
  [/ALERT_PROTOCOL_VERSION$/, 'refused_version'],
  [/ALERT_NO_APPLICATION_PROTOCOL$/, 'refused_alpn'],
  [/UNRECOGNIZED_NAME$/, 'refused_name'],
  [/_ALERT_/, 'refused_otherwise'],
  [/_(?:UNSUPPORTED_PROTOCOL|VERSION_TOO_LOW|INAPPROPRIATE_FALLBACK)$/, 'unsupported_version'],
  [
    /_NO_(?:SHARED_CIPHER|SHARED_SIGNATURE_ALGORITHMS|SUITABLE_SIGNATURE_ALGORITHM|SUITABLE_KEY_SHARE)$/,
    'no_common_cipher',
  ],
  [/_NO_APPLICATION_PROTOCOL$/, 'no_common_alpn'],
  [/_(?:HTTP_REQUEST|HTTPS_PROXY_REQUEST)$/, 'http_request'],
  [/_WRONG_VERSION_NUMBER$/, 'not_a_record'],
  [/_(?:PACKET_LENGTH_TOO_LONG|UNEXPECTED_MESSAGE|RECORD_TOO_SMALL)$/, 'invalid_record'],
];

/** The cause that an error code names; `undefined` if the code is not OpenSSL's. */
export function tlsFaultOf(code: string): TlsFault | undefined {
  if (!code.startsWith('ERR_SSL_')) return undefined;
  return TLS_FAULTS.find(([pattern]) => pattern.test(code))?.[1] ?? 'other';
}

/** Whether Node's parser of HTTP/1 or HTTP/2 found a message malformed. An end within a message is not one. */
export function isHttpParserCode(code: string): boolean {
  return /^(?:HPE_(?!INVALID_EOF_STATE)|ERR_HTTP)/.test(code);
}
