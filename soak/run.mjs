#!/usr/bin/env node
// `npm run soak -- [RUN] [--minutes N]`: runs the built program under a long or a large load. soak/README.md lists
// the runs.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startBackend } from '../bench/bench.mjs';
import { buildLoad, buildProxy } from '../bench/build.mjs';
import { stopAll } from '../bench/children.mjs';
import { churn } from './churn.mjs';
import { hostile } from './hostile.mjs';
import { idleConnections, handshakeFlood, silentConnections } from './crowds.mjs';
import { refusals } from './refusals.mjs';
import { slowReaders, slowUpstream } from './slow.mjs';
import { toxic } from './toxic.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/**
 * @typedef {object} Run
 * @property {string} load the Go load's program
 * @property {string} program path of `dist/cli.js`
 * @property {string} directory a private one
 * @property {number} backendPort
 * @property {number} minutes
 * @property {number} workers
 * @property {number | undefined} [seed] of the random plan; without it, a new one
 * @property {number | undefined} [connections] for runs whose number can be chosen
 * @property {number | undefined} [calls] of `refusals`: refused calls to make
 * @property {number | undefined} [only] runs a single connection, by its number
 * @property {string[] | undefined} [attack] names of attacks; without it, all
 * @property {boolean | undefined} [each] whether attacks are made one after the other instead of all at once
 */

/** @type {Record<string, (run: Run) => Promise<string[]>>} each returns its failures */
const RUNS = {
  churn,
  'idle-connections': idleConnections,
  'silent-connections': silentConnections,
  'handshake-flood': handshakeFlood,
  'slow-readers': slowReaders,
  'slow-upstream': slowUpstream,
  toxic,
  hostile,
  refusals,
};

/** The default number of minutes of a run. @type {Record<string, number>} */
const MINUTES = { hostile: 10 };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string' },
    workers: { type: 'string', default: '1' },
    seed: { type: 'string' },
    connections: { type: 'string' },
    calls: { type: 'string' },
    only: { type: 'string' },
    attack: { type: 'string', multiple: true },
    each: { type: 'boolean' },
  },
});
const [name = 'churn'] = positionals;
const run = RUNS[name];
const [minutes, workers] = [Number(values.minutes ?? MINUTES[name] ?? 2), Number(values.workers)];
const [seed, connections, calls, only] = [values.seed, values.connections, values.calls, values.only].map(
  (value) => (value === undefined ? undefined : Number(value)),
);
const isWhole = (/** @type {number | undefined} */ value, least = 0) =>
  value === undefined || (Number.isInteger(value) && value >= least);
const isRight =
  minutes > 0 &&
  isWhole(workers, 1) &&
  isWhole(seed) &&
  isWhole(connections, 1) &&
  isWhole(calls, 1) &&
  isWhole(only);
if (run === undefined || !isRight) {
  const names = Object.keys(RUNS).join(' | ');
  const usage = `npm run soak -- [${names}] [--minutes N] [--workers N] [--seed N] [--connections N] [--calls N] [--only N] [--attack NAME]… [--each]`;
  console.error(`soak: invalid usage; expected: ${usage}`);
  process.exit(2);
}
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.once(signal, () => {
    process.exitCode = 1;
    // The run fails as its children end; everything else is cleaned up at the exit.
    void stopAll();
  });
}
const load = await buildLoad(ROOT);
const program = await buildProxy(ROOT);
const parent = join(ROOT, '.cache/soak');
await mkdir(parent, { recursive: true });
const directory = await mkdtemp(join(parent, 'run-'));
let keep = true;
try {
  const { port: backendPort } = await startBackend(load);
  console.log(`soak: ${name}`);
  const failures = await run({
    load,
    program,
    directory,
    backendPort,
    minutes,
    workers,
    seed,
    connections,
    calls,
    only,
    attack: values.attack,
    each: values.each,
  });
  for (const failure of failures) console.error(`soak: FAILED: ${failure}`);
  if (failures.length > 0) console.error(`soak: the proxy's log is in ${directory}`);
  else console.log('soak: nothing was lost, nothing has grown');
  keep = failures.length > 0;
  process.exitCode = keep ? 1 : 0;
} finally {
  await stopAll();
  if (!keep) await rm(directory, { recursive: true, force: true });
}
