import { createPrivateKey, type KeyObject, type X509Certificate } from 'node:crypto';
import { stat } from 'node:fs/promises';

import type { CertificatePair, Problem } from '../config/model.js';
import { certificateNames, type CertificateNames } from './certificate-names.js';
import { FileProblem, parseCertificates, readSettingFile } from './pem-files.js';

/** A certificate with its key, read, parsed and found to belong together. */
export interface LoadedPair {
  /** Leaf first, then intermediates, as in the file. */
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly leaf: X509Certificate;
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
  if (!(key instanceof FileProblem) && (await readableByOthers(setting.key.path))) {
    report('key', `${setting.key.path}: readable by others; chmod 600 it`, 'warning');
  }
  if (certificates instanceof FileProblem || key instanceof FileProblem) return undefined;
  const leaf = certificates[0]?.x509;
  if (leaf === undefined) return undefined;

  const errors = checkLeaf(leaf, setting.certificate.path, role, now);
  for (const message of errors) report('certificate', message);
  const isPair = leaf.checkPrivateKey(key.object);
  if (!isPair) {
    report('key', `${setting.key.path}: does not belong to the certificate in ${setting.certificate.path}`);
  }
  if (errors.length > 0 || !isPair) return undefined;
  return {
    certificatePem: certificates.map(({ pem }) => pem).join('\n'),
    keyPem: key.pem,
    leaf,
    names: certificateNames(leaf),
  };
}

function checkLeaf(leaf: X509Certificate, path: string, role: PairRole, now: Date): string[] {
  const errors: string[] = [];
  const { dns, ip } = certificateNames(leaf);
  if (role === 'server' && dns.length + ip.length === 0) {
    errors.push(
      `${path}: the certificate has no Subject Alternative Name; Gitaly's clients ignore the Common Name ` +
        '("x509: certificate relies on legacy Common Name field"): issue one with the host name as SAN',
    );
  }
  if (new Date(leaf.validTo) < now)
    errors.push(`${path}: the certificate expired on ${isoDate(leaf.validTo)}`);
  if (new Date(leaf.validFrom) > now) {
    errors.push(
      `${path}: the certificate is not valid before ${isoDate(leaf.validFrom)}; is this machine's clock right?`,
    );
  }
  return errors;
}

/** RFC 3339 of the dates that Node prints as OpenSSL does (`Nov 23 07:00:00 2026 GMT`). */
export function isoDate(text: string): string {
  return new Date(text).toISOString();
}

async function loadKey(path: string): Promise<{ pem: string; object: KeyObject }> {
  const pem = await readSettingFile(path);
  try {
    return { pem, object: createPrivateKey(pem) };
  } catch (error) {
    const encrypted = pem.includes('ENCRYPTED');
    const empty = pem.trim() === '';
    const reason = encrypted
      ? 'the key is encrypted; a key without a passphrase is needed'
      : empty
        ? 'the file is empty'
        : `no private key in PEM (${error instanceof Error ? error.message : String(error)})`;
    throw new FileProblem(`${path}: ${reason}`);
  }
}

async function readableByOthers(path: string): Promise<boolean> {
  try {
    return ((await stat(path)).mode & 0o007) !== 0;
  } catch {
    return false;
  }
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
