#!/usr/bin/env node
// `npm run bench:sweep -- [--rounds N]`: how the cost of a call grows with connections, with calls at once on each, and with the size of
// its message; as plots in docs/benchmarks/ and as a table.
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildLoad, buildProxy } from './build.mjs';
import { measure } from './measure.mjs';
import { installedPeers } from './peers/all.mjs';
import { oursWith } from './peers/ours.mjs';
import { plot } from './plot.mjs';
import { startPeer } from './running-peer.mjs';
import { scenarios } from './scenarios.mjs';
import { onStage } from './stage.mjs';
import { summarize, threeDigits } from './statistics.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const OUT = join(ROOT, 'docs/benchmarks');
const PACE = { warmupMs: 2000, durationMs: 3000 };
const ROWS = ['haproxy-tcp', 'haproxy-h2', 'ours', 'inspected'];

/** For all sweeps except that of connections. */
const SPARE_DESCRIPTORS = 300;

/** Linux, proc(5): the maximum per process. */
function descriptorsMax() {
  const hard = /^Max open files\s+\d+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  return Number(hard ?? Number.POSITIVE_INFINITY);
}

/** The parameter that each sweep varies, and its constant ones. */
const AXES = [
  {
    id: 'connections',
    title: 'A call of 128 bytes, by connections, one call at a time on each',
    x: 'connections',
    values: [10, 100, 1000, 10_000],
    vary: (/** @type {number} */ connections) => ({ connections, concurrency: 1 }),
  },
  {
    id: 'streams',
    title: 'A call of 128 bytes, by calls at once on each of 4 connections',
    x: 'calls at once on each connection',
    values: [1, 10, 100, 1000],
    vary: (/** @type {number} */ concurrency) => ({ connections: 4, concurrency }),
  },
  {
    id: 'message-size',
    title: 'A call, by the size of its message and of its answer; 4 connections × 16',
    x: 'bytes of the message',
    values: [1, 16, 256, 4096, 65_536, 1_048_576],
    vary: (/** @type {number} */ messageBytes) => ({ connections: 4, concurrency: 16, messageBytes }),
  },
];

const { values: flags } = parseArgs({ options: { rounds: { type: 'string', default: '3' } } });
const rounds = Number(flags.rounds);
if (!Number.isInteger(rounds) || rounds < 1) {
  console.error(`bench:sweep: --rounds ${flags.rounds}: expected a whole number from 1`);
  process.exit(2);
}
const load = await buildLoad(ROOT);
const program = await buildProxy(ROOT);
const peers = [
  ...(await installedPeers(({ id }) => ROWS.includes(id), [], program)).map((peer) => ({
    peer,
    processes: 1,
  })),
  { peer: await oursWith(program, 2), processes: 2 },
];
const [call] = scenarios(false);
if (call === undefined) throw new Error('no scenario');
await mkdir(OUT, { recursive: true });

await onStage(ROOT, load, async (stage) => {
  console.log(`CPU of a call, µs: median of ${rounds} ${rounds === 1 ? 'round' : 'rounds'}.`);
  for (const { id, title, x, values, vary } of AXES) {
    /** @type {import('./plot.mjs').Point[]} */
    const points = [];
    /** @type {Map<string, string[]>} */
    const cells = new Map();
    for (const { peer, processes } of peers) {
      /** @type {Map<number, number[]>} */
      const found = new Map(values.map((value) => [value, []]));
      for (let round = 0; round < rounds; round += 1) {
        // A process of its own each round: what one load has left behind does not burden the next.
        const running = await startPeer(peer, stage);
        for (const value of values) {
          // Each connection takes two descriptors.
          if (id === 'connections' && (2 * value) / processes > descriptorsMax() - SPARE_DESCRIPTORS)
            continue;
          const scenario = { ...call, ...vary(value), id: `${id} ${value}` };
          const { url, pid } = running;
          const measured = await measure({ load, url, pid, stage, scenario, pace: PACE }).catch(
            (/** @type {unknown} */ error) =>
              console.error(`${peer.title}, ${id} ${value}: ${String(error)}`),
          );
          if (measured?.value !== undefined) found.get(value)?.push(measured.value);
        }
        await running.stop();
      }
      for (const [value, samples] of found) {
        const summary = summarize(samples);
        if (summary !== undefined) points.push({ row: peer.title, x: value, y: summary.median });
        const cell = summary === undefined ? '-' : threeDigits(summary.median);
        cells.set(peer.title, [...(cells.get(peer.title) ?? []), cell]);
      }
    }
    await writeFile(
      join(OUT, `${id}.svg`),
      await plot({ title, x, y: 'CPU of the proxy, µs per call', points }),
    );
    console.log(`\n${title}:\n`);
    console.log(`| ${['', ...values].join(' | ')} |`);
    console.log(`| ${['', ...values].map(() => '---').join(' | ')} |`);
    for (const [row, figures] of cells) console.log(`| ${[row, ...figures].join(' | ')} |`);
  }
});
