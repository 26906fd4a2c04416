import {
  error,
  warning,
  type CertificateRole,
  type CertificateFinding,
  type Judged,
} from './certificate-finding.js';

/** The fix for a certificate that a client may not present. */
export const ISSUE_FOR_CLIENTS =
  "issue one with serverAuth and clientAuth where it is a server's too, as that of a Gitaly which calls GitLab; else " +
  'one with clientAuth';

/** Whether key usage, extended key usage and basic constraints allow the purpose of a certificate. */
export function judgeUsage(judged: Judged, role: CertificateRole): CertificateFinding[] {
  return role === 'authority'
    ? judgeAuthority(judged)
    : [...judgePurpose(judged, role), ...judgeLeaf(judged)];
}

function judgePurpose(
  { facts, name }: Judged,
  role: Exclude<CertificateRole, 'authority'>,
): CertificateFinding[] {
  const { extendedKeyUsage: usages, keyUsage } = facts;
  const findings: CertificateFinding[] = [];
  const list = usages === undefined || usages.length === 0 ? 'nothing' : usages.join(', ');
  if (role !== 'client' && usages !== undefined && !usages.includes('serverAuth')) {
    findings.push(
      error(
        'no_server_usage',
        `${name} is not meant for a server: its extended key usage is ${list}, but clients require serverAuth`,
        'issue one with serverAuth, and also clientAuth if Gitaly presents it to GitLab',
      ),
    );
  }
  if (role !== 'server' && usages !== undefined && !usages.includes('clientAuth')) {
    const refused = 'every verifier that follows OpenSSL refuses it as client certificate';
    findings.push(
      role === 'client'
        ? error('no_client_usage', `${name} has ${list} as extended key usage: ${refused}`, ISSUE_FOR_CLIENTS)
        : warning(
            'no_client_usage',
            `${name} has ${list} as extended key usage: ${refused}, but Gitaly presents its server certificate ` +
              "to GitLab's internal API",
            ISSUE_FOR_CLIENTS,
          ),
    );
  }
  if (keyUsage !== undefined && !keyUsage.includes('digitalSignature')) {
    findings.push(
      error(
        'no_digital_signature',
        `${name} may not sign handshakes: its key usage is ${keyUsage.join(', ') || 'nothing'}, but TLS 1.3 and the ` +
          'ECDHE suites of TLS 1.2 need digitalSignature',
        'issue one with digitalSignature as key usage',
      ),
    );
  }
  return findings;
}

function judgeLeaf({ facts, name }: Judged): CertificateFinding[] {
  if (facts.authority) {
    return [
      warning(
        'authority_as_leaf',
        `${name} is that of an authority (CA:TRUE): its key can issue certificates that everyone who trusts it accepts`,
        'issue one with CA:FALSE from it, and keep its key elsewhere',
      ),
    ];
  }
  if (facts.keyUsage?.includes('keyCertSign') === true) {
    return [
      warning(
        'contradictory_authority',
        `${name} has keyCertSign as key usage but is not an authority (CA:FALSE); strict verifiers refuse it`,
        'issue one without keyCertSign',
      ),
    ];
  }
  return [];
}

function judgeAuthority({ facts, name }: Judged): CertificateFinding[] {
  if (!facts.authority) {
    return [
      error(
        'no_authority',
        `${name} is not that of an authority (CA:TRUE is missing): certificates that it signed are refused`,
        "use the issuer's certificate, or create an authority with CA:TRUE as basic constraint",
      ),
    ];
  }
  if (facts.keyUsage !== undefined && !facts.keyUsage.includes('keyCertSign')) {
    return [
      error(
        'no_authority',
        `${name} is that of an authority that may not sign certificates: its key usage lacks keyCertSign`,
        'create an authority with keyCertSign and cRLSign as key usage',
      ),
    ];
  }
  return [];
}
