#!/usr/bin/env node
// `npm run bench:profile`: the CPU of a call by part of the program, from V8's own profile.
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { SourceMap } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildLoad, buildProxy } from './build.mjs';
import { measure } from './measure.mjs';
import { ourPeers } from './peers/ours.mjs';
import { startPeer } from './running-peer.mjs';
import { scenarios } from './scenarios.mjs';
import { onStage } from './stage.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PACE = { warmupMs: 9000, durationMs: 20_000 };

/** Parts of the program, by the path of their code; the first match counts. Everything else belongs to the relay. */
const PARTS = [
  { part: 'HPACK', path: '/src/inspect/hpack/' },
  { part: 'calls', path: '/src/inspect/grpc/' },
  { part: 'frames and streams', path: '/src/inspect/' },
  { part: 'log', path: '/src/telemetry/log' },
  { part: 'log', path: '/src/telemetry/rpc/rpc-log' },
  { part: 'metrics', path: '/src/telemetry/' },
];
const RELAY = 'relay, TLS, sockets, kernel';

/**
 * A profile as V8 writes it.
 * @typedef {object} Profile
 * @property {{ id: number, callFrame: { functionName: string, url: string, lineNumber: number, columnNumber: number }, children?: number[] }[]} nodes
 * @property {number[]} samples
 * @property {number[]} timeDeltas microseconds
 */

/** @type {Map<string, SourceMap>} */
const maps = new Map();

/** @param {URL} url */
function readMap(url) {
  /** @type {unknown} */
  const payload = JSON.parse(readFileSync(url, 'utf8'));
  return new SourceMap(/** @type {import('node:module').SourceMapPayload} */ (payload));
}

/**
 * The source file of a function of the built program; empty for other functions.
 * @param {{ url: string, lineNumber: number, columnNumber: number }} callFrame with numbers from 0
 * @returns {string}
 */
function sourceOf({ url, lineNumber, columnNumber }) {
  if (!url.includes('/dist/')) return '';
  const map = maps.get(url) ?? readMap(new URL(`${url}.map`));
  maps.set(url, map);
  const entry = map.findEntry(lineNumber, columnNumber);
  return 'originalSource' in entry ? entry.originalSource : '';
}

/**
 * Shares of the busy time, by part. Code of Node and V8 counts for the function that calls it.
 * @param {Profile} profile
 * @returns {Map<string, number>}
 */
function shares({ nodes, samples, timeDeltas }) {
  /** @type {Map<number, string>} */
  const parts = new Map();
  const byId = new Map(nodes.map((node) => [node.id, node]));
  /** @type {(id: number, inherited: string) => void} */
  const walk = (id, inherited) => {
    const node = byId.get(id);
    if (node === undefined) return;
    const { functionName } = node.callFrame;
    const source = sourceOf(node.callFrame);
    const own = PARTS.find(({ path }) => source.includes(path))?.part;
    const special =
      functionName === '(idle)' ? 'idle' : functionName === '(garbage collector)' ? 'garbage' : undefined;
    const part = special ?? own ?? inherited;
    parts.set(id, part);
    for (const child of node.children ?? []) walk(child, part);
  };
  const [root] = nodes;
  if (root !== undefined) walk(root.id, RELAY);
  /** @type {Map<string, number>} */
  const times = new Map();
  for (const [index, id] of samples.entries()) {
    const part = parts.get(id) ?? RELAY;
    times.set(part, (times.get(part) ?? 0) + (timeDeltas[index] ?? 0));
  }
  times.delete('idle');
  const all = [...times.values()].reduce((sum, time) => sum + time, 0);
  return new Map([...times].map(([part, time]) => [part, time / all]));
}

const load = await buildLoad(ROOT);
const program = await buildProxy(ROOT);
await onStage(ROOT, load, async (stage) => {
  const [scenario] = scenarios(false);
  if (scenario === undefined) throw new Error('no scenario');
  console.log(`CPU of one call (${scenario.title}), by part; µs, and share.\n`);
  for (const peer of await ourPeers([], program)) {
    const profiles = join(stage.directory, `profile-${peer.id}`);
    /** @type {import('./peers/peer.mjs').Peer} */
    const profiled = {
      ...peer,
      start: (place) => {
        const { args, ...start } = peer.start(place);
        return {
          ...start,
          args: ['--cpu-prof', '--cpu-prof-interval=250', `--cpu-prof-dir=${profiles}`, ...args],
        };
      },
    };
    const running = await startPeer(profiled, stage);
    const { url, pid } = running;
    const { value = 0 } = await measure({ load, url, pid, stage, scenario, pace: PACE });
    await running.stop();
    const [name = ''] = await readdir(profiles);
    /** @type {unknown} */
    const profile = JSON.parse(await readFile(join(profiles, name), 'utf8'));
    const sorted = [...shares(/** @type {Profile} */ (profile))].sort(([, one], [, other]) => other - one);
    console.log(`${peer.title}: ${value.toFixed(1)} µs`);
    for (const [part, share] of sorted)
      console.log(
        `  ${(share * value).toFixed(2).padStart(6)}  ${(share * 100).toFixed(1).padStart(5)} %  ${part}`,
      );
  }
});
