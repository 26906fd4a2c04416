import type { CertificatePair, Problem } from '../config/model.js';
import { certificateNames, describeSubject, type CertificateNames } from './certificate-names.js';
import type { Certificate } from './certificate.js';
import { periodOf, type Dated } from './dated.js';
import { LEAF_FIRST } from './judge/build-chain.js';
import { sentenceWithCure, type FindingId } from './judge/certificate-finding.js';
import { judgeForServing } from './judge/judge-chain.js';
import { loadKey, warnOfReaders } from './key-file.js';
import { FileProblem, parseCertificates, readSettingFile } from './pem-files.js';

/** A key pair: a certificate and its matching key, parsed and verified. */
export interface LoadedPair {
  /** Leaf first, then intermediates, as in the file. */
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly leaf: Certificate;
  /** The leaf certificate with its validity period. */
  readonly dated: Dated;
  readonly names: CertificateNames;
}

/** The use of the certificate, which determines the names that it must have. */
export type PairRole = 'server' | 'client';

/**
 * Reads a certificate and its key and checks everything that can be checked without a peer: both parse, the key matches, a
 * server's certificate has a SAN, the certificate is in date (a warning), and the key is not readable by others (a warning).
 * @returns the pair, or `undefined` with at least one problem of severity `error` added to `problems`
 */
export async function loadPair(
  setting: CertificatePair,
  role: PairRole,
  now: Date,
  problems: Problem[],
): Promise<LoadedPair | undefined> {
  const report = (
    at: 'certificate' | 'key',
    message: string,
    more: Pick<Problem, 'severity' | 'isAboutDates'> = { severity: 'error' },
  ): void => {
    problems.push({ key: setting[at].key, message, value: setting[at].path, ...more });
  };
  const certificates = await attempt(async () => {
    const { path } = setting.certificate;
    const text = await readSettingFile(path);
    const parsed = parseCertificates(path, text);
    if (parsed.length === 0) {
      throw new FileProblem(
        `${path}: holds no certificate; PEM is needed, the leaf first, then intermediates`,
      );
    }
    return parsed;
  });
  const key = await attempt(() => loadKey(setting.key.path));
  if (certificates instanceof FileProblem) report('certificate', certificates.message);
  if (key instanceof FileProblem) report('key', key.message);
  if (!(key instanceof FileProblem)) warnOfReaders(setting.key, key.mode, problems);
  if (certificates instanceof FileProblem || key instanceof FileProblem) return undefined;
  const leaf = certificates[0]?.x509;
  if (leaf === undefined) return undefined;

  const { path } = setting.certificate;
  const owner = certificates.findIndex(({ x509 }) => x509.belongsTo(key.object));
  if (owner > 0) {
    // All other findings would concern the wrong certificate.
    const own = certificates[owner]?.x509 ?? leaf;
    report(
      'certificate',
      `${path}: the chain is in the wrong order: the key of ${setting.key.path} belongs to certificate ${owner + 1} in it, ` +
        `${describeSubject(own)}, and the first one is ${describeSubject(leaf)}; ${LEAF_FIRST}`,
    );
    return undefined;
  }
  const judged = judgeForServing(
    certificates.map(({ x509 }) => x509),
    { role, now },
  );
  // Dates alone never prevent a start or a renewal, so they are warnings. Imminent expiry is a metric with alerts: a
  // certificate that is valid for only one day would otherwise cause a warning at every reload.
  for (const finding of judged.leaf) {
    if (finding.id === 'expires_soon') continue;
    const isAboutDates = DATES.has(finding.id);
    report(
      'certificate',
      `${path}: ${sentenceWithCure(finding)}`,
      isAboutDates ? { severity: 'warning', isAboutDates } : { severity: finding.severity },
    );
  }
  // Problems above the leaf do not prevent serving it: a peer may know another path to an authority.
  for (const finding of judged.chain) {
    if (finding.id !== 'expires_soon')
      report('certificate', `${path}: ${sentenceWithCure(finding)}`, { severity: 'warning' });
  }
  if (owner < 0) report('key', `${setting.key.path}: does not match the certificate in ${path}`);
  if (judged.leaf.some(({ id, severity }) => severity === 'error' && !DATES.has(id)) || owner < 0)
    return undefined;
  return {
    certificatePem: certificates.map(({ pem }) => pem).join('\n'),
    keyPem: key.pem,
    leaf,
    dated: {
      role: role === 'server' ? 'server' : 'upstream_client',
      setting: setting.certificate,
      name: `the certificate of ${describeSubject(leaf)}`,
      periods: [periodOf(leaf)],
    },
    names: certificateNames(leaf),
  };
}

const DATES: ReadonlySet<FindingId> = new Set(['expired', 'not_yet_valid']);

/** Runs a step and returns a `FileProblem` that it throws. Other errors are bugs and are rethrown. */
export async function attempt<T>(step: () => Promise<T>): Promise<T | FileProblem> {
  try {
    return await step();
  } catch (error) {
    if (error instanceof FileProblem) return error;
    throw error;
  }
}
