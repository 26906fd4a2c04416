import { MAX_CHAIN_PATHS, MAX_SIGNATURE_CHECKS } from '../../limits.js';
import { describeIssuer, describeSubject } from '../certificate-names.js';
import type { Certificate } from '../certificate.js';
import {
  error,
  warning,
  type CertificateRole,
  type CertificateFinding,
  type Judged,
} from './certificate-finding.js';
import { judgeNameConstraints } from './judge-name-constraints.js';
import { judgeCriticalExtensions, judgeStrength } from './judge-strength.js';
import { judgeValidity } from './judge-validity.js';

/** Certificates from the leaf up, each signed by the next. */
export interface ChainPath {
  /** The leaf first. */
  readonly path: readonly Judged[];
  /** The order of the chain, the issuers of the path and, if requested, its trust. */
  readonly findings: readonly CertificateFinding[];
}

/** The purpose of a chain, as far as it matters for its issuers. */
export interface PathQuestion {
  readonly role: CertificateRole;
  readonly trust?: readonly Certificate[] | undefined;
  readonly now: Date;
  /** Reads an authority of `trust`; `undefined` if it cannot be read. */
  readonly read: (certificate: Certificate) => Judged | undefined;
}

/** The fix for a chain whose leaf is not its first certificate. */
export const LEAF_FIRST =
  'put the leaf first, then each issuer after the certificate that it issued: cat leaf.pem intermediate.pem > certificate.pem';

/**
 * Follows a chain from its leaf to an authority and reports the problems on the way.
 *
 * If several paths exist (a cross-signed root, an issuer next to its own renewal), verifiers look for a valid one. So the path
 * with the fewest problems is judged, and the certificates of the others are not reported. An issuer should directly follow
 * the certificate that it issued (RFC 5246 section 7.4.2).
 */
export function followChain(chain: readonly [Judged, ...Judged[]], question: PathQuestion): ChainPath {
  const findings: CertificateFinding[] = [];
  const unique = withoutDuplicates(chain, findings);
  const signatures = new Signatures();
  const [first] = unique;
  const leaf = findLeaf(unique, signatures);
  if (leaf !== first) findings.push(leafNotFirst(first, leaf));

  const found: NonEmpty[] = [];
  findWaysUp([leaf], unique, signatures, found);
  const ways = found.map((path) => judgePath(path, question, signatures, unique));
  const [firstWay, ...otherWays] = ways;
  const best = otherWays.reduce(
    (one, other) => (weight(other) < weight(one) ? other : one),
    firstWay ?? NO_WAY,
  );
  const reachable = new Set(ways.flatMap(({ whole }) => whole));
  for (const stray of unique) {
    if (reachable.has(stray) || isNamesake(stray, best.whole)) continue;
    // Duplicates are reported by another finding.
    if (best.whole.some((each) => isNamedAsIssuer(stray, each))) continue;
    findings.push(
      warning(
        'unrelated_certificate',
        `the certificate of ${describeSubject(stray.x509)} has not issued any certificate of the chain`,
        'remove it, or add the missing issuer between them',
      ),
    );
  }
  // Go parses all certificates of a chain before it looks for a path.
  const aside = unique.filter((each) => each !== leaf && !best.path.includes(each));
  findings.push(...aside.flatMap(judgeStrength).filter(({ id }) => id === 'explicit_curve'));
  const inOrder = unique.filter((each) => best.whole.includes(each));
  if (leaf === first && inOrder.some((each, index) => each !== best.whole[index])) {
    findings.push(
      warning(
        'chain_order',
        'the intermediates are not in order, which some clients refuse in TLS 1.2',
        'put each issuer directly after the certificate that it issued',
      ),
    );
  }
  return { path: best.path, findings: [...findings, ...best.findings] };
}

/** Reports certificates in the wrong order. */
export function leafNotFirst(first: Judged, leaf: Judged): CertificateFinding {
  return error(
    'chain_order',
    `the chain is in the wrong order: its first certificate is that of ${describeSubject(first.x509)}, and the leaf, ` +
      `${describeSubject(leaf.x509)}, follows it`,
    LEAF_FIRST,
  );
}

/** A path and its problems. */
interface Way {
  /** The part that is needed to reach a trusted authority. */
  readonly path: readonly Judged[];
  /** The whole path. */
  readonly whole: readonly Judged[];
  readonly findings: readonly CertificateFinding[];
}

const NO_WAY: Way = { path: [], whole: [], findings: [] };

function weight({ findings }: Way): number {
  return findings.reduce((sum, { severity }) => sum + (severity === 'error' ? 1000 : 1), 0);
}

type NonEmpty = readonly [Judged, ...Judged[]];

