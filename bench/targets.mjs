import { summarize, summarizeRatios } from './statistics.mjs';

/**
 * What the proxy has to reach.
 * @typedef {object} Target
 * @property {string} scenario
 * @property {number} limit a ratio to the reference, or KiB where there is none
 * @property {string} [reference] id of a peer
 */

/** @type {readonly Target[]} */
const TARGETS = [
  { scenario: 'rpc', limit: 2.0, reference: 'haproxy-tcp' },
  { scenario: 'rpc1', limit: 2.0, reference: 'haproxy-tcp' },
  { scenario: 'down', limit: 1.3, reference: 'nginx' },
  { scenario: 'up', limit: 1.8, reference: 'nginx' },
  { scenario: 'sidechannel', limit: 1.3, reference: 'nginx' },
  { scenario: 'handshake', limit: 1.8, reference: 'nginx' },
  { scenario: 'idle', limit: 56 },
];

/** The targets are set for this Node; rows of others are shown, and judged only where it was not measured. */
const TARGET_NODE = 'node 20.';

/**
 * `missed` is by more than the spread: not even the best round reaches the target. `unclear`: the median misses it,
 * the best round does not, or there was one round only and so no spread.
 * @typedef {object} Verdict
 * @property {Target} target
 * @property {import('./peers/peer.mjs').Peer} peer
 * @property {'met' | 'unclear' | 'missed' | 'not measured'} verdict
 * @property {import('./statistics.mjs').Summary | undefined} measured
 * @property {boolean} counts whether it decides the exit code
 */

/**
 * @param {readonly import('./peers/peer.mjs').Peer[]} peers
 * @param {readonly import('./scenarios.mjs').Scenario[]} chosen
 * @param {import('./results.mjs').Results} results
 * @returns {Verdict[]}
 */
export function judge(peers, chosen, results) {
  const ours = peers.filter((peer) => peer.group === 'ours');
  const binding = ours.filter((peer) => peer.version.startsWith(TARGET_NODE));
  return ours.flatMap((peer) =>
    TARGETS.filter((target) => chosen.some((scenario) => scenario.id === target.scenario)).map((target) => {
      const values = results.values(peer.id, target.scenario);
      const measured =
        target.reference === undefined
          ? summarize([...values.values()])
          : summarizeRatios(values, results.values(target.reference, target.scenario));
      const counts = binding.length === 0 || binding.includes(peer);
      return { target, peer, measured, verdict: compare(measured, target.limit), counts };
    }),
  );
}

/**
 * @param {import('./statistics.mjs').Summary | undefined} measured
 * @param {number} limit
 * @returns {Verdict['verdict']}
 */
function compare(measured, limit) {
  if (measured === undefined) return 'not measured';
  if (measured.median <= limit) return 'met';
  return measured.samples === 1 || measured.low <= limit ? 'unclear' : 'missed';
}
