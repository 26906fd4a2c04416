import { OUR_GROUPS } from './peers/ours.mjs';
import { summarize, summarizeDifferences, summarizeRatios } from './statistics.mjs';

/**
 * What a row of ours has to reach.
 * @typedef {object} Target
 * @property {string} row group of the peer
 * @property {string} scenario
 * @property {number} limit a ratio to the reference, or KiB: those above the reference's, or all where there is none
 * @property {string} [reference] id of a peer; a group of ours: the row on the same Node
 */

/** @type {readonly Target[]} */
const TARGETS = [
  { row: 'ours', scenario: 'rpc', limit: 2.0, reference: 'haproxy-tcp' },
  { row: 'ours', scenario: 'rpc1', limit: 2.0, reference: 'haproxy-tcp' },
  { row: 'ours', scenario: 'down', limit: 1.3, reference: 'nginx' },
  { row: 'ours', scenario: 'up', limit: 1.8, reference: 'nginx' },
  { row: 'ours', scenario: 'sidechannel', limit: 1.3, reference: 'nginx' },
  { row: 'ours', scenario: 'handshake', limit: 1.8, reference: 'nginx' },
  { row: 'ours', scenario: 'idle', limit: 56 },
  { row: 'inspected', scenario: 'rpc', limit: 0.7, reference: 'haproxy-h2' },
  { row: 'inspected', scenario: 'rpc', limit: 0.25, reference: 'envoy-h2' },
  { row: 'inspected', scenario: 'rpc', limit: 1.4, reference: 'ours' },
  { row: 'logged', scenario: 'rpc', limit: 1.0, reference: 'haproxy-h2' },
  { row: 'policy', scenario: 'rpc', limit: 1.05, reference: 'inspected' },
  { row: 'metadata', scenario: 'rpc', limit: 1.15, reference: 'inspected' },
  { row: 'inspected', scenario: 'down', limit: 1.05, reference: 'ours' },
  { row: 'inspected', scenario: 'up', limit: 1.05, reference: 'ours' },
  { row: 'inspected', scenario: 'sidechannel', limit: 1.05, reference: 'ours' },
  { row: 'inspected', scenario: 'idle', limit: 8, reference: 'ours' },
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
  const binding = peers.filter(
    (peer) => OUR_GROUPS.includes(peer.group) && peer.version.startsWith(TARGET_NODE),
  );
  return TARGETS.filter((target) => chosen.some((scenario) => scenario.id === target.scenario)).flatMap(
    (target) =>
      peers
        .filter((peer) => peer.group === target.row)
        .map((peer) => {
          const measured = compared(target, peer, chosen, results);
          const counts = binding.length === 0 || binding.includes(peer);
          return { target, peer, measured, verdict: verdictOf(measured, target.limit), counts };
        }),
  );
}

/**
 * @param {Target} target
 * @param {import('./peers/peer.mjs').Peer} peer
 * @param {readonly import('./scenarios.mjs').Scenario[]} chosen
 * @param {import('./results.mjs').Results} results
 */
function compared({ scenario, reference }, peer, chosen, results) {
  const values = results.values(peer.id, scenario);
  if (reference === undefined) return summarize([...values.values()]);
  const referenceId = OUR_GROUPS.includes(reference) ? `${reference}${peer.suffix ?? ''}` : reference;
  const references = results.values(referenceId, scenario);
  const isMemory = chosen.some(({ id, measures }) => id === scenario && measures === 'memory');
  return isMemory ? summarizeDifferences(values, references) : summarizeRatios(values, references);
}

/**
 * @param {import('./statistics.mjs').Summary | undefined} measured
 * @param {number} limit
 * @returns {Verdict['verdict']}
 */
function verdictOf(measured, limit) {
  if (measured === undefined) return 'not measured';
  if (measured.median <= limit) return 'met';
  return measured.samples === 1 || measured.low <= limit ? 'unclear' : 'missed';
}
