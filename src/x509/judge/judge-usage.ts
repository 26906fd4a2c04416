import {
  error,
  warning,
  type CertificateRole,
  type CertificateFinding,
  type Judged,
} from './certificate-finding.js';

/** What to issue instead of a certificate that may not be presented by a client. */
export const ISSUE_FOR_CLIENTS =
  "issue one with serverAuth and clientAuth where it is a server's too, as that of a Gitaly which calls GitLab; else " +
  'one with clientAuth';

/** Whether key usage, extended key usage and basic constraints allow what a certificate is for. */
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
        `${name} is not meant for a server: its extended key usage holds ${list}, and clients want serverAuth`,
        'issue one with serverAuth, and clientAuth too where Gitaly presents it to GitLab',
      ),
    );
  }
  if (role !== 'server' && usages !== undefined && !usages.includes('clientAuth')) {
    const refused = 'every verifier that follows OpenSSL refuses it as client certificate';
    findings.push(
      role === 'client'
        ? error(
            'no_client_usage',
            `${name} holds ${list} as extended key usage: ${refused}`,
            ISSUE_FOR_CLIENTS,
          )
        : warning(
            'no_client_usage',
            `${name} holds ${list} as extended key usage: ${refused}, and Gitaly presents its server certificate ` +
              "to GitLab's internal API",
            ISSUE_FOR_CLIENTS,
          ),
    );
  }
  if (keyUsage !== undefined && !keyUsage.includes('digitalSignature')) {
    findings.push(
      error(
        'no_digital_signature',
        `${name} may not sign handshakes: its key usage holds ${keyUsage.join(', ') || 'nothing'}, and TLS 1.3 and the ` +
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
        `${name} is that of an authority (CA:TRUE): whoever has its key can issue certificates that all who trust it accept`,
        'issue one with CA:FALSE from it, and keep its key elsewhere',
      ),
    ];
  }
  if (facts.keyUsage?.includes('keyCertSign') === true) {
    return [
      warning(
        'contradictory_authority',
        `${name} has keyCertSign as key usage and is no authority (CA:FALSE); strict verifiers refuse it`,
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
        `${name} is not that of an authority (CA:TRUE is missing): what it signed is refused`,
        "use the issuer's certificate, or make an authority with CA:TRUE as basic constraint",
      ),
    ];
  }
  if (facts.keyUsage !== undefined && !facts.keyUsage.includes('keyCertSign')) {
    return [
      error(
        'no_authority',
        `${name} is that of an authority which may not sign certificates: its key usage lacks keyCertSign`,
        'make an authority with keyCertSign and cRLSign as key usage',
      ),
    ];
  }
  return [];
}
