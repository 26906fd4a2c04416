import { oneLineName } from '../pem-files.js';
import { error, subjectOf, warning, type Finding, type Judged } from './finding.js';
import { judgeStrength } from './strength.js';
import { judgeValidity } from './validity.js';

/** What a server sends, from the leaf up, as far as one certificate has signed the other. */
export interface Path {
  /** The leaf first. */
  readonly path: readonly Judged[];
  readonly findings: readonly Finding[];
}

/**
 * Follows a chain from its leaf to the last issuer that it holds, and tells what is out of order, twice there, or no
 * part of it. An issuer must stand right after what it issued (RFC 5246 section 7.4.2).
 */
export function followChain(chain: readonly [Judged, ...Judged[]]): Path {
  const findings: Finding[] = [];
  const unique = withoutDuplicates(chain, findings);
  const [first] = unique;
  const leaf = isAuthorityOfOthers(first, unique)
    ? (unique.find(({ facts }) => !facts.authority) ?? first)
    : first;
  if (leaf !== first) {
    findings.push(
      error(
        'chain_order',
        `the first certificate is that of the authority ${subjectOf(first.x509)}, and the leaf, ${subjectOf(leaf.x509)}, stands after it`,
        'put the leaf first, then each issuer after what it issued',
      ),
    );
  }
  const path: Judged[] = [leaf];
  for (let last = leaf; !isSelfSigned(last);) {
    const rest = unique.filter((each) => !path.includes(each));
    const issuer =
      rest.find((each) => hasSigned(each, last)) ?? rest.find((each) => isNamedAsIssuer(each, last));
    if (issuer === undefined) break;
    if (!hasSigned(issuer, last)) {
      findings.push(wrongIssuer(last, issuer));
      path.push(issuer);
      break;
    }
    path.push(issuer);
    last = issuer;
  }
  for (const stray of unique) {
    if (path.includes(stray)) continue;
    findings.push(
      warning(
        'unrelated_certificate',
        `the certificate of ${subjectOf(stray.x509)} has issued nothing that is in the chain`,
        'take it out, or look whether an issuer between is missing',
      ),
    );
  }
  const inOrder = unique.filter((each) => path.includes(each));
  if (leaf === first && inOrder.some((each, index) => each !== path[index])) {
    findings.push(
      warning(
        'chain_order',
        'the intermediates are not in order; some clients refuse that in TLS 1.2',
        'put each issuer right after what it issued',
      ),
    );
  }
  return { path, findings };
}

/** What is wrong with the issuers of a path: each must be an authority that may issue, so many levels below it, and now. */
export function judgeIssuers(path: readonly Judged[], now: Date): Finding[] {
  return path.slice(1).flatMap((issuer, below) => {
    const validity = judgeValidity(issuer, now);
    return [
      ...judgeAsIssuer(issuer, below),
      // The first has signed the leaf and is needed. Further up a client may know another one with the same key: that is
      // how authorities that come after another are brought in.
      ...(below === 0 ? validity : validity.map((finding) => ({ ...finding, severity: 'warning' as const }))),
      ...judgeStrength(issuer),
    ];
  });
}

/** @param below - the intermediates between it and the leaf. */
function judgeAsIssuer({ facts, x509 }: Judged, below: number): Finding[] {
  if (!facts.authority || facts.keyUsage?.includes('keyCertSign') === false) {
    return [
      error(
        'issuer_is_no_authority',
        `${subjectOf(x509)} has issued a certificate of the chain and is no authority: ` +
          (facts.authority ? 'its key usage lacks keyCertSign' : 'its certificate lacks CA:TRUE'),
        'have the certificate issued by an authority',
      ),
    ];
  }
  if (facts.pathLength === undefined || below <= facts.pathLength) return [];
  return [
    error(
      'path_too_long',
      `the authority ${subjectOf(x509)} allows ${facts.pathLength} intermediates below it (pathlen), and there are ${below}`,
      'have the certificate issued by an authority further up',
    ),
  ];
}

/** Whether a path ends in an authority that is trusted. */
export function judgeTrust(path: readonly Judged[], trust: readonly Judged[]): Finding[] {
  const last = path.at(-1);
  if (last === undefined) return [];
  const trusted = new Set(trust.map(({ x509 }) => x509.fingerprint256));
  if (path.some(({ x509 }) => trusted.has(x509.fingerprint256))) return [];
  const anchors = trust.filter((each) => isNamedAsIssuer(each, last));
  const anchor = anchors.find((each) => hasSigned(each, last));
  if (anchor !== undefined) return judgeAsIssuer(anchor, path.length - 1);
  const [namesake] = anchors;
  if (namesake !== undefined) return [wrongIssuer(last, namesake)];
  const issuer = oneLineName(last.x509.issuer);
  if (isSelfSigned(last)) {
    return [
      error(
        'untrusted',
        path.length === 1
          ? `${last.name} is self-signed and is not among the trusted authorities`
          : `the chain ends in ${subjectOf(last.x509)}, which is not among the trusted authorities`,
        'add it to the trusted authorities of whoever connects, if it is the right one',
      ),
    ];
  }
  return [
    error(
      'missing_issuer',
      `${last.name} was issued by ${issuer}, which is neither in the chain nor among the trusted authorities`,
      `append the certificate of ${issuer} to the certificate file if it is an intermediate; if it is the root, add it to ` +
        'the trusted authorities of whoever connects',
    ),
  ];
}

function isSelfSigned({ x509, publicKey }: Judged): boolean {
  return x509.subject === x509.issuer && x509.verify(publicKey);
}

/** By name, and by the identifier of the key where both say one: authorities that renew their key keep their name. */
function isNamedAsIssuer(issuer: Judged, subject: Judged): boolean {
  if (issuer.x509.subject !== subject.x509.issuer) return false;
  const [wanted, own] = [subject.facts.authorityKeyId, issuer.facts.subjectKeyId];
  return wanted === undefined || own === undefined || wanted === own;
}

function hasSigned(issuer: Judged, subject: Judged): boolean {
  return isNamedAsIssuer(issuer, subject) && subject.x509.verify(issuer.publicKey);
}

function wrongIssuer(subject: Judged, issuer: Judged): Finding {
  return error(
    'wrong_issuer',
    `${subject.name} names ${subjectOf(issuer.x509)} as its issuer, and the key of that certificate has not signed it: two ` +
      'authorities have the same name',
    'put the certificate of the authority that has signed it there',
  );
}

function isAuthorityOfOthers(judged: Judged, chain: readonly Judged[]): boolean {
  return judged.facts.authority && chain.some(({ facts }) => !facts.authority);
}

function withoutDuplicates(
  chain: readonly [Judged, ...Judged[]],
  findings: Finding[],
): [Judged, ...Judged[]] {
  const [first, ...others] = chain;
  const unique: [Judged, ...Judged[]] = [first];
  for (const each of others) {
    if (unique.some(({ x509 }) => x509.fingerprint256 === each.x509.fingerprint256)) {
      findings.push(
        warning(
          'duplicate_certificate',
          `the certificate of ${subjectOf(each.x509)} is there more than once`,
          'keep one of them',
        ),
      );
    } else unique.push(each);
  }
  return unique;
}
