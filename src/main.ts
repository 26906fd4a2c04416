import cluster from 'node:cluster';
import { buffer } from 'node:stream/consumers';

import { parseCommandLine } from './commands/command-line.js';
import type { Command } from './commands/command.js';
import { EXIT_FAILED, EXIT_USAGE, type CommandIo } from './commands/command-io.js';
import { assertRelations } from './limit-relations.js';
import { printableLines } from './printable.js';
import { closeDebugger } from './process/debugger.js';
import { takeEnvironment } from './process/environment.js';
import { endInSpiteOfThreads, hasStuckThread } from './process/stuck-threads.js';
import { WORKER_ARGUMENT } from './serving/workers/worker-messages.js';
import { readVersion } from './version.js';

/** What `cli.ts` knows of the process. */
export interface Start {
  /** The file that the process runs; workers run it, too. */
  readonly program: string;
  /** Whether a SIGHUP came while the program was loaded. From then on SIGHUP is not handled. */
  readonly takeEarlyHangUp: () => boolean;
}

/** Writes to stdout. `serve` and `demo` log to stdout, which only the log's sink may open. */
function print(text: string): void {
  process.stdout.on('error', () => undefined);
  process.stdout.write(text);
}
function writeStderr(text: string): void {
  process.stderr.write(printableLines(text));
}

/** The environment of the command of this process. */
function commandIo(): CommandIo {
  return {
    now: new Date(),
    env: process.env,
    // Not before it is needed: it throws if the directory was removed.
    get directory() {
      return process.cwd();
    },
    readStdin: () => buffer(process.stdin),
    writeStdout: print,
    writeStderr,
  };
}

/** Runs a command to its end. The modules of one command are not loaded for another: help is there at once. */
async function run(command: Command, program: string): Promise<number> {
  const io = commandIo();
  switch (command.command) {
    case 'print':
      print(command.text);
      return 0;
    case 'version':
      print(`gitaly-tls-proxy ${readVersion()}\n`);
      return 0;
    case 'usage error':
      writeStderr(`gitaly-tls-proxy: ${command.message}\n`);
      return EXIT_USAGE;
    case 'configuration validate': {
      const { validateConfiguration } = await import('./commands/validate/run-validate.js');
      return validateConfiguration(command.file, io);
    }
    case 'configuration import': {
      const { runImport } = await import('./commands/import/run-import.js');
      return runImport(command.request, io);
    }
    case 'configuration rehearse': {
      const { runRehearse } = await import('./commands/rehearse/run-rehearse.js');
      return runRehearse(command.request, io);
    }
    case 'policy suggest': {
      const { runSuggest } = await import('./commands/policy/run-suggest.js');
      return runSuggest(command.request, io);
    }
    case 'policy test': {
      const { runPolicyTest } = await import('./commands/policy/test-rule.js');
      return runPolicyTest(command.request, io);
    }
    case 'certificates create': {
      const { runCertificatesCreate } = await import('./commands/certificates/run-create.js');
      return runCertificatesCreate(command.request, io);
    }
    case 'certificates inspect': {
      const { runCertificatesInspect } = await import('./commands/certificates/inspect/inspect.js');
      return runCertificatesInspect(command, io);
    }
    case 'audit verify': {
      const { runAuditVerify } = await import('./commands/audit/run-verify.js');
      return runAuditVerify(command, io);
    }
    case 'rpcs': {
      const { runRpcs } = await import('./commands/rpcs/run-rpcs.js');
      return runRpcs(command.from, io);
    }
    case 'check': {
      const { check } = await import('./commands/check/run-check.js');
      return check(command.options, io);
    }
    case 'demo': {
      const { demo } = await import('./commands/demo/run-demo.js');
      return demo(program);
    }
    case 'worker': {
      const { runWorker } = await import('./commands/serve/run-worker.js');
      return runWorker();
    }
    case 'serve': {
      const { serve } = await import('./commands/serve/run-proxy.js');
      return serve(command.source, program);
    }
  }
}

/** The command of this process. A process that Node considers a worker only because of its environment cannot run any command. */
function commandOf(args: readonly string[]): Command {
  if (!cluster.isWorker) return parseCommandLine(args);
  if (process.connected && args[0] === WORKER_ARGUMENT) return { command: 'worker' };
  return {
    command: 'usage error',
    message:
      'NODE_UNIQUE_ID is set in the environment, by which Node takes the process for a worker: unset it',
  };
}

/** For commands that run no proxy: the variables no longer affect them, and the ones that a proxy refuses are reported. */
function reportEnvironment(): void {
  for (const { severity, error, fix } of takeEnvironment(process.env))
    if (severity === 'refuse') writeStderr(`gitaly-tls-proxy: warning: ${error} ${fix}\n`);
}

/** Settles when everything that was printed has been written. */
async function printed(): Promise<void> {
  for (const stream of [process.stdout, process.stderr])
    if (stream.writableLength > 0) await new Promise<void>((resolve) => stream.write('', () => resolve()));
}

/** Ends the process, even if a system call does not return. */
async function end(exitCode: number): Promise<void> {
  if (await hasStuckThread()) endInSpiteOfThreads(exitCode);
  else process.exit(exitCode);
}

/** Runs the command of this process and ends the process with its exit code. */
export async function main({ program, takeEarlyHangUp }: Start): Promise<void> {
  closeDebugger();
  assertRelations();
  // `gitaly-tls-proxy --help | head -1` closes the pipe early, and the reader of a log may exit. Neither ends the process.
  process.stderr.on('error', () => undefined);
  const command = commandOf(process.argv.slice(2));
  const runsProxy = command.command === 'serve' || command.command === 'demo' || command.command === 'worker';
  // A SIGHUP never ends these; the files are read after this.
  const staysAtHangUp = command.command === 'serve' || command.command === 'worker';
  if (staysAtHangUp) process.on('SIGHUP', () => undefined);
  if (takeEarlyHangUp() && !staysAtHangUp) process.kill(process.pid, 'SIGHUP');
  if (!runsProxy) reportEnvironment();
  try {
    const exitCode = await run(command, program);
    if (runsProxy) {
      // Connections that were reset at the end of a drain may keep sockets open; other commands end when their output is written.
      await end(exitCode);
    } else {
      process.exitCode = exitCode;
      if (await hasStuckThread()) {
        await printed();
        endInSpiteOfThreads(exitCode);
      }
    }
  } catch (error) {
    writeStderr(`gitaly-tls-proxy: ${error instanceof Error ? error.message : String(error)}\n`);
    await end(EXIT_FAILED);
  }
}
