import { setTimeout as pause } from 'node:timers/promises';
import { conversation, startChild } from './children.mjs';
import { disturbanceBetween } from './disturbance.mjs';
import { cpuSecondsBetween, readCpu, readMemoryKib, readSystem } from './proc.mjs';

/** Memory counts when it has not moved by more than 1 % for a second; a garbage collector may still be at work. */
const MEMORY_SETTLED_SHARE = 0.01;
const MEMORY_WINDOW_MS = 1000;
const MEMORY_WAIT_MS = 15_000;

/**
 * How long to work; milliseconds.
 * @typedef {{ warmupMs: number, durationMs: number }} Pace
 */

/**
 * @typedef {object} Measurement
 * @property {number | undefined} value in the scenario's unit; undefined without a proxy
 * @property {import('./scenarios.mjs').LoadResult} result
 * @property {number} loadSeconds CPU that the load itself used, client and backend
 * @property {import('./results.mjs').TlsFacts | undefined} tls undefined over plaintext
 * @property {string | undefined} disturbance what else used the machine meanwhile
 */

/**
 * Puts one load on one target. The client warms up, rests, works and rests again; CPU and memory are read while it
 * rests, so they belong to exactly the work that it counted.
 * @param {object} what
 * @param {string} what.load the client's program
 * @param {string} what.url
 * @param {number | undefined} what.pid the proxy's; undefined without one
 * @param {import('./running-peer.mjs').Stage} what.stage
 * @param {import('./scenarios.mjs').Scenario} what.scenario
 * @param {Pace} what.pace
 * @returns {Promise<Measurement>}
 */
export async function measure({ load, url, pid, stage, scenario, pace }) {
  const child = await startChild(load, [
    'client',
    ...['--scenario', scenario.kind, '--target', url, '--ca', stage.files.cert, '--key', stage.files.key],
    ...['--connections', String(scenario.connections), '--concurrency', String(scenario.concurrency)],
    ...['--warmup', `${pace.warmupMs}ms`, '--duration', `${pace.durationMs}ms`],
    ...(scenario.messageBytes === undefined ? [] : ['--message-bytes', String(scenario.messageBytes)]),
    ...(scenario.maxOperations === undefined ? [] : ['--max-operations', String(scenario.maxOperations)]),
  ]);
  try {
    const client = conversation(child, `the load client for ${scenario.id}`);
    const { tls } = /** @type {{ tls?: import('./results.mjs').TlsFacts }} */ (await client.hear('ready'));
    const used = pid === undefined ? undefined : await startMeter(scenario.measures, pid);
    const loadBefore = [child.pid, stage.backendPid].map(readCpu);
    const before = readSystem();
    const done = client.hear('done');
    client.say('go');
    const { result } = /** @type {{ result: import('./scenarios.mjs').LoadResult }} */ (await done);
    const after = readSystem();
    const amount = await used?.();
    const loadAfter = [child.pid, stage.backendPid].map(readCpu);
    client.say('end');
    await child.ended;
    return {
      value: amount === undefined ? undefined : (amount * scenario.scale) / scenario.work(result),
      result,
      loadSeconds: loadBefore.reduce(
        (sum, reading, index) => sum + cpuSecondsOf(reading, loadAfter[index]),
        0,
      ),
      tls: tls ?? undefined,
      disturbance: scenario.measures === 'cpu' ? disturbanceBetween(before, after) : undefined,
    };
  } finally {
    await child.stop();
  }
}

/**
 * The runtime of Go makes threads as it needs them, so its processes are measured in hundredths of a second.
 * @param {import('./proc.mjs').CpuReading} before
 * @param {import('./proc.mjs').CpuReading | undefined} after
 */
function cpuSecondsOf(before, after) {
  return after === undefined ? 0 : cpuSecondsBetween(before, after);
}

/**
 * Reads CPU or memory now; the function returned reads again and gives the difference.
 * @param {'cpu' | 'memory'} kind
 * @param {number} pid
 * @returns {Promise<() => Promise<number>>} seconds or KiB
 */
async function startMeter(kind, pid) {
  if (kind === 'cpu') {
    const before = readCpu(pid);
    return () => Promise.resolve(cpuSecondsBetween(before, readCpu(pid)));
  }
  const before = await settledMemoryKib(pid);
  return async () => (await settledMemoryKib(pid)) - before;
}

/** @param {number} pid */
async function settledMemoryKib(pid) {
  let last = readMemoryKib(pid);
  for (const deadline = Date.now() + MEMORY_WAIT_MS; Date.now() < deadline;) {
    await pause(MEMORY_WINDOW_MS);
    const now = readMemoryKib(pid);
    if (Math.abs(now - last) <= last * MEMORY_SETTLED_SHARE) return now;
    last = now;
  }
  return last;
}
