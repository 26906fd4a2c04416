import { execFile, spawnSync } from 'node:child_process';

/** How a command ended, and all that it wrote. */
export interface CommandResult {
  readonly exitCode: number | null;
  /** Standard output and standard error. */
  readonly output: string;
}

/** Runs a command line as a user types it, `openssl s_client` for one, to its end. */
export function shell(
  commandLine: string,
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = execFile(
      'sh',
      ['-c', commandLine],
      { env: { ...process.env, ...env } },
      (_error, stdout, stderr) => resolve({ exitCode: child.exitCode, output: stdout + stderr }),
    );
  });
}

/** Whether a program is on the path: tests with programs that Node does not bring are skipped where it is not. */
export function isInstalled(program: string): boolean {
  return spawnSync('sh', ['-c', 'command -v "$0"', program]).status === 0;
}
