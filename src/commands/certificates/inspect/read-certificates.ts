import type { KeyObject } from 'node:crypto';
import { join } from 'node:path';

import { listDirectory, readContent, statPath } from '../../../files/read-file.js';
import { describeSubject } from '../../../x509/certificate-names.js';
import { Certificate } from '../../../x509/certificate.js';
import { error, warning, type CertificateFinding } from '../../../x509/judge/certificate-finding.js';
import { judgeCertificateText, judgeKeyMode } from '../../../x509/judge/judge-files.js';
import { parseKey } from '../../../x509/key-file.js';
import { describeFileError, FileProblem, parseCertificates } from '../../../x509/pem-files.js';

/** The content of a file, and findings about the file itself. */
export interface ReadFile {
  readonly path: string;
  readonly certificates: readonly Certificate[];
  readonly key: { readonly object: KeyObject; readonly mode: number } | undefined;
  readonly findings: readonly CertificateFinding[];
}

const BEGIN_KEY = /-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/u;
const BEGIN = /-----BEGIN (?:CERTIFICATE|(?:[A-Z]+ )*PRIVATE KEY)-----/u;
const KEY_BLOCK = /-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----[^]*?-----END (?:[A-Z]+ )*PRIVATE KEY-----/u;

/** Reads a file, or those files of a directory that contain a certificate or a key. */
export async function readPath(path: string): Promise<ReadFile[]> {
  try {
    if (!(await statPath(path)).isDirectory()) return [await readOne(path)];
    const names = (await listDirectory(path)).filter((name) => !name.startsWith('.'));
    const files = (await Promise.all(names.map((name) => readEntry(join(path, name))))).flat();
    if (files.some(({ certificates, key }) => certificates.length > 0 || key)) return files;
    const empty = unusable(path, nothing('no file in it contains a PEM certificate or private key'));
    return files.some(({ findings }) => findings.some(({ severity }) => severity === 'error'))
      ? files
      : [empty, ...files];
  } catch (reason) {
    return [unusable(path, unreadable(path, describeFileError(path, reason)))];
  }
}

/** Reads an entry of a directory. An unreadable one, such as a dangling link left by `c_rehash`, is reported and skipped. */
async function readEntry(path: string): Promise<ReadFile[]> {
  try {
    if (!(await statPath(path)).isFile()) return [];
    const { bytes } = await readContent(path);
    return BEGIN.test(bytes.toString('latin1')) ? [await readOne(path)] : [];
  } catch (reason) {
    const sentence = `is skipped: ${withoutPath(path, describeFileError(path, reason))}`;
    return [unusable(path, warning('unreadable_file', sentence, 'remove it, or make it readable'))];
  }
}

async function readOne(path: string): Promise<ReadFile> {
  let bytes: Buffer;
  let mode: number;
  try {
    ({ bytes, mode } = await readContent(path));
  } catch (reason) {
    return unusable(path, unreadable(path, describeFileError(path, reason)));
  }
  const text = bytes.toString('utf8');
  const hasKey = BEGIN_KEY.test(text);
  if (!hasKey && !text.includes('-----BEGIN CERTIFICATE-----')) return unusable(path, whyNoPem(bytes, path));

  const findings: CertificateFinding[] = [];
  const certificates = attempt(findings, path, () => parseCertificates(path, text)) ?? [];
  const pem = hasKey ? (KEY_BLOCK.exec(text)?.[0] ?? text) : undefined;
  const object =
    pem === undefined ? undefined : attempt(findings, path, () => parseKey(path, pem), 'key_unusable');
  if (hasKey) findings.push(...judgeKeyMode(mode));
  if (certificates.length > 0) findings.push(...judgeCertificateText(text));
  return {
    path,
    certificates: certificates.map(({ x509 }) => x509),
    key: object && { object, mode },
    findings,
  };
}

function whyNoPem(bytes: Buffer, path: string): CertificateFinding {
  if (bytes.toString('latin1').trim() === '') return nothing('the file is empty');
  try {
    const certificate = new Certificate(bytes);
    return error(
      'not_pem',
      `contains the certificate of ${describeSubject(certificate)} in DER; PEM is required`,
      `openssl x509 -inform der -in ${path} -out ${path}.pem`,
    );
  } catch {
    return nothing('contains no PEM certificate or private key');
  }
}

function nothing(sentence: string): CertificateFinding {
  return error(
    'nothing_in_file',
    sentence,
    'give a file that contains BEGIN CERTIFICATE or BEGIN PRIVATE KEY, or an address such as tls://gitaly.internal:9999',
  );
}

function unreadable(path: string, message: string): CertificateFinding {
  return error('unreadable_file', withoutPath(path, message), 'give a file that exists and is readable');
}

function unusable(path: string, finding: CertificateFinding): ReadFile {
  return { path, certificates: [], key: undefined, findings: [finding] };
}

function attempt<T>(
  findings: CertificateFinding[],
  path: string,
  step: () => T,
  id: 'unreadable_file' | 'key_unusable' = 'unreadable_file',
): T | undefined {
  try {
    return step();
  } catch (reason) {
    if (!(reason instanceof FileProblem)) throw reason;
    findings.push(error(id, withoutPath(path, reason.message), 'write the file again'));
    return undefined;
  }
}

/** The report shows the path above its findings. */
function withoutPath(path: string, message: string): string {
  return message.startsWith(`${path}: `) ? message.slice(path.length + 2) : message;
}
