import { join } from 'node:path';
import { rootCertificates } from 'node:tls';

import { listDirectory, statPath } from '../files/read-file.js';
import type { FileSetting, Problem, TrustSource } from '../config/model.js';
import { attempt } from './certificate-pair.js';
import {
  describeFileError,
  FileProblem,
  parseCertificates,
  readSettingFile,
  type PemCertificate,
} from './pem-files.js';

/** One or more certificate authorities. */
export type TrustAnchors = readonly PemCertificate[];

/**
 * Reads all certificates of a trust source. In a directory, files without a certificate are skipped, as Go does with
 * `SSL_CERT_DIR`; a file that is named must contain one.
 *
 * An empty result is an error, never a fallback: Node interprets `ca: ''` as "the public roots", which would admit every
 * client with a certificate of a public CA.
 */
export async function loadTrust(source: TrustSource, problems: Problem[]): Promise<TrustAnchors | undefined> {
  const anchors: PemCertificate[] = [];
  const broken: FileSetting[] = [];
  const add = async (setting: FileSetting, step: () => Promise<PemCertificate[]>): Promise<void> => {
    const loaded = await attempt(step);
    if (loaded instanceof FileProblem) {
      broken.push(setting);
      problems.push({ severity: 'error', key: setting.key, message: loaded.message, value: setting.path });
    } else {
      anchors.push(...loaded);
    }
  };
  for (const file of source.files) {
    await add(file, async () => {
      const certificates = parseCertificates(file.path, await readSettingFile(file.path));
      if (certificates.length === 0)
        throw new FileProblem(`${file.path}: holds no certificate; a CA in PEM is needed`);
      return certificates;
    });
  }
  for (const directory of source.directories) {
    await add(directory, async () => {
      const certificates = await loadDirectory(directory.path, (message) =>
        problems.push({ severity: 'warning', key: directory.key, message, value: directory.path }),
      );
      if (certificates.length === 0)
        throw new FileProblem(`${directory.path}: no file in it holds a CA certificate in PEM`);
      return certificates;
    });
  }
  return broken.length > 0 ? undefined : anchors;
}

/**
 * The files of a trust directory in a stable order. Hash links of `c_rehash` point to the same files. A file that cannot be
 * read or parsed, such as a dangling link, is skipped and reported; the other authorities are still trusted.
 */
async function loadDirectory(path: string, warn: (message: string) => void): Promise<PemCertificate[]> {
  let names: string[];
  try {
    names = await listDirectory(path);
  } catch (error) {
    throw new FileProblem(describeFileError(path, error));
  }
  const byFingerprint = new Map<string, PemCertificate>();
  for (const name of names) {
    // In Kubernetes, `..data` and `..2026_…` are directories next to links to their content.
    if (name.startsWith('.')) continue;
    const file = join(path, name);
    const certificates = await attempt(async () =>
      (await isDirectory(file)) ? [] : parseCertificates(file, await readSettingFile(file)),
    );
    if (certificates instanceof FileProblem) {
      warn(`${certificates.message}; the file is skipped: remove or correct it`);
      continue;
    }
    for (const certificate of certificates) byFingerprint.set(certificate.x509.fingerprint256, certificate);
  }
  return [...byFingerprint.values()];
}

/** @throws FileProblem */
async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await statPath(path)).isDirectory();
  } catch (error) {
    throw new FileProblem(describeFileError(path, error));
  }
}

/** The files in which Go looks for the system's roots on Linux (crypto/x509, root_linux.go), in its order. */
const SYSTEM_BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/pki/tls/cacert.pem',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** The PEM text of the system's trust store, or else of the roots bundled with Node. */
export async function loadSystemTrust(): Promise<string[]> {
  for (const bundle of SYSTEM_BUNDLES) {
    const text = await attempt(() => readSettingFile(bundle));
    if (!(text instanceof FileProblem) && text.includes('-----BEGIN CERTIFICATE-----')) return [text];
  }
  return [...rootCertificates];
}
