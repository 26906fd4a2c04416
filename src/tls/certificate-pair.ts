import type { CertificatePair, Problem } from '../config/model.js';
import { certificateNames, describeSubject, type CertificateNames } from './certificate-names.js';
import type { Certificate } from './certificate.js';
import { LEAF_FIRST } from './judge/chain.js';
import { sentenceWithCure, type Finding } from './judge/finding.js';
import { judgeForServing } from './judge/judge-chain.js';
import { loadKey, warnOfReaders } from './key-file.js';
import { FileProblem, parseCertificates, readSettingFile } from './pem-files.js';

/** A certificate with its key, read, parsed and found to belong together. */
export interface LoadedPair {
  /** Leaf first, then intermediates, as in the file. */
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly leaf: Certificate;
  readonly names: CertificateNames;
}

/** What the certificate is for: it decides which names it must hold. */
export type PairRole = 'server' | 'client';

/**
 * Reads a certificate and its key and checks all that can be checked without a peer: both parse, they are a pair,
 * the certificate is in date, a server's has a SAN, and the key is not readable by others (a warning).
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
    severity: Problem['severity'] = 'error',
  ): void => {
    problems.push({ severity, key: setting[at].key, message, value: setting[at].path });
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
    // Everything else that could be reported would be about the wrong certificate.
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
  for (const finding of [...judged.leaf, ...judged.chain.map(asWarning)]) {
    // When it expires is a metric, with alerts: one that lives for a day only would be told of at each reload.
    if (finding.id !== 'expires_soon')
      report('certificate', `${path}: ${sentenceWithCure(finding)}`, finding.severity);
  }
  if (owner < 0) report('key', `${setting.key.path}: does not belong to the certificate in ${path}`);
  if (judged.leaf.some(({ severity }) => severity === 'error') || owner < 0) return undefined;
  return {
    certificatePem: certificates.map(({ pem }) => pem).join('\n'),
    keyPem: key.pem,
    leaf,
    names: certificateNames(leaf),
  };
}

/** What is wrong above the leaf does not keep it from being served: a peer may know another way to an authority. */
function asWarning(finding: Finding): Finding {
  return { ...finding, severity: 'warning' };
}

/** Runs a step; a problem with a file becomes a value, anything else is a fault of ours and goes on. */
export async function attempt<T>(step: () => Promise<T>): Promise<T | FileProblem> {
  try {
    return await step();
  } catch (error) {
    if (error instanceof FileProblem) return error;
    throw error;
  }
}
