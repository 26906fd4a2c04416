#!/usr/bin/env node
// `npm run bench:workers`: the throughput of two workers, next to one.
//
// The load needs more CPU than the proxy, so on a small machine the load would be the bottleneck. Therefore each process
// that carries traffic is limited to a tenth of a core, and their throughput with that share is compared.
//
// The cost of a call falls with the number of concurrent calls, because one read then returns more of them. So two workers
// have twice the clients of one. A second row shows two workers with the same number of clients.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildLoad, buildProxy } from './build.mjs';
import { measure } from './measure.mjs';
import { oursWith } from './peers/ours.mjs';
import { cpuSecondsBetween, readCpu } from './proc.mjs';
import { Quota } from './quota.mjs';
import { startPeer } from './running-peer.mjs';
import { scenarios } from './scenarios.mjs';
import { onStage } from './stage.mjs';
import { summarize, summarizeRatios, threeDigits } from './statistics.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PACE = { warmupMs: 4000, durationMs: 4000 };
const ROUNDS = 3;
const SHARE = 0.1;
const TARGET = 1.7;

/** Connections of one worker's clients. */
const CONNECTIONS = 8;

/** Loads of calls or bytes, with the number of connections for one worker and for two. */
const LOADS = scenarios(false)
  .filter(({ id }) => ['rpc', 'down', 'up'].includes(id))
  .flatMap((each) => {
    const scenario = { ...each, concurrency: each.id === 'rpc' ? 32 : 1 };
    return [
      { scenario, connections: [CONNECTIONS, 2 * CONNECTIONS], target: TARGET },
      { scenario, connections: [CONNECTIONS, CONNECTIONS], target: undefined },
    ];
  });

/**
 * The processes that carry traffic: the workers, or the only one.
 * @param {number} pid
 * @param {number} workers
 */
function carriers(pid, workers) {
  if (workers === 1) return [pid];
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}

/**
 * @typedef {object} Carried
 * @property {number} rate calls or MiB per second
 * @property {number} loadCores cores that the load used
 * @property {number} carrierCores cores that the processes which carry traffic used
 * @property {number} primaryCores cores that the primary process used, where there is one
 */

/**
 * @param {string} load
 * @param {import('./peers/peer.mjs').Peer} peer
 * @param {number} workers
 * @param {import('./scenarios.mjs').Scenario} scenario
 * @param {import('./running-peer.mjs').Stage} stage
 * @returns {Promise<Carried>}
 */
async function carry(load, peer, workers, scenario, stage) {
  const { url, pid, stop } = await startPeer(peer, stage);
  /** @type {Quota[]} */
  const quotas = [];
  try {
    for (const carrier of carriers(pid, workers)) {
      const quota = Quota.create(SHARE);
      quotas.push(quota);
      quota.add(carrier);
    }
    if (quotas.length !== workers) throw new Error(`${quotas.length} workers instead of ${workers}`);
    // With its workers' subtracted, what is left of the tree is the primary's.
    const all = [pid, ...carriers(pid, workers)].map((each) => ({ each, before: readCpu(each) }));
    const begun = performance.now();
    const { result, loadSeconds } = await measure({ load, url, pid: undefined, stage, scenario, pace: PACE });
    const [tree = 0, ...own] = all.map(({ each, before }) => cpuSecondsBetween(before, readCpu(each)));
    const amount = scenario.unit === 'µs' ? result.operations : result.bytes / 1024 ** 2;
    const carriersOwn = own.reduce((sum, seconds) => sum + seconds, 0);
    const wallSeconds = (performance.now() - begun) / 1000;
    return {
      rate: amount / result.seconds,
      loadCores: loadSeconds / result.seconds,
      carrierCores: carriersOwn / wallSeconds,
      primaryCores: (tree - carriersOwn) / wallSeconds,
    };
  } finally {
    await stop();
    for (const quota of quotas) quota.remove();
  }
}

const load = await buildLoad(ROOT);
const program = await buildProxy(ROOT);
process.exitCode = await onStage(ROOT, load, async (stage) => {
  const peers = [
    { workers: 1, peer: await oursWith(program, 1) },
    { workers: 2, peer: await oursWith(program, 2) },
  ];
  console.log(
    `Throughput with ${SHARE} of a core per process; median of ${ROUNDS} rounds (smallest to largest).\n`,
  );
  console.log(
    '| load | one worker | two workers | ratio | cores of the workers: one, two | cores of the load: one, two | cores of the primary |',
  );
  console.log('| --- | --- | --- | --- | --- | --- | --- |');
  let missed = false;
  for (const { scenario, connections, target } of LOADS) {
    /** @type {Map<number, Carried>} */
    const one = new Map();
    /** @type {Map<number, Carried>} */
    const two = new Map();
    const carried = [one, two];
    for (let round = 0; round < ROUNDS; round += 1)
      for (const [index, { workers, peer }] of peers.entries())
        carried[index]?.set(
          round,
          await carry(load, peer, workers, { ...scenario, connections: connections[index] ?? 0 }, stage),
        );
    const of = (/** @type {Map<number, Carried>} */ values, /** @type {keyof Carried} */ what) =>
      new Map([...values].map(([round, each]) => [round, each[what]]));
    const ratio = summarizeRatios(of(two, 'rate'), of(one, 'rate'));
    const show = (/** @type {ReturnType<typeof summarize>} */ each) =>
      each ? `${threeDigits(each.median)} (${threeDigits(each.low)}–${threeDigits(each.high)})` : '-';
    const median = (/** @type {Map<number, Carried>} */ values, /** @type {keyof Carried} */ what) =>
      threeDigits(summarize([...of(values, what).values()])?.median ?? 0);
    const unit = scenario.unit === 'µs' ? 'calls/s' : 'MiB/s';
    const cells = [
      `${scenario.id} ${connections.join(' and ')} × ${scenario.concurrency}, ${unit}`,
      show(summarize([...of(one, 'rate').values()])),
      show(summarize([...of(two, 'rate').values()])),
      show(ratio),
      `${median(one, 'carrierCores')}, ${median(two, 'carrierCores')}`,
      `${median(one, 'loadCores')}, ${median(two, 'loadCores')}`,
      median(two, 'primaryCores'),
    ];
    console.log(`| ${cells.join(' | ')} |`);
    if (target !== undefined && (ratio === undefined || ratio.median < target)) missed = true;
  }
  console.log(`\nTarget: two workers carry ${TARGET} × what one carries: ${missed ? 'missed' : 'met'}.`);
  return missed ? 1 : 0;
});
