import type { CommandIo } from '../command-io.js';
import { judgeText, readConfiguration, type LoadResult } from '../../config/load.js';
import type { Configuration, Problem } from '../../config/model.js';
import { formatProblem } from '../../config/problem.js';
import { inspectSocketAccess } from '../../serving/socket-access.js';
import { printableJson } from '../../printable.js';
import { loadToken } from '../../gitaly-client/token-file.js';
import { loadMaterial } from '../../tls/material.js';

/** How the configuration is called in messages when it comes from stdin. */
const STDIN_NAME = '<stdin>';

/**
 * `configuration validate [FILE]`, in the form of `gitaly configuration validate`: nothing and 0 when all is well,
 * `{"errors":[{"key":[…],"message":…}]}` on stdout and 2 when not. Warnings are lines on stderr.
 *
 * @param file - `undefined` for stdin.
 * @param judgeFiles - opens the certificate files that a configuration names and judges them.
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
  return 2;
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

/** JSON leaves out what is undefined. */
function asJson({ key, message, value, line }: Problem, { file, locate }: LoadResult): object {
  return { key, message, line: line ?? locate(key), value, file };
}

/** Every problem of the certificate files that a configuration names; the same check that `serve` makes. */
async function inspectTlsFiles(configuration: Configuration, now: Date): Promise<Problem[]> {
  const problems = [...(await loadMaterial(configuration, now)).problems];
  if (configuration.healthChecks?.token) await loadToken(configuration.healthChecks.token, problems);
  for (const { upstreamToken } of configuration.listeners)
    if (upstreamToken) await loadToken(upstreamToken, problems);
  return problems;
}
