import { EXIT_USAGE, type CommandIo } from '../command-io.js';
import { judgeText, readConfiguration, type LoadResult } from '../../config/load.js';
import type { Configuration, Problem } from '../../config/model.js';
import { formatProblem } from '../../config/problem.js';
import { inspectSocketAccess } from '../../serving/socket-access.js';
import { printableJson } from '../../printable.js';
import { loadToken } from '../../gitaly-client/token-file.js';
import { loadMaterial } from '../../tls/material.js';

/** The file name in messages about a configuration from stdin. */
const STDIN_NAME = '<stdin>';

/**
 * `configuration validate [FILE]`, with the output format of `gitaly configuration validate`: nothing and 0 for a valid
 * configuration, otherwise `{"errors":[{"key":[…],"message":…}]}` on stdout and 2. Warnings are printed to stderr.
 *
 * @param file - `undefined` for stdin.
 * @param judgeFiles - opens and checks the files that a configuration names.
 * @returns the exit code.
 */
export async function validateConfiguration(
  file: string | undefined,
  io: Omit<CommandIo, 'now'>,
  judgeFiles = checkFiles,
): Promise<number> {
  const result = await load(file, io);
  const fileProblems = result.understood === undefined ? [] : await judgeFiles(result.understood);
  const problems = [...result.problems, ...fileProblems];
  for (const problem of problems) {
    if (problem.severity === 'warning') io.writeStderr(`${formatProblem(problem, result)}\n`);
  }
  const errors = problems.filter(({ severity }) => severity === 'error');
  if (errors.length === 0) return 0;
  io.writeStdout(`${printableJson({ errors: errors.map((problem) => asJson(problem, result)) }, 2)}\n`);
  return EXIT_USAGE;
}

async function load(
  file: string | undefined,
  { env, directory, readStdin }: Omit<CommandIo, 'now'>,
): Promise<LoadResult> {
  if (file !== undefined) return readConfiguration({ kind: 'file', file }, env);
  return judgeText(new TextDecoder().decode(await readStdin()), { file: STDIN_NAME, directory, env });
}

/** Problems of the files that a configuration names. */
async function checkFiles(configuration: Configuration): Promise<readonly Problem[]> {
  return [
    ...(await inspectTlsFiles(configuration, new Date())),
    ...(await inspectSocketAccess(configuration)),
  ];
}

/** JSON omits undefined fields. */
function asJson({ key, message, value, line }: Problem, { file, locate }: LoadResult): object {
  return { key, message, line: line ?? locate(key), value, file };
}

/** All problems of the certificate files that a configuration names, found by the same check as in `serve`. */
async function inspectTlsFiles(configuration: Configuration, now: Date): Promise<Problem[]> {
  const problems = [...(await loadMaterial(configuration, now)).problems];
  if (configuration.healthChecks?.token) await loadToken(configuration.healthChecks.token, problems);
  for (const { upstreamToken } of configuration.listeners)
    if (upstreamToken) await loadToken(upstreamToken, problems);
  return problems;
}
