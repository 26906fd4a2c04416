import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';

import { EXPIRY_WARNING_DAYS } from '../limits.js';
import { certificateNames, describeNames } from '../tls/certificate-names.js';
import { isoDate } from '../tls/certificate-pair.js';
import { oneLineName } from '../tls/pem-files.js';
import { certificateFault } from '../tls/verification.js';
import type { HandshakeObservation } from '../probe/observe-handshake.js';
import { holdsName } from '../upstream/tls-client.js';
import { followChain } from './chain.js';
import { failed, passed, type Finding } from './step.js';
import type { TargetTls } from './target.js';

const DAY_MS = 86_400_000;

/** What GitLab's clients say of a chain that they do not trust. */
const UNKNOWN_AUTHORITY = 'x509: certificate signed by unknown authority';
const TRUST_IT =
  'put it into /etc/gitlab/trusted-certs/ on every node that dials this address, Gitaly nodes too; here --ca trusts it';

/** Whether the certificates that were sent lead to an authority that is trusted; each of them is told. */
export function checkChain(
  leaf: X509Certificate,
  { certificates, verification, failure }: HandshakeObservation,
  { anchors }: TargetTls,
): Finding {
  const { path, end } = followChain(leaf, certificates, anchors.certificates);
  const anchor = end === 'trusted' ? path.at(-1) : undefined;
  const more = {
    lines: [
      ...certificates.map((certificate, index) => `${index} sent: ${describe(certificate)}`),
      ...(anchor && !certificates.includes(anchor) ? [`trusted: ${describe(anchor)}`] : []),
    ],
    facts: { sent: certificates.map(factsOf), ...(anchor && { trusted: factsOf(anchor) }) },
  };
  const code = verification ?? (failure && end !== 'trusted' ? 'the handshake broke off' : undefined);
  const last = path.at(-1) ?? leaf;
  // What the dates say is told by a step of its own.
  if (code === undefined || (end === 'trusted' && isAboutDates(code))) {
    const root = anchor ? name(anchor) : 'an authority';
    return passed(`${certificates.length} sent, trusted by ${root} of ${anchors.source}`, more);
  }
  if (end === 'unknown_root')
    return path.length === 1
      ? failed(`${UNKNOWN_AUTHORITY}: ${name(last)} has issued itself (${code})`, TRUST_IT, more)
      : failed(
          `${UNKNOWN_AUTHORITY}: the root ${name(last)} is not in ${anchors.source} (${code})`,
          TRUST_IT,
          more,
        );
  if (end === 'no_issuer') {
    const missing = oneLineName(last.issuer);
    return failed(
      `${UNKNOWN_AUTHORITY}: ${missing}, which issued ${name(last)}, was not sent and is not in ${anchors.source} (${code})`,
      `if ${missing} is an intermediate, append it to the server's certificate file, behind the leaf; if it is the root, ${TRUST_IT}`,
      more,
    );
  }
  return failed(
    `the chain is not accepted: ${code}`,
    CURES[certificateFault(code)] ?? 'issue the certificate anew',
    more,
  );
}

function isAboutDates(code: string): boolean {
  return ['expired', 'not_yet_valid'].includes(certificateFault(code));
}

const CURES: Readonly<Record<string, string>> = {
  invalid_purpose:
    'the certificate was not issued for a server: issue one with the extended key usage serverAuth (and clientAuth, with which Gitaly can call GitLab)',
  unknown_authority: 'a certificate of the chain was not signed by the key of its issuer: issue it anew',
};

/** Whether a Subject Alternative Name holds the name that the server is called by; the Common Name never counts. */
export function checkNames(leaf: X509Certificate, { serverName }: Pick<TargetTls, 'serverName'>): Finding {
  const names = certificateNames(leaf);
  const facts = { facts: { server_name: serverName, dns: names.dns, ip: names.ip } };
  if (holdsName(leaf, serverName))
    return passed(`${serverName} is among the names: ${describeNames(names)}`, facts);
  if (names.dns.length + names.ip.length === 0)
    return failed(
      'x509: certificate relies on legacy Common Name field, use SANs or temporarily enable Common Name matching with GODEBUG=x509ignoreCN=0',
      `issue the certificate with ${serverName} as Subject Alternative Name; the Common Name is ignored`,
      facts,
    );
  const kind = isIP(serverName) === 0 ? 'a DNS name' : 'an IP address';
  return failed(
    `x509: certificate is valid for ${describeNames(names)}, not ${serverName}`,
    `use one of these names in the address, or issue the certificate with ${serverName} as Subject Alternative Name, ${kind}`,
    facts,
  );
}

/** Whether all certificates that were sent are in date, and for how long. */
export function checkExpiry(certificates: readonly X509Certificate[], nowMs: number): Finding {
  const notYet = certificates.find(({ validFrom }) => Date.parse(validFrom) > nowMs);
  const [first] = [...certificates].sort((a, b) => Date.parse(a.validTo) - Date.parse(b.validTo));
  if (first === undefined) return failed('no certificate was sent', 'give the server a certificate');
  const facts = { facts: { not_after: isoDate(first.validTo) } };
  const words = 'x509: certificate has expired or is not yet valid';
  if (notYet)
    return failed(
      `${words}: ${name(notYet)} begins on ${isoDate(notYet.validFrom)}`,
      'is the clock of this machine right? Else wait, or issue it anew',
      facts,
    );
  const leftMs = Date.parse(first.validTo) - nowMs;
  const date = isoDate(first.validTo);
  if (leftMs < 0)
    return failed(
      `${words}: ${name(first)} ended on ${date}`,
      'renew it; a server that reads its certificate once, as Gitaly does, must be restarted then',
      facts,
    );
  const days = Math.floor(leftMs / DAY_MS);
  const detail = `${name(first)} ends in ${days} ${days === 1 ? 'day' : 'days'}, on ${date}`;
  return leftMs < EXPIRY_WARNING_DAYS * DAY_MS
    ? passed(detail, { ...facts, cure: 'renew it soon' })
    : passed(detail, facts);
}

function describe(certificate: X509Certificate): string {
  return `${name(certificate)}, issued by ${oneLineName(certificate.issuer)}, until ${isoDate(certificate.validTo)}`;
}

/** Some certificates have names in their SAN alone. */
function name(certificate: X509Certificate): string {
  return oneLineName(certificate.subject) || describeNames(certificateNames(certificate));
}

function factsOf(certificate: X509Certificate): object {
  return {
    subject: name(certificate),
    issuer: oneLineName(certificate.issuer),
    not_before: isoDate(certificate.validFrom),
    not_after: isoDate(certificate.validTo),
    fingerprint256: certificate.fingerprint256,
  };
}
