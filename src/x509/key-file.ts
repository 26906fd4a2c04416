import { createPrivateKey, type KeyObject } from 'node:crypto';

import type { FileSetting, Problem } from '../config/model.js';
import { judgeKeyMode } from './judge/judge-files.js';
import { sentenceWithCure } from './judge/certificate-finding.js';
import { FileProblem, readSettingContent } from './pem-files.js';

/** A private key and the mode of its file. */
export interface KeyFile {
  readonly pem: string;
  readonly object: KeyObject;
  /** As `stat` has it. */
  readonly mode: number;
}

/**
 * Reads a private key in PEM.
 * @throws FileProblem with the reason why it cannot be used, which contains no part of the key
 */
export async function loadKey(path: string): Promise<KeyFile> {
  const { bytes, mode } = await readSettingContent(path);
  const pem = bytes.toString('utf8');
  return { pem, object: parseKey(path, pem), mode };
}

/**
 * Parses the private key in a PEM text.
 * @throws FileProblem with the reason why this fails
 */
export function parseKey(path: string, pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
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

/** Adds a warning to `problems` if others than its owner and group may read the file of a secret. @param mode - as `stat` has it */
export function warnOfReaders({ path, key }: FileSetting, mode: number, problems: Problem[]): void {
  for (const finding of judgeKeyMode(mode)) {
    // Group access is accepted: it lets a proxy that does not run as root read a key that root owns.
    if (finding.id === 'key_readable_by_others')
      problems.push({
        severity: 'warning',
        key,
        message: `${path}: ${sentenceWithCure(finding)}`,
        value: path,
      });
  }
}
