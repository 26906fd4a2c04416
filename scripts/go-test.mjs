// Runs the Go tests of a folder against the built proxy; Node's own modules only.
import { spawn, spawnSync } from 'node:child_process';
import { delimiter, dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** Lines of `go test -v` that are not printed: tests that start, pause or continue, and passed subtests. */
const NOISE = /^=== (RUN|PAUSE|CONT|NAME) |^\s+--- PASS: |\[no test files\]$/;

/**
 * Prints the version of Go; ends this process if Go is not installed.
 * @param {string} who the npm script
 */
export function requireGo(who) {
  const go = spawnSync('go', ['version'], { encoding: 'utf8' });
  if (go.error || go.status !== 0) {
    console.error(`${who} needs Go 1.21 or newer on PATH (https://go.dev/dl/); \`npm test\` needs Node only`);
    process.exit(1);
  }
  console.log(go.stdout.trim());
}

/** @param {'gitaly' | 'interop'} folder */
function directoryOf(folder) {
  return fileURLToPath(new URL(`../test/${folder}`, import.meta.url));
}

/**
 * Compiles the tests of a folder of test/ into Go's build cache and runs none; ends this process if that fails.
 * @param {'gitaly' | 'interop'} folder
 */
export function compileGoTests(folder) {
  const { status } = spawnSync('go', ['test', '-count=1', '-run=^$', './...'], {
    cwd: directoryOf(folder),
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) process.exit(status ?? 1);
}

/**
 * Runs `go test` in a folder of test/; this process exits with its status.
 * @param {'gitaly' | 'interop'} folder
 * @param {readonly string[]} args further arguments
 * @param {Readonly<Record<string, string>>} [environment] added to this process's
 */
export function goTest(folder, args, environment = {}) {
  const tests = spawn('go', ['test', '-count=1', '-v', ...args, './...'], {
    cwd: directoryOf(folder),
    // The proxy runs on the Node that runs this script, even if PATH has another.
    env: {
      ...process.env,
      PATH: [dirname(process.execPath), process.env['PATH']].join(delimiter),
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM']))
    process.on(signal, () => tests.kill(signal));
  tests.on('close', (status) => {
    process.exitCode = status ?? 1;
  });
  createInterface({ input: tests.stdout }).on('line', (line) => {
    if (!NOISE.test(line)) console.log(line);
  });
}
