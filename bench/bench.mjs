import { conversation, startChild } from './children.mjs';
import { quietMachine } from './disturbance.mjs';
import { measure } from './measure.mjs';
import { Results } from './results.mjs';
import { startPeer } from './running-peer.mjs';

/** The number of repeats of a disturbed measurement before it is omitted from its round. */
const MAX_REPEATS = 3;

/** The row without a proxy: the limit of the load itself. */
export const DIRECT = { id: 'direct', group: 'direct', title: 'no proxy, no TLS' };

/**
 * @typedef {import('./peers/peer.mjs').Peer} Peer
 * @typedef {import('./scenarios.mjs').Scenario} Scenario
 */

/**
 * What to measure.
 * @typedef {object} Plan
 * @property {Peer[]} peers
 * @property {boolean} direct whether to measure without a proxy as well
 * @property {Scenario[]} scenarios
 * @property {number} rounds
 * @property {import('./measure.mjs').Pace} pace
 * @property {string} load the load's program
 * @property {import('./running-peer.mjs').Stage} stage
 * @property {AbortSignal} signal
 * @property {(line: string) => void} tell progress
 */

/**
 * Measures everything: in each round each scenario, in each scenario each proxy once, in an order that turns from
 * round to round. A temporary slowdown of the machine then affects all of them.
 * @param {Plan} plan
 * @returns {Promise<Results>}
 */
export async function bench(plan) {
  const results = new Results();
  const runners = plan.peers.map((peer) => new Runner(peer, plan));
  for (let round = 0; round < plan.rounds; round += 1) {
    for (const scenario of plan.scenarios) {
      const turned = runners.map((_, index) => at(runners, index + round));
      for (const runner of turned) await runner.measure(scenario, round, results);
      if (plan.direct && scenario.measures === 'cpu') await measureDirect(scenario, round, plan, results);
      plan.tell(
        `round ${round + 1} of ${plan.rounds}: ${scenario.title}${describeRound(plan, scenario, round, results)}`,
      );
    }
  }
  return results;
}

/**
 * Starts the backend that all proxies forward to.
 * @param {string} load
 * @returns {Promise<{ port: number, pid: number }>}
 */
export async function startBackend(load) {
  const child = await startChild(load, ['backend']);
  const { port } = /** @type {{ port: number }} */ (
    await conversation(child, 'the backend').hear('listening')
  );
  return { port, pid: child.pid };
}

/** One peer through all rounds: it keeps running, so that it is as warm as in service. */
class Runner {
  #peer;
  #plan;
  /** @type {import('./running-peer.mjs').RunningPeer | undefined} */
  #running;

  /**
   * @param {Peer} peer
   * @param {Plan} plan
   */
  constructor(peer, plan) {
    this.#peer = peer;
    this.#plan = plan;
  }

  /**
   * @param {Scenario} scenario
   * @param {number} round
   * @param {Results} results
   */
  async measure(scenario, round, results) {
    const peer = this.#peer;
    const key = `${peer.id} ${scenario.id}`;
    if (!canDo(peer, scenario) || results.failed.has(key)) return;
    try {
      await this.#repeatUntilQuiet(scenario, round, results);
    } catch (error) {
      this.#plan.signal.throwIfAborted();
      await this.#stop();
      results.failed.add(key);
      results.notes.push(
        `${peer.title}, ${scenario.title}: failed (${error instanceof Error ? error.message : String(error)}).`,
      );
    }
  }

  /**
   * @param {Scenario} scenario
   * @param {number} round
   * @param {Results} results
   */
  async #repeatUntilQuiet(scenario, round, results) {
    const { load, stage, pace, signal } = this.#plan;
    // Memory is measured on a process that has done nothing else.
    if (scenario.measures === 'memory') await this.#stop();
    for (let attempt = 0; ; attempt += 1) {
      this.#running ??= await startPeer(this.#peer, stage);
      const { url, pid } = this.#running;
      const { value, result, tls, disturbance } = await measure({
        ...{ load, url, pid, stage, scenario },
        pace: round === 0 ? { ...pace, warmupMs: 3 * pace.warmupMs } : pace,
      });
      if (scenario.measures === 'memory') await this.#stop();
      if (tls !== undefined) results.negotiated(this.#peer.id, tls);
      if (disturbance === undefined) {
        results.add(this.#peer.id, scenario.id, { round, value, result });
        return;
      }
      if (attempt === MAX_REPEATS || !(await quietMachine(signal))) {
        const what = `${this.#peer.title}, ${scenario.title}, round ${round + 1}`;
        results.notes.push(`${what}: dropped after ${attempt} repeats (last: ${disturbance}).`);
        return;
      }
      results.repeats += 1;
    }
  }

  async #stop() {
    await this.#running?.stop();
    this.#running = undefined;
  }
}

/**
 * @param {Peer} peer
 * @param {Scenario} scenario
 */
function canDo(peer, scenario) {
  return peer.relaysBytes || scenario.needsBackchannel !== true;
}

/**
 * @param {Scenario} scenario
 * @param {number} round
 * @param {Plan} plan
 * @param {Results} results
 */
async function measureDirect(scenario, round, { load, stage, pace }, results) {
  const url = `tcp://127.0.0.1:${stage.backendPort}`;
  const { result } = await measure({ load, url, pid: undefined, stage, scenario, pace });
  results.add(DIRECT.id, scenario.id, { round, value: undefined, result });
}

/**
 * @template T
 * @param {T[]} ring never empty
 * @param {number} index
 * @returns {T}
 */
function at(ring, index) {
  const found = ring[index % ring.length];
  if (found === undefined) throw new RangeError('an empty ring');
  return found;
}

/**
 * @param {Plan} plan
 * @param {Scenario} scenario
 * @param {number} round
 * @param {Results} results
 */
function describeRound(plan, scenario, round, results) {
  return plan.peers
    .map((peer) => [peer.title, results.values(peer.id, scenario.id).get(round)])
    .map(
      ([title, value]) =>
        `\n  ${title} ${typeof value === 'number' ? `${value.toFixed(3)} ${scenario.unit}` : '-'}`,
    )
    .join('');
}
