#!/usr/bin/env node
// `npm run bench:workers`: what two workers carry per second, next to one.
//
// The load takes more CPU than the proxy, so on a small machine it would be the load that ends the race. Therefore each
// process that carries traffic may use a tenth of a core, and no more: what is compared is what they carry with it.
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

/** What is carried, calls or bytes: so much at once that two workers have no less to do at a time than one needs to be busy. */
const LOADS = scenarios(false)
  .filter(({ id }) => ['rpc', 'down', 'up'].includes(id))
  .map((each) => ({ ...each, connections: 8, concurrency: each.id === 'rpc' ? 32 : 1 }));

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
 * @property {number} rate calls or MiB a second
 * @property {number} loadCores cores that the load used
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
    const primary = workers === 1 ? 0 : tree - own.reduce((sum, seconds) => sum + seconds, 0);
    return {
      rate: amount / result.seconds,
      loadCores: loadSeconds / result.seconds,
      primaryCores: (primary * 1000) / (performance.now() - begun),
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
    `What processes carry with ${SHARE} of a core each; median of ${ROUNDS} rounds (smallest to largest).\n`,
  );
  console.log(
    '| load | one worker | two workers | ratio | cores of the load: one, two | cores of the primary |',
  );
  console.log('| --- | --- | --- | --- | --- | --- |');
  let missed = false;
  for (const scenario of LOADS) {
    /** @type {Map<number, Carried>[]} */
    const carried = [new Map(), new Map()];
    for (let round = 0; round < ROUNDS; round += 1)
      for (const [index, { workers, peer }] of peers.entries())
        carried[index]?.set(round, await carry(load, peer, workers, scenario, stage));
    const [one = new Map(), two = new Map()] = carried;
    const of = (/** @type {Map<number, Carried>} */ values, /** @type {keyof Carried} */ what) =>
      new Map([...values].map(([round, each]) => [round, each[what]]));
    const ratio = summarizeRatios(of(two, 'rate'), of(one, 'rate'));
    const show = (/** @type {ReturnType<typeof summarize>} */ each) =>
      each ? `${threeDigits(each.median)} (${threeDigits(each.low)}–${threeDigits(each.high)})` : '-';
    const median = (/** @type {Map<number, Carried>} */ values, /** @type {keyof Carried} */ what) =>
      threeDigits(summarize([...of(values, what).values()])?.median ?? 0);
    const unit = scenario.unit === 'µs' ? 'calls/s' : 'MiB/s';
    const cells = [
      `${scenario.id} ${scenario.connections} × ${scenario.concurrency}, ${unit}`,
      show(summarize([...of(one, 'rate').values()])),
      show(summarize([...of(two, 'rate').values()])),
      show(ratio),
      `${median(one, 'loadCores')}, ${median(two, 'loadCores')}`,
      median(two, 'primaryCores'),
    ];
    console.log(`| ${cells.join(' | ')} |`);
    if (ratio === undefined || ratio.high < TARGET) missed = true;
  }
  console.log(`\nTarget: two workers carry ${TARGET} × what one carries: ${missed ? 'missed' : 'met'}.`);
  return missed ? 1 : 0;
});
