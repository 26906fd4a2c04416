import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { codeOf } from '../../error-codes.js';
import { certificateFacts } from '../../x509/certificate-facts.js';
import { certificateNames } from '../../x509/certificate-names.js';
import type { Certificate } from '../../x509/certificate.js';
import { describeFileError, FileProblem, parseCertificates, readSettingFile } from '../../x509/pem-files.js';
import type { LeafRole } from './issue.js';
import type { KeyType } from './keys.js';
import type { SubjectName } from './subject-name.js';

/** The properties of an issued certificate that its renewal keeps. */
export interface ExistingCertificate {
  readonly x509: Certificate;
  readonly role: LeafRole;
  readonly names: readonly SubjectName[];
  readonly keyType: KeyType;
}

/** Whether the path exists, even as a dangling link. */
export async function pathExists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw new FileProblem(describeFileError(path, error));
  }
}

/** @throws FileProblem if the file contains no certificate */
export async function readExisting(path: string): Promise<ExistingCertificate> {
  const [leaf] = parseCertificates(path, await readSettingFile(path));
  if (leaf === undefined) throw new FileProblem(`${path}: contains no PEM certificate`);
  const { x509 } = leaf;
  const { dns, ip, uri } = certificateNames(x509);
  return {
    x509,
    role: certificateFacts(x509).extendedKeyUsage?.includes('serverAuth') === true ? 'server' : 'client',
    names: [
      ...dns.map((value) => ({ kind: 'dns', value }) as const),
      ...ip.map((value) => ({ kind: 'ip', value }) as const),
      ...uri.map((value) => ({ kind: 'url', value }) as const),
    ],
    keyType: x509.publicKey.asymmetricKeyType === 'rsa' ? 'rsa' : 'ec',
  };
}

/**
 * Finds the certificates that an authority has issued and whose key is in the same directory. Returns their file names
 * without the extension, sorted.
 */
export async function findIssued(directory: string, authority: Certificate): Promise<string[]> {
  const files = new Set(await readdir(directory));
  const found: string[] = [];
  for (const file of [...files].sort()) {
    const name = /^([^.].*)\.pem$/u.exec(file)?.[1];
    if (name === undefined || !files.has(`${name}.key`)) continue;
    const { x509 } = await readExisting(join(directory, file));
    if (isIssuedBy(x509, authority) && x509.fingerprint256 !== authority.fingerprint256) found.push(name);
  }
  return found;
}

export function isIssuedBy(x509: Certificate, authority: Certificate): boolean {
  return x509.issuerDer.equals(authority.subjectDer) && x509.isSignedWith(authority.publicKey);
}
