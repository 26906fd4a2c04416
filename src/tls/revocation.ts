import type { FileSetting, Problem } from '../config/model.js';
import { attempt } from './certificate-pair.js';
import { FileProblem, readSettingFile } from './pem-files.js';

/** Certificate revocation lists, in PEM, and when the first of them must be replaced. */
export interface RevocationLists {
  readonly pem: readonly string[];
  /** The earliest `nextUpdate`: after it OpenSSL refuses everybody (`CRL_HAS_EXPIRED`). */
  readonly nextUpdate: Date | undefined;
}

const CRL_BLOCK = /-----BEGIN X509 CRL-----[^-]+-----END X509 CRL-----/g;
const WARN_BEFORE_MS = 24 * 60 * 60 * 1000;

/** Reads the CRLs of a file; one that is out of date is an error, since it would refuse every client. */
export async function loadRevocations(
  setting: FileSetting,
  now: Date,
  problems: Problem[],
): Promise<RevocationLists | undefined> {
  const lists = await attempt(async () => parseLists(setting.path, await readSettingFile(setting.path)));
  const report = (severity: Problem['severity'], message: string): void => {
    problems.push({
      severity,
      key: setting.key,
      message: `${setting.path}: ${message}`,
      value: setting.path,
    });
  };
  if (lists instanceof FileProblem) {
    problems.push({ severity: 'error', key: setting.key, message: lists.message, value: setting.path });
    return undefined;
  }
  const { nextUpdate } = lists;
  if (nextUpdate !== undefined && nextUpdate <= now) {
    report(
      'error',
      `the CRL is out of date since ${nextUpdate.toISOString()}; every client would be refused`,
    );
    return undefined;
  }
  if (nextUpdate !== undefined && nextUpdate.getTime() - now.getTime() < WARN_BEFORE_MS) {
    report(
      'warning',
      `the CRL must be replaced before ${nextUpdate.toISOString()}; after it every client is refused`,
    );
  }
  return lists;
}

async function parseLists(path: string, text: string): Promise<RevocationLists> {
  const pem = text.match(CRL_BLOCK) ?? [];
  if (pem.length === 0)
    throw new FileProblem(`${path}: holds no certificate revocation list in PEM (X509 CRL)`);
  // Loaded on demand: most installations have no CRL, and the ASN.1 library is the slowest import of the program.
  const { X509Crl } = await import('@peculiar/x509');
  let nextUpdate: Date | undefined;
  for (const block of pem) {
    let crl;
    try {
      crl = new X509Crl(block);
    } catch {
      throw new FileProblem(`${path}: a certificate revocation list in it cannot be parsed`);
    }
    if (crl.nextUpdate !== undefined && (nextUpdate === undefined || crl.nextUpdate < nextUpdate)) {
      nextUpdate = crl.nextUpdate;
    }
  }
  return { pem: [...pem], nextUpdate };
}
