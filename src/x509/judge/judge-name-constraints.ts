import { describeSubject } from '../certificate-names.js';
import { describeGeneralName, type GeneralName } from '../general-names.js';
import { violation } from '../name-constraints.js';
import { error, type CertificateFinding, type Judged } from './certificate-finding.js';

/** A certificate may have thousands of names. Verifiers, too, give up after a number of comparisons. */
const MAX_COMPARISONS = 10_000;

/**
 * Whether the authorities of a path may issue for the names below them (RFC 5280 section 4.2.1.10).
 * @param path - the leaf first
 */
export function judgeNameConstraints(path: readonly Judged[]): CertificateFinding[] {
  const findings: CertificateFinding[] = [];
  let comparisons = 0;
  path.forEach(({ facts: { nameConstraints }, x509: authority }, index) => {
    if (!nameConstraints) return;
    for (const judged of path.slice(0, index)) {
      for (const name of namesOf(judged, judged === path[0])) {
        comparisons += nameConstraints.permitted.length + nameConstraints.excluded.length;
        if (comparisons > MAX_COMPARISONS) return;
        const why = violation(name, nameConstraints);
        if (why === undefined) continue;
        findings.push(
          error(
            'name_constraints',
            `the authority ${describeSubject(authority)} may not issue ${judged.name} for ${describeGeneralName(name)}: ` +
              `by its name constraints ${why}`,
            'issue one for names that the authority permits, or have it issued by another authority',
          ),
        );
        // One refused name suffices to refuse the certificate.
        break;
      }
    }
  });
  return findings;
}

/** The names that constraints apply to. A Common Name counts, as in OpenSSL, for a leaf that has no DNS name. */
function namesOf({ x509 }: Judged, isLeaf: boolean): GeneralName[] {
  const { alternativeNames, commonName, subjectName } = x509;
  const names: GeneralName[] = [...alternativeNames];
  if (subjectName.length > 0) names.push({ kind: 'directory', value: subjectName });
  const hasDnsName = alternativeNames.some(({ kind }) => kind === 'dns');
  if (isLeaf && !hasDnsName && commonName !== undefined && /^[\w-]+(\.[\w-]+)+$/u.test(commonName))
    names.push({ kind: 'dns', value: commonName });
  return names;
}
