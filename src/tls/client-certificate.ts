import type { TLSSocket } from 'node:tls';

import type { ClientAuth } from '../config/model.js';
import { describeIssuer, describeSubject } from '../x509/certificate-names.js';
import { peerCertificate, type Certificate } from '../x509/certificate.js';
import { isoDate } from '../x509/iso-date.js';
import { ISSUE_FOR_CLIENTS } from '../x509/judge/judge-usage.js';
import {
  failedVerification,
  verificationOf,
  type CertificateFault,
  type Verification,
} from './verification.js';

/** The reason that a client is refused. `not_allowed`: its certificate is valid, but `client_allow` names none of its identities. */
export type ClientFault = 'absent' | 'not_allowed' | CertificateFault;

/**
 * The result of verifying a client's certificate; label `result` of `tls_client_certificates_total`. `would_refuse_`: the client
 * was admitted, because `client_auth` is `report`.
 */
export type ClientCertificateResult = 'verified' | ClientFault | `would_refuse_${ClientFault}`;

/** The decision on a client, made before any application data of the client is read. */
export type ClientVerdict =
  | { readonly kind: 'verified'; readonly certificate: Certificate }
  | { readonly kind: 'absent' }
  | { readonly kind: 'refused'; readonly fault: ClientFault; readonly detail: string };

/**
 * Judges the client of a finished handshake that requested a certificate and accepted any
 * (`rejectUnauthorized: false`, so that the log can name the certificate and the reason).
 *
 * `optional` admits a client without a certificate; an invalid one is refused in all modes. The caller admits clients that are
 * refused if the mode is `report`.
 */
export function judgeClient(socket: TLSSocket, mode: Exclude<ClientAuth, 'none'>): ClientVerdict {
  const certificate = peerCertificate(socket);
  if (certificate === undefined) {
    // Without a certificate, `authorized` is false with UNABLE_TO_GET_ISSUER_CERT, so only its absence identifies this case.
    if (mode === 'optional') return { kind: 'absent' };
    return {
      kind: 'refused',
      fault: 'absent',
      detail: `the client sent no certificate and client_auth is ${mode}`,
    };
  }
  // A resumed session keeps the verdict of its first handshake, and each resumption renews its ticket. Without this check, a
  // certificate would be accepted for as long as its owner reconnects. The terminator checks the issuers.
  const failure =
    failedVerification(socket) ??
    (certificate.validTo <= new Date() ? verificationOf('CERT_HAS_EXPIRED') : undefined);
  if (failure === undefined) return { kind: 'verified', certificate };
  const whose = `client certificate ${describeSubject(certificate)}, issued by ${describeIssuer(certificate)}`;
  return { kind: 'refused', fault: failure.fault, detail: `${whose}: ${explain(failure, certificate)}` };
}

function explain({ fault, code }: Verification, { validFrom, validTo }: Certificate): string {
  switch (fault) {
    case 'unknown_authority':
      return `its chain does not end in a CA of client_ca_path (${code}); a missing intermediate looks the same`;
    case 'expired':
      return `expired; its own dates are ${isoDate(validFrom)} to ${isoDate(validTo)} (${code})`;
    case 'not_yet_valid':
      return `not valid before ${isoDate(validFrom)} (${code}); is this machine's clock right?`;
    case 'revoked':
      return `revoked by client_crl_path (${code})`;
    case 'invalid_purpose':
      // OpenSSL reports only its last error, which may hide earlier ones.
      return `not meant for client use (${code}): its extended key usage must hold clientAuth; ${ISSUE_FOR_CLIENTS}`;
    case 'invalid_authority':
      return `one of its issuers may not issue it (${code}): it lacks CA:TRUE or keyCertSign, or its pathlen is exceeded; have it issued by a proper CA`;
    case 'name_constraints':
      return `a CA above it may not issue for its names (${code}): compare its SAN and subject with the name constraints of its CAs`;
    case 'critical_extension':
      return `it or a CA above it has a critical extension that OpenSSL does not know (${code}); have it issued without that extension, or with it not critical`;
    case 'weak_signature':
      return `it or an intermediate is signed with SHA-1 or MD5 (${code}); have it issued again, signed with SHA-256`;
    case 'weak_key':
      return `its key, or that of a CA above it, is too weak or not on a named curve (${code}); use ECDSA on P-256, or RSA with 2048 bits or more`;
    case 'crl':
      return `client_crl_path contains no usable CRL for its issuer (${code})`;
    case 'name_mismatch':
    case 'other':
      return `OpenSSL does not accept it (${code})`;
  }
}
