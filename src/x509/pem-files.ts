import { codeOf } from '../error-codes.js';
import { readContent, type FileContent } from '../files/read-file.js';
import { Certificate } from './certificate.js';

const CERTIFICATE_BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** A file that cannot be used, with a message for the operator. */
export class FileProblem extends Error {}

/**
 * Reads a file.
 * @throws FileProblem with the reason why it cannot be read
 */
export async function readSettingFile(path: string): Promise<string> {
  return (await readSettingContent(path)).bytes.toString('utf8');
}

/**
 * Reads a file and its mode.
 * @throws FileProblem
 */
export async function readSettingContent(path: string): Promise<FileContent> {
  try {
    return await readContent(path);
  } catch (error) {
    throw new FileProblem(describeFileError(path, error));
  }
}

/** Converts an error of the operating system to a message for the operator, which contains the path. */
export function describeFileError(path: string, error: unknown): string {
  switch (codeOf(error)) {
    case 'ENOENT':
      return `${path}: no such file`;
    case 'EACCES':
    case 'EPERM':
      return `${path}: permission denied; the user that runs the proxy must be able to read it`;
    case 'EISDIR':
      return `${path}: is a directory; expected a PEM file`;
    case 'ENOTDIR':
      return `${path}: a part of the path is not a directory`;
    default:
      return `${path}: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** One certificate of a PEM file: its PEM text for the TLS library, and the parsed certificate. */
export interface PemCertificate {
  readonly pem: string;
  readonly x509: Certificate;
}

/**
 * All certificates of a PEM text, in order.
 * @throws FileProblem if one of them cannot be parsed or is truncated
 */
export function parseCertificates(path: string, text: string): PemCertificate[] {
  const blocks = text.match(CERTIFICATE_BLOCK) ?? [];
  const begun = text.split('-----BEGIN CERTIFICATE-----').length - 1;
  if (begun !== blocks.length) throw new FileProblem(`${path}: truncated, a certificate has no END line`);
  return blocks.map((pem, index) => {
    try {
      return { pem, x509: new Certificate(pem) };
    } catch {
      throw new FileProblem(`${path}: certificate ${index + 1} cannot be parsed`);
    }
  });
}
