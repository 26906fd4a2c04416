import type { FileSetting, Problem } from '../config/model.js';
import { MAX_TOKEN_FILE_BYTES } from '../limits.js';
import { attempt } from '../x509/certificate-pair.js';
import { warnOfReaders } from '../x509/key-file.js';
import { FileProblem, readSettingContent } from '../x509/pem-files.js';

const TOO_LARGE = `the file is larger than ${MAX_TOKEN_FILE_BYTES / 1024} KiB, so it is not a token`;

/**
 * Reads the file with the secret shared by Gitaly and its clients. Leading and trailing whitespace is removed. A file that other
 * users can read adds a warning to `problems`.
 * @returns the secret, or `undefined` with an error added to `problems`; no problem contains the secret
 */
export async function loadToken(setting: FileSetting, problems: Problem[]): Promise<string | undefined> {
  const { path, key } = setting;
  const file = await attempt(() => readSettingContent(path));
  const isTooLarge = !(file instanceof FileProblem) && file.bytes.length > MAX_TOKEN_FILE_BYTES;
  const token = file instanceof FileProblem || isTooLarge ? '' : file.bytes.toString('utf8').trim();
  if (!(file instanceof FileProblem)) warnOfReaders(setting, file.mode, problems);
  if (token !== '') return token;
  const message =
    file instanceof FileProblem ? file.message : `${path}: ${isTooLarge ? TOO_LARGE : 'the file is empty'}`;
  problems.push({ severity: 'error', key, message, value: path });
  return undefined;
}
