// `npm run test:interop`: installs, builds, and runs the Go programs of test/interop against the built proxy.
// Further arguments go to `go test`: `npm run test:interop -- -run Sidechannel`.
import { spawn, spawnSync } from 'node:child_process';
import { delimiter, dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { installAndBuild } from './install.mjs';

/** What `go test -v` says of tests that start, pause, go on or have no file; how they ended stays. */
const NOISE = /^=== (RUN|PAUSE|CONT|NAME) |^\s+--- PASS: |\[no test files\]$/;

const go = spawnSync('go', ['version'], { encoding: 'utf8' });
if (go.error || go.status !== 0) {
  console.error(
    'test:interop needs Go 1.21 or newer on PATH (https://go.dev/dl/); `npm test` needs Node only',
  );
  process.exit(1);
}
console.log(go.stdout.trim());
installAndBuild();

const tests = spawn('go', ['test', '-count=1', '-v', ...process.argv.slice(2), './...'], {
  cwd: fileURLToPath(new URL('../test/interop', import.meta.url)),
  // The proxy runs on the Node that runs this script, whichever else stands on PATH.
  env: { ...process.env, PATH: [dirname(process.execPath), process.env.PATH].join(delimiter) },
  stdio: ['ignore', 'pipe', 'inherit'],
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => tests.kill(signal));
tests.on('close', (status) => {
  process.exitCode = status ?? 1;
});
createInterface({ input: tests.stdout }).on('line', (line) => {
  if (!NOISE.test(line)) console.log(line);
});
