#!/usr/bin/env -S node --initial-old-space-size=64
// The flag is about speed alone (docs/benchmarks.md): TLS hands every record over in a buffer outside of the heap, which
// V8 counts, and with its defaults it may answer 25 MB of them with a full collection.
import cluster from 'node:cluster';
import { text } from 'node:stream/consumers';

import type { Command } from './commands/command.js';
import { parseCommandLine } from './commands/command-line.js';
import { printableLines } from './printable.js';
import { readVersion } from './version.js';

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
        readStdin: () => text(process.stdin),
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
      const { demo } = await import('./commands/demo.js');
      return demo();
    }
    case 'worker': {
      const { runWorker } = await import('./commands/worker.js');
      return runWorker();
    }
    case 'serve': {
      // A SIGHUP that comes while the program is still being loaded must not end it; the files are read after this.
      process.on('SIGHUP', () => undefined);
      const { serve } = await import('./commands/serve.js');
      return serve(command.source);
    }
  }
}

async function validate(file: string | undefined): Promise<number> {
  const { validateConfiguration } = await import('./commands/configuration-validate.js');
  const { inspectTlsFiles } = await import('./tls/inspect-files.js');
  return validateConfiguration(file, {
    env: process.env,
    directory: process.cwd(),
    readStdin: () => text(process.stdin),
    writeStdout: print,
    writeStderr,
    checkFiles: (configuration) => inspectTlsFiles(configuration, new Date()),
  });
}

const command: Command = cluster.isWorker ? { command: 'worker' } : parseCommandLine(process.argv.slice(2));
try {
  const exitCode = await run(command);
  // What was cut off at the end of a drain may still hold sockets open; the others end when their output is written.
  if (['serve', 'demo', 'worker'].includes(command.command)) process.exit(exitCode);
  process.exitCode = exitCode;
} catch (error) {
  writeStderr(`gitaly-tls-proxy: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(EXIT_FAILED);
}
