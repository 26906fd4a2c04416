import type { TLSSocket } from 'node:tls';

import type { ClientAuth } from '../config/model.js';
import { certificateIdentity } from './certificate-names.js';
import { isoDate } from './iso-date.js';
import { ISSUE_FOR_CLIENTS } from './judge/usage.js';
import { oneLineName } from './pem-files.js';
import { certificateFault, verificationCode, type CertificateFault } from './verification.js';

/** What became of a client's certificate; label `result` of `tls_client_certificates_total`. */
export type ClientCertificateResult = 'verified' | 'absent' | CertificateFault;

/** The decision on a client, made before a byte of it is read. */
export type ClientVerdict =
  | { readonly allowed: true; readonly result: 'verified'; readonly identity: string }
  | { readonly allowed: true; readonly result: 'absent' }
  | { readonly allowed: false; readonly result: ClientCertificateResult; readonly detail: string };

/**
 * Judges the client of a finished handshake that asked for a certificate and let the handshake pass whatever came
 * (`rejectUnauthorized: false`, so that the reason and whose certificate it was can be told).
 *
 * `optional` lets a client without a certificate in; one that is there and bad is refused in both modes.
 */
export function judgeClient(socket: TLSSocket, mode: Exclude<ClientAuth, 'none'>): ClientVerdict {
  const certificate = socket.getPeerX509Certificate();
  // Node's types promise a certificate, and a client need not send one.
  if (certificate === undefined) {
    // A client without a certificate has `authorized` false with UNABLE_TO_GET_ISSUER_CERT: only absence tells it.
    if (mode === 'optional') return { allowed: true, result: 'absent' };
    return {
      allowed: false,
      result: 'absent',
      detail: 'the client sent no certificate and client_auth is require',
    };
  }
  // A resumed session keeps the verdict of its first handshake, and each resumption renews its ticket: without this a
  // certificate would be accepted for as long as its owner keeps coming back. Its issuers are the terminator's to judge.
  const outlived = socket.authorized && new Date(certificate.validTo) <= new Date();
  if (socket.authorized && !outlived)
    return { allowed: true, result: 'verified', identity: certificateIdentity(certificate) };
  const code = outlived ? 'CERT_HAS_EXPIRED' : verificationCode(socket.authorizationError);
  const result = certificateFault(code);
  const subject = oneLineName(certificate.subject) || 'without a subject';
  const whose = `client certificate ${subject}, issued by ${oneLineName(certificate.issuer)}`;
  return {
    allowed: false,
    result,
    detail: `${whose}: ${explain(result, code, certificate.validFrom, certificate.validTo)}`,
  };
}

function explain(fault: CertificateFault, code: string, from: string, to: string): string {
  switch (fault) {
    case 'unknown_authority':
      return `its chain does not end in a CA of client_ca_path (${code}); a missing intermediate looks the same`;
    case 'expired':
      return `expired; its own dates are ${isoDate(from)} to ${isoDate(to)} (${code})`;
    case 'not_yet_valid':
      return `not valid before ${isoDate(from)} (${code}); is this machine's clock right?`;
    case 'revoked':
      return `revoked by client_crl_path (${code})`;
    case 'invalid_purpose':
      // OpenSSL's last word may hide an earlier one: it is refused, whatever else may be right with it.
      return `not meant for client use (${code}): its extended key usage must hold clientAuth; ${ISSUE_FOR_CLIENTS}`;
    case 'crl':
      return `client_crl_path holds no usable CRL for its issuer (${code})`;
    case 'name_mismatch':
    case 'other':
      return code;
  }
}
