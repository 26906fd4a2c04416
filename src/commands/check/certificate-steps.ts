import type { HandshakeObservation } from '../../gitaly-client/observe-handshake.js';
import {
  certificateNames,
  describeIssuer,
  describeNames,
  describeSubject,
} from '../../x509/certificate-names.js';
import type { Certificate } from '../../x509/certificate.js';
import { isoDate } from '../../x509/iso-date.js';
import {
  type CertificateFinding as CertificateFinding,
  type FindingId,
} from '../../x509/judge/certificate-finding.js';
import { judgeChain } from '../../x509/judge/judge-chain.js';
import { daysLeft } from '../../x509/judge/judge-validity.js';
import { failed, passed, type CheckFinding } from './check-step.js';
import type { CheckSettings, TargetTls } from './named-target.js';

/** What is told by steps of their own; all else that is wrong with certificates is told with the chain. */
const NAMES: ReadonlySet<FindingId> = new Set([
  'no_subject_alternative_name',
  'name_mismatch',
  'ip_address_as_dns_name',
]);
const DATES: ReadonlySet<FindingId> = new Set(['expired', 'not_yet_valid', 'expires_soon']);
/** What OpenSSL may know better: there may be another way to an authority than by what was sent. */
const TRUST: ReadonlySet<FindingId> = new Set(['missing_issuer', 'untrusted']);

const UNKNOWN_AUTHORITY = 'x509: certificate signed by unknown authority';
const OUT_OF_DATE = 'x509: certificate has expired or is not yet valid';

/** What GitLab's clients say, and its documentation: the words that an operator has seen already. */
const WORDS_OF_CLIENTS: Partial<Readonly<Record<FindingId, string>>> = {
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

  /** Whether what was sent leads to an authority that is trusted, and is fit for its job; each certificate is told. */
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
    const fine = `${certificates.length} sent, which lead to ${root ? describeIssuer(root) : 'nothing'}, trusted by ${source}`;
    const finding = findingOf(found, fine, more);
    // What the dates say is told by a step of its own.
    if (
      finding.result === 'failed' ||
      verification === undefined ||
      verification.fault === 'expired' ||
      verification.fault === 'not_yet_valid'
    )
      return finding;
    return failed(`OpenSSL does not accept the chain: ${verification.code}`, 'have it issued again', more);
  }

  /** Whether a Subject Alternative Name holds the name that the server is called by; the Common Name never counts. */
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

  /** Whether all that was sent is in date, and for how long. */
  expiry(): CheckFinding {
    const [first] = [...this.#seen.certificates].sort(
      (one, other) => one.validTo.getTime() - other.validTo.getTime(),
    );
    if (first === undefined) return failed('no certificate was sent', 'give the server one');
    const fine = `the first of them, ${describeSubject(first)}, ends in ${daysLeft(first, this.#now)} days, on ${isoDate(first.validTo)}`;
    return findingOf(
      this.#findings.filter(({ id }) => DATES.has(id)),
      fine,
      { facts: { not_after: isoDate(first.validTo), days_left: daysLeft(first, this.#now) } },
    );
  }
}

/** The worst of what was found: an error fails, a warning does not. */
function findingOf(
  found: readonly CertificateFinding[],
  fine: string,
  more: Pick<CheckFinding, 'lines' | 'facts'>,
): CheckFinding {
  const findings = found.map(({ id }) => id);
  const told = { ...more, facts: { ...more.facts, ...(findings.length > 0 && { findings }) } };
  const errors = found.filter(({ severity }) => severity === 'error');
  const [error] = errors;
  if (error)
    return failed(
      errors.map(sentence).join('; '),
      [...new Set(errors.map(({ cure }) => cure))].join('; '),
      told,
    );
  if (found.length === 0) return passed(fine, told);
  const warnings = found.map((warning) => `${warning.sentence}: ${warning.cure}`);
  return passed(fine, { ...told, cure: warnings.join('; ') });
}

function sentence({ id, sentence: words }: CertificateFinding): string {
  const known = WORDS_OF_CLIENTS[id];
  if (known === undefined) return words;
  return id === 'no_subject_alternative_name' ? known : `${known}: ${words}`;
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
