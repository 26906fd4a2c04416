import { createSecureContext } from 'node:tls';

import type { FileSetting, Problem } from '../config/model.js';
import { attempt } from './certificate-pair.js';
import { crlNextUpdate } from './crl-next-update.js';
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

function parseLists(path: string, text: string): RevocationLists {
  const pem = text.match(CRL_BLOCK) ?? [];
  // What is left of a list that is being written would refuse every client of its issuer.
  if (text.split('-----BEGIN X509 CRL-----').length - 1 !== pem.length)
    throw new FileProblem(`${path}: truncated, a certificate revocation list begins and does not end`);
  if (pem.length === 0)
    throw new FileProblem(`${path}: holds no certificate revocation list in PEM (X509 CRL)`);
  let nextUpdate: Date | undefined;
  for (const block of pem) {
    const date = readNextUpdate(path, block);
    if (date !== undefined && (nextUpdate === undefined || date < nextUpdate)) nextUpdate = date;
  }
  return { pem: [...pem], nextUpdate };
}

function readNextUpdate(path: string, pem: string): Date | undefined {
  const base64 = pem.replace(/-----[^-]+-----/g, '');
  try {
    // OpenSSL judges the whole list, as it will when it is put in force; only the date is ours to read.
    createSecureContext({ crl: pem });
    return crlNextUpdate(Buffer.from(base64, 'base64'));
  } catch {
    throw new FileProblem(`${path}: a certificate revocation list in it cannot be parsed`);
  }
}