/** Adds the paths that begin with this one, each as long as possible. */
function findWaysUp(
  path: NonEmpty,
  chain: readonly Judged[],
  signatures: Signatures,
  found: NonEmpty[],
): void {
  const last = path.at(-1) ?? path[0];
  // A certificate with the same name and key is the same authority, so a path need not contain both.
  const issuers = signatures.isSelfSigned(last)
    ? []
    : chain.filter((each) => !isNamesake(each, path) && signatures.hasSigned(each, last));
  if (issuers.length === 0) found.push(path);
  for (const issuer of issuers) {
    if (found.length >= MAX_CHAIN_PATHS) return;
    findWaysUp([...path, issuer], chain, signatures, found);
  }
}

function judgePath(
  whole: NonEmpty,
  question: PathQuestion,
  signatures: Signatures,
  chain: readonly Judged[],
): Way {
  if (question.trust === undefined)
    return {
      path: whole,
      whole,
      findings: [...judgeIssuers(whole, question, 'unknown'), ...wrongIssuers(whole, chain)],
    };
  const trusted = new Set(question.trust.map(({ fingerprint256 }) => fingerprint256));
  const ways: Way[] = [];
  whole.forEach((last, index) => {
    const path = whole.slice(0, index + 1);
    if (trusted.has(last.x509.fingerprint256))
      ways.push({ path, whole, findings: judgeIssuers(path, question, 'trusted') });
    for (const anchor of anchorsOf(last, question)) {
      if (signatures.hasSigned(anchor, last))
        ways.push({ path, whole, findings: judgeIssuers([...path, anchor], question, 'trusted') });
    }
  });
  const [first, ...others] = ways;
  if (first) return others.reduce((one, other) => (weight(other) < weight(one) ? other : one), first);
  const findings = [
    ...judgeIssuers(whole, question, 'unknown'),
    ...untrusted(whole, question, signatures, chain),
  ];
  return { path: whole, whole, findings };
}

/** The trusted authorities that a certificate names as its issuer. */
function anchorsOf(subject: Judged, { trust = [], read }: PathQuestion): Judged[] {
  return trust
    .filter(({ subjectDer }) => subjectDer.equals(subject.x509.issuerDer))
    .flatMap((anchor) => read(anchor) ?? [])
    .filter((anchor) => isNamedAsIssuer(anchor, subject));
}

/**
 * The problems of a path's issuers: each must be an authority that may issue the certificates below it, and must be valid now.
 * @param end - whether the path ends in a trusted authority, so that each of its certificates is needed
 */
function judgeIssuers(
  path: readonly Judged[],
  { role, now }: PathQuestion,
  end: 'trusted' | 'unknown',
): CertificateFinding[] {
  const issuers = path.slice(1).flatMap((issuer, below) => {
    const isAnchor = end === 'trusted' && below === path.length - 2;
    // Renewing an authority that is already trusted is not the task of the server's operator.
    const validity = judgeValidity(issuer, now).filter(({ severity }) => !isAnchor || severity === 'error');
    return [
      ...judgeAsIssuer(issuer, below),
      // The first one has signed the leaf and is needed. Further up, a client may know another certificate with the same key:
      // this is how new authorities are introduced.
      ...(below === 0 || end === 'trusted'
        ? validity
        : validity.map((finding) => ({ ...finding, severity: 'warning' as const }))),
      // The signature of a trusted certificate is not verified.
      ...judgeStrength(issuer).filter(({ id }) => !isAnchor || id !== 'weak_signature'),
      ...judgeCriticalExtensions(issuer, role),
    ];
  });
  return [...issuers, ...judgeNameConstraints(path)];
}

/** @param below - the intermediates between it and the leaf. */
function judgeAsIssuer({ facts, x509 }: Judged, below: number): CertificateFinding[] {
  if (!facts.authority || facts.keyUsage?.includes('keyCertSign') === false) {
    return [
      error(
        'issuer_is_no_authority',
        `${describeSubject(x509)} has issued a certificate of the chain but is not an authority: ` +
          (facts.authority ? 'its key usage lacks keyCertSign' : 'its certificate lacks CA:TRUE'),
        'have the certificate issued by an authority',
      ),
    ];
  }
  if (facts.pathLength === undefined || below <= facts.pathLength) return [];
  return [
    error(
      'path_too_long',
      `the authority ${describeSubject(x509)} allows ${facts.pathLength} intermediates below it (pathlen), but there are ${below}`,
      'have the certificate issued by an authority further up',
    ),
  ];
}

/** Reports a path that ends below an authority of the chain that has the name of its issuer but another key. */
function wrongIssuers(path: readonly Judged[], chain: readonly Judged[]): CertificateFinding[] {
  const last = path.at(-1);
  if (last === undefined || isSelfIssued(last)) return [];
  const namesake = chain.find((each) => each !== last && isNamedAsIssuer(each, last));
  return namesake && !path.includes(namesake) ? [wrongIssuer(last, namesake)] : [];
}

