// Installs and builds what a clone needs to run; Node's own modules only, since nothing else is there yet.
import { spawnSync } from 'node:child_process';
import { chmodSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Says so and ends if this Node is too old to run the program. */
function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  console.error(`gitaly-tls-proxy needs Node 20.19 or newer; this is ${process.versions.node}`);
  process.exit(1);
}

/** Runs a command to its end with its output shown; ends this process if it fails. */
export function run(command, args, environment = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...environment },
  });
  if (error) console.error(`${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

/** Runs a tool of node_modules. */
export function runTool(path, args, environment) {
  run(process.execPath, [`node_modules/${path}`, ...args], environment);
}

function modified(path) {
  return statSync(new URL(`../${path}`, import.meta.url), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** `npm ci` where it was not done since the lock file changed, then the build, which only does what is needed. */
export function installAndBuild() {
  checkNode();
  if (modified('node_modules/.package-lock.json') <= modified('package-lock.json')) {
    // npm's chatter goes to stderr: stdout belongs to the program that runs next.
    run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
  }
  runTool('typescript/bin/tsc', ['-p', 'tsconfig.build.json']);
  chmodSync(new URL('../dist/cli.js', import.meta.url), 0o755);
}
