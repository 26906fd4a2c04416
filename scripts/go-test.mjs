// Runs the Go tests of a folder against the built proxy; Node's own modules only.
import { spawn, spawnSync } from 'node:child_process';
import { delimiter, dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** What `go test -v` says of tests that start, pause, go on or have no file; how they ended stays. */
const NOISE = /^=== (RUN|PAUSE|CONT|NAME) |^\s+--- PASS: |\[no test files\]$/;

/** Says which Go there is; ends this process where there is none. */
export function requireGo(who) {
  const go = spawnSync('go', ['version'], { encoding: 'utf8' });
  if (go.error || go.status !== 0) {
    console.error(`${who} needs Go 1.21 or newer on PATH (https://go.dev/dl/); \`npm test\` needs Node only`);
    process.exit(1);
  }
  console.log(go.stdout.trim());
}

/** `go test` in a folder of test/, with further arguments; this process ends as it does. */
export function goTest(folder, args, environment = {}) {
  const tests = spawn('go', ['test', '-count=1', '-v', ...args, './...'], {
    cwd: fileURLToPath(new URL(`../test/${folder}`, import.meta.url)),
    // The proxy runs on the Node that runs this script, whichever else stands on PATH.
    env: {
      ...process.env,
      PATH: [dirname(process.execPath), process.env.PATH].join(delimiter),
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => tests.kill(signal));
  tests.on('close', (status) => {
    process.exitCode = status ?? 1;
  });
  createInterface({ input: tests.stdout }).on('line', (line) => {
    if (!NOISE.test(line)) console.log(line);
  });
}
