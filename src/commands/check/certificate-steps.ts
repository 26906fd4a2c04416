import type { HandshakeObservation } from '../../gitaly-client/observe-handshake.js';
import {
  certificateNames,
  describeIssuer,
  describeNames,
  describeSubject,
} from '../../x509/certificate-names.js';
import type { Certificate } from '../../x509/certificate.js';
import { isoDate } from '../../x509/iso-date.js';
import { type CertificateFinding, type FindingId } from '../../x509/judge/certificate-finding.js';
import { judgeChain } from '../../x509/judge/judge-chain.js';
import { daysLeft } from '../../x509/judge/judge-validity.js';
import { failed, passed, type CheckFinding } from './check-step.js';
import type { CheckSettings, TargetTls } from './named-target.js';

/** Findings with a step of their own; the chain step reports all others. */
const NAMES: ReadonlySet<FindingId> = new Set([
  'no_subject_alternative_name',
  'name_mismatch',
  'ip_address_as_dns_name',
]);
const DATES: ReadonlySet<FindingId> = new Set(['expired', 'not_yet_valid', 'expires_soon']);
/** Findings that OpenSSL can overrule: there may be a path to an authority that does not use all sent certificates. */
const TRUST: ReadonlySet<FindingId> = new Set(['missing_issuer', 'untrusted']);

const UNKNOWN_AUTHORITY = 'x509: certificate signed by unknown authority';
const OUT_OF_DATE = 'x509: certificate has expired or is not yet valid';

/** The errors that GitLab's clients log and GitLab's documentation explains. */
const CLIENT_ERRORS: Partial<Readonly<Record<FindingId, string>>> = {
  no_subject_alternative_name:
    'x509: certificate relies on legacy Common Name field, use SANs or temporarily enable Common Name matching with GODEBUG=x509ignoreCN=0',
  missing_issuer: UNKNOWN_AUTHORITY,
  untrusted: UNKNOWN_AUTHORITY,
  expired: OUT_OF_DATE,
  not_yet_valid: OUT_OF_DATE,
};

/** The findings about the certificates that a server sent. */
export class CertificateSteps {
  readonly #seen: HandshakeObservation;
  readonly #tls: TargetTls;
  readonly #now: Date;
  readonly #findings: readonly CertificateFinding[];

  constructor(seen: HandshakeObservation, tls: TargetTls, { nowMs }: Pick<CheckSettings, 'nowMs'>) {
    this.#seen = seen;
    this.#tls = tls;
    this.#now = new Date(nowMs());
    this.#findings = judgeChain(seen.certificates, {
      role: 'server',
      serverName: tls.serverName,
      trust: tls.anchors.certificates,
      now: this.#now,
    });
  }

  /** Checks that the certificates lead to a trusted authority and suit a server. Lists each certificate. */
  chain(): CheckFinding {
    const { certificates, verification, failure } = this.#seen;
    const { source } = this.#tls.anchors;
    const isVerified = failure === undefined && verification === undefined;
    const found = this.#findings.filter(
      ({ id }) => !NAMES.has(id) && !DATES.has(id) && !(TRUST.has(id) && isVerified),
    );
    const more = {
      lines: certificates.map((certificate, index) => `${index} ${describe(certificate)}`),
      facts: { trusted_from: source, sent: certificates.map(factsOf) },
    };
    const root = certificates.at(-1);
    const fine = `${certificates.length} sent, leading to ${root ? describeIssuer(root) : 'nothing'}, trusted through ${source}`;
    const finding = findingOf(found, fine, more);
    // The dates have a step of their own.
    if (
      finding.result === 'failed' ||
      verification === undefined ||
      verification.fault === 'expired' ||
      verification.fault === 'not_yet_valid'
    )
      return finding;
    return failed(`OpenSSL rejects the chain: ${verification.code}`, 'issue the certificate again', more);
  }

  /** Checks that a subject alternative name matches the server name. The Common Name never counts. */
  names(): CheckFinding {
    const { serverName } = this.#tls;
    const [leaf] = this.#seen.certificates;
    const names = leaf && certificateNames(leaf);
    const facts = { server_name: serverName, dns: names?.dns ?? [], ip: names?.ip ?? [] };
    const fine = `${serverName} is among the names: ${names ? describeNames(names) : 'none'}`;
    return findingOf(
      this.#findings.filter(({ id }) => NAMES.has(id)),
      fine,
      { facts },
    );
  }

  /** Checks the validity of all certificates, and reports the one that expires first. */
  expiry(): CheckFinding {
    const [first] = [...this.#seen.certificates].sort(
      (one, other) => one.validTo.getTime() - other.validTo.getTime(),
    );
    if (first === undefined)
      return failed('no certificate was sent', 'configure a certificate on the server');
    const fine = `the first to expire, ${describeSubject(first)}, has ${daysLeft(first, this.#now)} days left, until ${isoDate(first.validTo)}`;
    return findingOf(
      this.#findings.filter(({ id }) => DATES.has(id)),
      fine,
      { facts: { not_after: isoDate(first.validTo), days_left: daysLeft(first, this.#now) } },
    );
  }
}

/** The result of a step: an error fails it, a warning does not. */
function findingOf(
  found: readonly CertificateFinding[],
  fine: string,
  more: Pick<CheckFinding, 'lines' | 'facts'>,
): CheckFinding {
  const findings = found.map(({ id }) => id);
  const details = { ...more, facts: { ...more.facts, ...(findings.length > 0 && { findings }) } };
  const errors = found.filter(({ severity }) => severity === 'error');
  const [error] = errors;
  if (error)
    return failed(
      errors.map(messageOf).join('; '),
      [...new Set(errors.map(({ cure }) => cure))].join('; '),
      details,
    );
  if (found.length === 0) return passed(fine, details);
  const warnings = found.map((warning) => `${warning.sentence}: ${warning.cure}`);
  return passed(fine, { ...details, fix: warnings.join('; ') });
}

function messageOf({ id, sentence }: CertificateFinding): string {
  const clientError = CLIENT_ERRORS[id];
  if (clientError === undefined) return sentence;
  return id === 'no_subject_alternative_name' ? clientError : `${clientError}: ${sentence}`;
}

function describe(certificate: Certificate): string {
  return `${describeSubject(certificate)}, issued by ${describeIssuer(certificate)}, until ${isoDate(certificate.validTo)}`;
}

function factsOf(certificate: Certificate): object {
  return {
    subject: describeSubject(certificate),
    issuer: describeIssuer(certificate),
    not_before: isoDate(certificate.validFrom),
    not_after: isoDate(certificate.validTo),
    fingerprint256: certificate.fingerprint256,
  };
}
