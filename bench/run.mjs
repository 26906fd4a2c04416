#!/usr/bin/env node
// `npm run bench`: measures the cost of this proxy and its peers under the same load. bench/README.md explains the report.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bench, DIRECT } from './bench.mjs';
import { buildLoad, buildProxy } from './build.mjs';
import { stopAll } from './children.mjs';
import { describeMachine } from './machine.mjs';
import { HELP, readOptions } from './options.mjs';
import { installedPeers } from './peers/all.mjs';
import { OUR_GROUPS } from './peers/ours.mjs';
import { renderReport } from './report.mjs';
import { scenarios } from './scenarios.mjs';
import { onStage } from './stage.mjs';
import { judge } from './targets.mjs';
import { UsageError } from './usage-error.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PACE = { warmupMs: 3000, durationMs: 4000 };
const QUICK_PACE = { warmupMs: 300, durationMs: 1000 };

/**
 * @param {import('./options.mjs').Options} options
 * @param {AbortSignal} signal
 * @returns {Promise<number>} exit code
 */
async function main(options, signal) {
  const wanted = (/** @type {{ id: string, group: string }} */ { id, group }) =>
    options.only.length === 0 || options.only.includes(id) || options.only.includes(group);
  const load = await buildLoad(ROOT);
  const program = OUR_GROUPS.some((group) => wanted({ id: group, group }))
    ? await buildProxy(ROOT)
    : join(ROOT, 'dist/cli.js');
  const peers = await installedPeers(wanted, options.nodes, program);
  const direct = wanted(DIRECT);
  if (peers.length === 0 && !direct) throw new Error(`none of ${options.only.join(', ')} is installed`);
  const chosen = scenarios(options.quick).filter(
    ({ id }) => options.scenarioIds.length === 0 || options.scenarioIds.includes(id),
  );
  const pace = options.quick ? QUICK_PACE : PACE;
  return onStage(ROOT, load, async (stage) => {
    const results = await bench({
      ...{ peers, direct, scenarios: chosen, rounds: options.rounds, pace, load, signal },
      stage,
      tell: (line) => console.error(line),
    });
    const verdicts = judge(peers, chosen, results);
    const machine = await describeMachine();
    const { rounds, quick } = options;
    const report = renderReport(peers, chosen, results, verdicts, { machine, rounds, pace, quick, direct });
    process.stdout.write(report);
    if (options.out !== undefined) await writeFile(options.out, report);
    if (options.json !== undefined) {
      const samples = [...(direct ? [DIRECT] : []), ...peers].flatMap((peer) =>
        chosen.flatMap(({ id, unit }) =>
          results.samples(peer.id, id).map((sample) => ({ peer: peer.title, scenario: id, unit, ...sample })),
        ),
      );
      const versions = Object.fromEntries(peers.map((peer) => [peer.title, peer.version]));
      const { notes, repeats } = results;
      const everything = { machine, versions, rounds, pace, quick, repeats, notes, verdicts, samples };
      await writeFile(options.json, `${JSON.stringify(everything, null, 2)}\n`);
    }
    const missed = verdicts.some(({ verdict, counts }) => counts && verdict === 'missed');
    const failed = peers.some(
      ({ id, group }) =>
        OUR_GROUPS.includes(group) && chosen.some((scenario) => results.failed.has(`${id} ${scenario.id}`)),
    );
    return missed || failed ? 1 : 0;
  });
}

const abort = new AbortController();
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.once(signal, () => {
    abort.abort(new Error(`ended by ${signal}`));
    // The running measurement fails as its children end; everything else is cleaned up at the exit.
    void stopAll();
  });
}

try {
  const options = readOptions(process.argv.slice(2));
  if (options === 'help') process.stdout.write(HELP);
  else process.exitCode = await main(options, abort.signal);
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