/** Reports the reason why the path does not reach a trusted authority. */
function untrusted(
  path: NonEmpty,
  question: PathQuestion,
  signatures: Signatures,
  chain: readonly Judged[],
): CertificateFinding[] {
  const last = path.at(-1) ?? path[0];
  const [namesake] = anchorsOf(last, question);
  if (namesake !== undefined && !isSelfIssued(last)) return [wrongIssuer(last, namesake)];
  const wrong = wrongIssuers(path, chain);
  if (wrong.length > 0) return wrong;
  if (signatures.isSelfSigned(last)) {
    return [
      error(
        'untrusted',
        path.length === 1
          ? `${last.name} is self-signed and is not among the trusted authorities`
          : `the chain ends in ${describeSubject(last.x509)}, which is not among the trusted authorities`,
        'add it to the trusted authorities of the peers if it is the right one',
      ),
    ];
  }
  const issuer = describeIssuer(last.x509);
  return [
    error(
      'missing_issuer',
      `${last.name} was issued by ${issuer}, which is neither in the chain nor among the trusted authorities`,
      `append the certificate of ${issuer} to the certificate file if it is an intermediate; if it is the root, add it to ` +
        'the trusted authorities of the peers',
    ),
  ];
}

function wrongIssuer(subject: Judged, issuer: Judged): CertificateFinding {
  return error(
    'wrong_issuer',
    `${subject.name} names ${describeSubject(issuer.x509)} as its issuer, but the key of that certificate has not signed it: ` +
      'two authorities have the same name',
    'replace it with the certificate of the authority that has signed',
  );
}

/** The leaf: the first certificate, unless it has issued others, or is an authority while another certificate is not. */
function findLeaf(chain: readonly [Judged, ...Judged[]], signatures: Signatures): Judged {
  const [first, ...others] = chain;
  const hasIssued = (issuer: Judged): boolean =>
    chain.some(
      (each) => each !== issuer && !isNamesake(each, [issuer]) && signatures.hasSigned(issuer, each),
    );
  if (others.length === 0 || (!first.facts.authority && !hasIssued(first))) return first;
  const plain = others.find((each) => !each.facts.authority && !hasIssued(each));
  if (plain) return plain;
  return hasIssued(first) ? (others.find((each) => !hasIssued(each)) ?? first) : first;
}

/** Whether a certificate has the same subject and key as one of these. */
function isNamesake({ x509 }: Judged, others: readonly Judged[]): boolean {
  return others.some(
    (other) =>
      other.x509.subjectDer.equals(x509.subjectDer) && other.x509.publicKeyDer.equals(x509.publicKeyDer),
  );
}

function isSelfIssued({ x509 }: Judged): boolean {
  return x509.subjectDer.equals(x509.issuerDer);
}

/** Whether one names the other as issuer: by name and, if both have one, by key identifier, because a renewed key keeps the name. */
function isNamedAsIssuer(issuer: Judged, subject: Judged): boolean {
  // Compared byte by byte, as in Go.
  if (!issuer.x509.subjectDer.equals(subject.x509.issuerDer)) return false;
  const [wanted, own] = [subject.facts.authorityKeyId, issuer.facts.subjectKeyId];
  return wanted === undefined || own === undefined || wanted === own;
}

/** Which certificate has signed which. Each pair is checked once, and the checks of one chain are limited. */
class Signatures {
  readonly #checked = new Map<string, boolean>();

  hasSigned(issuer: Judged, subject: Judged): boolean {
    if (!isNamedAsIssuer(issuer, subject)) return false;
    const pair = `${issuer.x509.fingerprint256} ${subject.x509.fingerprint256}`;
    const known = this.#checked.get(pair);
    if (known !== undefined) return known;
    if (this.#checked.size >= MAX_SIGNATURE_CHECKS) return false;
    const signed = subject.x509.isSignedWith(issuer.publicKey);
    this.#checked.set(pair, signed);
    return signed;
  }

  isSelfSigned(judged: Judged): boolean {
    return isSelfIssued(judged) && this.hasSigned(judged, judged);
  }
}

function withoutDuplicates(
  chain: readonly [Judged, ...Judged[]],
  findings: CertificateFinding[],
): [Judged, ...Judged[]] {
  const [first, ...others] = chain;
  const unique: [Judged, ...Judged[]] = [first];
  for (const each of others) {
    if (unique.some(({ x509 }) => x509.fingerprint256 === each.x509.fingerprint256)) {
      findings.push(
        warning(
          'duplicate_certificate',
          `the chain contains the certificate of ${describeSubject(each.x509)} more than once`,
          'keep one of them',
        ),
      );
    } else unique.push(each);
  }
  return unique;
}
