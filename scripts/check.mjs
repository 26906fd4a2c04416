// `npm run check`: everything that can be checked without running the program. Every tool runs, even if another fails.
// The tools run side by side and keep caches in .cache/check. ESLint's cache knows a file's own text only, not the types
// that the file imports: `--no-cache` starts without caches, and CI uses it.
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CACHE = '.cache/check';

/** The slowest first, so that the others run beside it. @type {{ name: string, args: string[] }[]} */
const TOOLS = [
  {
    name: 'lint',
    args: [
      'node_modules/eslint/bin/eslint.js',
      ...['--cache', '--cache-strategy', 'content', '--cache-location', `${CACHE}/eslint`],
      '.',
    ],
  },
  {
    name: 'types',
    args: [
      'node_modules/typescript/bin/tsc',
      ...['--noEmit', '--incremental', '--tsBuildInfoFile', `${CACHE}/types.tsbuildinfo`, '-p', '.'],
    ],
  },
  {
    name: 'format',
    args: [
      'node_modules/prettier/bin/prettier.cjs',
      ...['--check', '--log-level', 'warn', '--cache', '--cache-strategy', 'content'],
      ...['--cache-location', `${CACHE}/prettier`, '.'],
    ],
  },
  {
    name: 'unused files, exports and dependencies',
    args: ['node_modules/knip/bin/knip.js', '--cache', '--cache-location', `${CACHE}/knip`],
  },
  { name: 'words', args: ['scripts/words.mjs'] },
  {
    name: 'folder rule',
    args: [
      'node_modules/dependency-cruiser/bin/dependency-cruise.mjs',
      ...['--cache', `${CACHE}/dependency-cruiser`, '--cache-strategy', 'content', 'src'],
    ],
  },
];

/**
 * Runs a tool and prints its output in one piece.
 * @param {typeof TOOLS[number]} tool
 * @returns {Promise<boolean>} whether it found nothing
 */
async function check({ name, args }) {
  const begun = performance.now();
  const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  /** @type {Buffer[]} */
  const output = [];
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (/** @type {Buffer} */ chunk) => output.push(chunk));
  /** @type {number | null} */
  const status = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  process.stderr.write(Buffer.concat(output));
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  console.error(`check: ${name}: ${status === 0 ? 'ok' : 'FAILED'} (${seconds} s)`);
  return status === 0;
}

if (process.argv.includes('--no-cache')) rmSync(`${ROOT}${CACHE}`, { recursive: true, force: true });
const waiting = [...TOOLS];
/** @type {boolean[]} */
const results = [];
const lanes = Array.from({ length: Math.max(2, availableParallelism()) }, async () => {
  for (let tool = waiting.shift(); tool !== undefined; tool = waiting.shift())
    results.push(await check(tool));
});
await Promise.all(lanes);
process.exitCode = results.every(Boolean) ? 0 : 1;
