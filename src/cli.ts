#!/usr/bin/env -S node --initial-old-space-size=64
// The flag is about speed alone (docs/benchmarks.md): TLS hands every record over in a buffer outside of the heap, which
// V8 counts, and with its defaults it may answer 25 MB of them with a full collection.
//
// Nothing is imported before the signals are handled: importing takes time, in which SIGUSR1 would open Node's debugger to
// every local user, and SIGUSR2 and SIGHUP would end the process. What they ask for is decided once the program is loaded.
import type { Command } from './commands/command.js';

for (const signal of ['SIGUSR1', 'SIGUSR2'] as const) process.on(signal, () => undefined);
const early = { hangUp: false };
const noteHangUp = (): void => {
  early.hangUp = true;
};
process.on('SIGHUP', noteHangUp);

const { closeDebugger } = await import('./process/debugger.js');
closeDebugger();
const { default: cluster } = await import('node:cluster');
const { buffer, text } = await import('node:stream/consumers');
const { parseCommandLine } = await import('./commands/command-line.js');
const { loadInSteps } = await import('./commands/load-steps.js');
const { printableLines } = await import('./printable.js');
const { takeEnvironment } = await import('./process/environment.js');
const { endInSpiteOfThreads, hasStuckThread } = await import('./process/stuck-threads.js');
const { WORKER_ARGUMENT } = await import('./traffic/workers/program.js');
const { readVersion } = await import('./version.js');

/** 0 fine, 1 failed while running, 2 wrong configuration or usage. */
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

// `gitaly-tls-proxy --help | head -1` closes the pipe early, and a log pipe may go away: neither ends the process.
// `serve` and `demo` have the log on standard output, which its sink alone may open.
function print(text: string): void {
  process.stdout.on('error', () => undefined);
  process.stdout.write(text);
}
process.stderr.on('error', () => undefined);

function writeStderr(text: string): void {
  process.stderr.write(printableLines(text));
}

/** Runs a command to its end. The modules of one command are not loaded for another: help is there at once. */
async function run(command: Command): Promise<number> {
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
    case 'configuration validate':
      return validate(command.file);
    case 'configuration import': {
      const { runImport } = await import('./commands/configuration-import.js');
      return runImport(command.request, {
        readStdin: () => buffer(process.stdin),
        writeStdout: print,
        writeStderr,
      });
    }
    case 'certificates create': {
      const { runCertificatesCreate } = await import('./commands/certificates-create.js');
      return runCertificatesCreate(command.request, { now: new Date(), writeStdout: print, writeStderr });
    }
    case 'certificates inspect': {
      const { runCertificatesInspect } = await import('./commands/certificates-inspect.js');
      return runCertificatesInspect(command, { now: new Date(), writeStdout: print });
    }
    case 'check': {
      const { check } = await import('./commands/check.js');
      return check(command.options, {
        env: process.env,
        writeStdout: print,
        writeStderr,
      });
    }
    case 'demo': {
      await loadInSteps();
      const { demo } = await import('./commands/demo.js');
      return demo();
    }
    case 'worker': {
      await loadInSteps();
      const { runWorker } = await import('./commands/worker.js');
      return runWorker();
    }
    case 'serve': {
      await loadInSteps();
      const { serve } = await import('./commands/serve.js');
      return serve(command.source);
    }
  }
}

async function validate(file: string | undefined): Promise<number> {
  const { validateConfiguration } = await import('./commands/configuration-validate.js');
  const { inspectTlsFiles } = await import('./tls/inspect-files.js');
  const { inspectSocketAccess } = await import('./connection/socket-access.js');
  return validateConfiguration(file, {
    env: process.env,
    directory: process.cwd(),
    readStdin: () => text(process.stdin),
    writeStdout: print,
    writeStderr,
    checkFiles: async (configuration) => [
      ...(await inspectTlsFiles(configuration, new Date())),
      ...(await inspectSocketAccess(configuration)),
    ],
  });
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

const command = commandOf(process.argv.slice(2));
const runsProxy = command.command === 'serve' || command.command === 'demo' || command.command === 'worker';
// A SIGHUP never ends these; the files are read after this.
if (command.command === 'serve' || command.command === 'worker') process.on('SIGHUP', () => undefined);
process.off('SIGHUP', noteHangUp);
if (early.hangUp && command.command !== 'serve' && command.command !== 'worker')
  process.kill(process.pid, 'SIGHUP');
if (!runsProxy) reportEnvironment();
try {
  const exitCode = await run(command);
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
