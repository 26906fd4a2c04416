import { printable } from '../../../printable.js';
import {
  certificateNames,
  describeIssuer,
  describeNames,
  describeSubject,
} from '../../../x509/certificate-names.js';
import type { Certificate } from '../../../x509/certificate.js';
import { isoDate } from '../../../x509/iso-date.js';
import type { CertificateRole, CertificateFinding } from '../../../x509/judge/certificate-finding.js';
import { describeKey } from '../../../x509/judge/judge-strength.js';
import { daysLeft } from '../../../x509/judge/judge-validity.js';
import { readFacts, readKey } from './as-json.js';
import { modeText, type Inspected } from './inspection-report.js';

const ROLES: Readonly<Record<CertificateRole, string>> = {
  server: 'server certificate',
  client: 'client certificate',
  gitaly: 'server certificate',
  authority: 'authority',
};

const LABEL_WIDTH = 13;

/** The report for people. */
export function asText(inspected: readonly Inspected[], now: Date): string {
  const blocks = inspected.map((each) => [...describe(each, now), ...each.findings.flatMap(findingLines)]);
  return [...blocks, [verdict(inspected.flatMap(({ findings }) => findings))]]
    .map((lines) => `${lines.join('\n')}\n`)
    .join('\n');
}

function describe(each: Inspected, now: Date): string[] {
  const lines: string[] = [];
  const { certificates, role, place } = each;
  const what = role === undefined ? [] : [ROLES[role]];
  if (each.kind === 'file' && each.key) what.push('private key');
  lines.push(printable(what.length === 0 ? place : `${place}: ${what.join(' and ')}`));
  if (each.kind === 'address' && each.tls) {
    const { version, cipher, alpn, serverName } = each.tls;
    lines.push(
      row(
        'TLS',
        `${version}, ${cipher}, ALPN ${alpn ?? 'none'}, SNI ${serverName ?? 'none (an IP address)'}`,
      ),
    );
  }
  if (role === 'authority') {
    for (const x509 of certificates) lines.push(...certificateLines(x509, now));
  } else {
    const [leaf, ...others] = certificates;
    if (leaf) lines.push(...certificateLines(leaf, now));
    others.forEach((x509, index) => {
      lines.push(
        row(index === 0 ? 'chain' : '', `${describeSubject(x509)}, ${validity(x509, now)}`),
        row('', `  issued by ${describeIssuer(x509)}`),
      );
    });
  }
  if (each.kind === 'file' && each.key) {
    const { object, mode, belongsTo } = each.key;
    const whose = belongsTo.filter((other) => other !== place);
    const match = belongsTo.length > 0 ? `, matches ${whose.join(', ') || 'the certificate'}` : '';
    lines.push(row('private key', `${describeKey(object)}, mode ${modeText(mode)}${match}`));
  }
  return lines;
}

function certificateLines(x509: Certificate, now: Date): string[] {
  const facts = readFacts(x509);
  const usage = facts?.keyUsage?.join(', ') ?? 'any';
  const extended = facts?.extendedKeyUsage?.join(', ') ?? 'any';
  return [
    row('subject', x509.subject || 'none'),
    row('issuer', x509.issuerDer.equals(x509.subjectDer) ? 'itself (self-signed)' : describeIssuer(x509)),
    row('names', describeNames(certificateNames(x509))),
    row('valid', validity(x509, now)),
    row('key', `${readKey(x509)}, signed with ${facts?.signatureAlgorithm ?? 'unknown'}`),
    row('usages', `key ${usage}; extended ${extended}`),
    row('SHA-256', x509.fingerprint256),
  ];
}

function validity(x509: Certificate, now: Date): string {
  const days = daysLeft(x509, now);
  const left = days >= 0 ? `${days} days left` : `expired ${-days} days ago`;
  return `${isoDate(x509.validFrom).slice(0, 10)} to ${isoDate(x509.validTo).slice(0, 10)} (${left})`;
}

function findingLines({ severity, sentence, cure }: CertificateFinding): string[] {
  return [row(severity.toUpperCase(), sentence), row('', `→ ${cure}`)];
}

function row(label: string, text: string): string {
  return `  ${label.padEnd(LABEL_WIDTH)}${printable(text)}`.trimEnd();
}

function verdict(findings: readonly CertificateFinding[]): string {
  const errors = findings.filter(({ severity }) => severity === 'error').length;
  const warnings = findings.length - errors;
  if (findings.length === 0) return 'no problems found';
  const count = (number: number, word: string): string => `${number} ${word}${number === 1 ? '' : 's'}`;
  return `${count(errors, 'error')}, ${count(warnings, 'warning')}`;
}
