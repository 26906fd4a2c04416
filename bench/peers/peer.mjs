import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/**
 * The parameters of a peer. All ports are on 127.0.0.1.
 * @typedef {object} Place
 * @property {string} directory a private directory of this start, for configuration and logs
 * @property {number} listenPort the port on which it terminates TLS
 * @property {number} backendPort the plaintext backend
 * @property {{ cert: string, key: string, both: string }} files PEM files; `both` contains certificate and key
 */

/**
 * How a peer is started, in the foreground.
 * @typedef {object} Start
 * @property {string} command
 * @property {string[]} args
 * @property {Record<string, string>} files to be written into the place's directory first, by name
 */

/**
 * One proxy to measure, with one worker process or thread.
 * @typedef {object} Peer
 * @property {string} id for `--only`; unique in a run
 * @property {string} group what `--only` also takes; the id without the variant
 * @property {string} [suffix] what follows the group in the id; rows with the same one run on the same Node
 * @property {string} title the row in the report
 * @property {string} version
 * @property {boolean} relaysBytes false for a proxy that terminates HTTP/2, which breaks the backchannel
 * @property {(place: Place) => Start} start
 */

/** Debian installs daemons in directories that are not in the PATH of ordinary users. */
const SYSTEM_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/**
 * Finds a program in the PATH or in the directories of daemons.
 * @param {string} name
 * @returns {Promise<string | undefined>} its absolute path
 */
export async function findProgram(name) {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), ...SYSTEM_DIRECTORIES];
  for (const directory of directories.filter((each) => each !== '')) {
    const path = join(directory, name);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // Not here: the next directory.
    }
  }
  return undefined;
}

/**
 * The version of a program: the first match in its output to either stream.
 * @param {string} command
 * @param {string[]} args
 * @param {RegExp} pattern with one group
 * @returns {Promise<string>} `unknown` if its output has no match
 */
export async function versionOf(command, args, pattern) {
  const output = await run(command, args, { timeout: 20_000 }).then(
    ({ stdout, stderr }) => `${stdout}\n${stderr}`,
    outputOfFailed,
  );
  return pattern.exec(output)?.[1] ?? 'unknown';
}

/**
 * The output of a command that `execFile` reports as failed; empty if it was not started.
 * @param {unknown} error
 */
export function outputOfFailed(error) {
  if (!(error instanceof Error)) return '';
  const { stdout = '', stderr = '' } = /** @type {{ stdout?: string, stderr?: string }} */ (error);
  return [stdout, stderr].filter((text) => text !== '').join('\n');
}
