import type { FileSetting, Problem } from '../config/model.js';
import { attempt } from './certificate-pair.js';
import { FileProblem, readSettingFile } from './pem-files.js';

/**
 * Reads the file that holds the secret which Gitaly and its clients share; what stands around it is no part of it.
 * @returns the secret, or `undefined` with a problem added to `problems`, which does not hold it
 */
export async function loadToken(setting: FileSetting, problems: Problem[]): Promise<string | undefined> {
  const { path, key } = setting;
  const text = await attempt(() => readSettingFile(path));
  const token = text instanceof FileProblem ? '' : text.trim();
  if (token !== '') return token;
  const message = text instanceof FileProblem ? text.message : `${path}: the file is empty`;
  problems.push({ severity: 'error', key, message, value: path });
  return undefined;
}
