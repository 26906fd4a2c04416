// `npm run check`: all that can be said of the code without running it. Every tool runs, whichever fails.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const tools = [
  ['types', 'typescript/bin/tsc', ['--noEmit', '-p', '.']],
  ['lint', 'eslint/bin/eslint.js', ['.']],
  ['format', 'prettier/bin/prettier.cjs', ['--check', '--log-level', 'warn', '.']],
  ['unused files, exports and dependencies', 'knip/bin/knip.js', []],
  ['folder rule', 'dependency-cruiser/bin/dependency-cruise.mjs', ['src']],
];

const failed = tools.filter(([name, path, args]) => {
  const { status } = spawnSync(process.execPath, [`node_modules/${path}`, ...args], {
    cwd: root,
    stdio: 'inherit',
  });
  console.error(`check: ${name}: ${status === 0 ? 'ok' : 'FAILED'}`);
  return status !== 0;
});
process.exitCode = failed.length === 0 ? 0 : 1;
