import { isIP } from 'node:net';

import { certificateNames, describeNames, holdsName } from '../certificate-names.js';
import { error, warning, type CertificateFinding, type Judged } from './certificate-finding.js';

/**
 * Whether a server's certificate has a name that clients accept and, if known, the name that they use. Gitaly's clients read
 * only the Subject Alternative Names.
 */
export function judgeNames({ x509, name }: Judged, serverName: string | undefined): CertificateFinding[] {
  const names = certificateNames(x509);
  if (names.dns.length + names.ip.length === 0) {
    return [
      error(
        'no_subject_alternative_name',
        `${name} has no Subject Alternative Name; Gitaly's clients ignore the Common Name ` +
          '("x509: certificate relies on legacy Common Name field, use SANs instead")',
        'issue one with the host name as SAN',
      ),
    ];
  }
  const findings: CertificateFinding[] = [];
  if (serverName !== undefined && !holdsName(x509, serverName)) {
    findings.push(
      error(
        'name_mismatch',
        `${name} is not valid for ${serverName}; the names that it has: ${describeNames(names)}`,
        `issue one with ${serverName} as SAN, or use one of its names in the address`,
      ),
    );
  }
  const [address] = names.dns.filter((each) => isIP(each) !== 0 && !names.ip.includes(each));
  if (address !== undefined) {
    findings.push(
      warning(
        'ip_address_as_dns_name',
        `${name} has ${address} as a SAN of type DNS, but clients look for IP addresses only in SANs of type IP`,
        `issue one with ${address} as a SAN of type IP`,
      ),
    );
  }
  return findings;
}
