import { parseArgs } from 'node:util';
import { PEER_NAMES } from './peers/all.mjs';
import { scenarios } from './scenarios.mjs';
import { UsageError } from './usage-error.mjs';

/**
 * @typedef {object} Options
 * @property {number} rounds
 * @property {string[]} only names of peers; empty for all
 * @property {string[]} scenarioIds
 * @property {string[]} nodes
 * @property {boolean} quick
 * @property {string | undefined} out
 * @property {string | undefined} json
 */

export const HELP = `Usage: npm run bench -- [options]

Measures the CPU and memory of this proxy and of the peers that are installed, under the same load on loopback.

  --rounds N        measurements per proxy and scenario (default 5; with --quick 2)
  --only LIST       peers, of: ${PEER_NAMES.join(', ')}
  --scenario LIST   scenarios, of: ${scenarios(false)
    .map((each) => each.id)
    .join(', ')}
  --node PATH       run this proxy with this Node binary; may be repeated, each is a row
  --quick           short measurements, to check that the bench works; do not quote them
  --out FILE        also write the report (Markdown) to this file
  --json FILE       write all samples to this file
  --help            print this help

Envoy is found as $ENVOY or as \`envoy\` in the PATH. Exit code 1: a target is missed by more than the measured spread, or
this proxy failed under load; 2: invalid usage.
`;

/**
 * @param {string[]} args
 * @returns {Options | 'help'}
 */
export function readOptions(args) {
  const values = parse(args);
  if (values.help) return 'help';
  const quick = values.quick ?? false;
  return {
    rounds: wholeNumber('--rounds', values.rounds ?? (quick ? '2' : '5')),
    only: list('--only', values.only, PEER_NAMES),
    scenarioIds: list(
      '--scenario',
      values.scenario,
      scenarios(quick).map((each) => each.id),
    ),
    nodes: values.node ?? [],
    quick,
    out: values.out,
    json: values.json,
  };
}

/** @param {string[]} args */
function parse(args) {
  try {
    return parseArgs({
      args,
      options: {
        rounds: { type: 'string' },
        only: { type: 'string' },
        scenario: { type: 'string' },
        node: { type: 'string', multiple: true },
        quick: { type: 'boolean' },
        out: { type: 'string' },
        json: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/**
 * @param {string} flag
 * @param {string} text
 */
function wholeNumber(flag, text) {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 100) {
    throw new UsageError(`${flag} ${text}: expected a whole number from 1 to 100`);
  }
  return value;
}

/**
 * @param {string} flag
 * @param {string | undefined} text names with commas between
 * @param {string[]} known
 */
function list(flag, text, known) {
  if (text === undefined) return [];
  const names = text.split(',').map((each) => each.trim());
  for (const name of names) {
    if (!known.includes(name)) throw new UsageError(`${flag} ${name}: not one of ${known.join(', ')}`);
  }
  return names;
}
