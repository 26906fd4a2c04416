import { certificateFacts, type CertificateFacts } from '../../../x509/certificate-facts.js';
import { certificateNames } from '../../../x509/certificate-names.js';
import type { Certificate } from '../../../x509/certificate.js';
import { isoDate } from '../../../x509/iso-date.js';
import { describeKey } from '../../../x509/judge/judge-strength.js';
import { daysLeft } from '../../../x509/judge/judge-validity.js';
import { modeText, type Inspected } from './inspection-report.js';

/** The report for programs. The names and meanings of its keys are stable; keys may be added. */
export function asJson(inspected: readonly Inspected[], now: Date): object {
  const findings = inspected.flatMap((each) => each.findings);
  return {
    errors: findings.filter(({ severity }) => severity === 'error').length,
    warnings: findings.filter(({ severity }) => severity === 'warning').length,
    inspected: inspected.map((each) => ({
      place: each.place,
      kind: each.kind,
      role: each.role ?? null,
      certificates: each.certificates.map((certificate) => certificateJson(certificate, now)),
      ...(each.kind === 'file' ? { private_key: keyJson(each.key) } : { tls: tlsJson(each.tls) }),
      findings: each.findings,
    })),
  };
}

function certificateJson(x509: Certificate, now: Date): object {
  const facts = readFacts(x509);
  return {
    subject: x509.subject,
    issuer: x509.issuer,
    serial_number: x509.serialNumber,
    names: certificateNames(x509),
    not_before: isoDate(x509.validFrom),
    not_after: isoDate(x509.validTo),
    days_left: daysLeft(x509, now),
    public_key: readKey(x509),
    signature_algorithm: facts?.signatureAlgorithm ?? null,
    key_usage: facts?.keyUsage ?? null,
    extended_key_usage: facts?.extendedKeyUsage ?? null,
    authority: x509.ca,
    path_length: facts?.pathLength ?? null,
    fingerprint_sha256: x509.fingerprint256.replaceAll(':', '').toLowerCase(),
  };
}

function keyJson(key: (Inspected & { kind: 'file' })['key']): object | null {
  return key === undefined
    ? null
    : { type: describeKey(key.object), mode: modeText(key.mode), belongs_to: key.belongsTo };
}

function tlsJson(tls: (Inspected & { kind: 'address' })['tls']): object | null {
  if (tls === undefined) return null;
  const { version, cipher, alpn = null, serverName = null } = tls;
  return { version, cipher, alpn, server_name: serverName };
}

/** `undefined` for a malformed certificate, which has a finding. */
export function readFacts(x509: Certificate): CertificateFacts | undefined {
  try {
    return certificateFacts(x509);
  } catch {
    return undefined;
  }
}

/** Describes the public key. A type that Node does not know has a finding. */
export function readKey(x509: Certificate): string {
  try {
    return describeKey(x509.publicKey);
  } catch {
    return 'unknown';
  }
}
