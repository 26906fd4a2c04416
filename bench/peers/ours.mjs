import { readFile } from 'node:fs/promises';

import { stringify } from 'yaml';
import { UsageError } from '../usage-error.mjs';
import { versionOf } from './peer.mjs';

/**
 * As it comes: a line for each call that fails, of which there are none here.
 * @type {Variant}
 */
const DEFAULTS = { group: 'inspected', inspect: true, logging: { level: 'info', rpc: 'failed' }, workers: 1 };

/** A policy that judges each call, and allows it. */
const ALLOW_ALL = { rules: [{ name: 'all', identities: ['dns:localhost'], allow: ['*'] }] };

const TOKEN_FILE = 'gitaly.token';

/**
 * One way to run this project's proxy, a row: what is switched off or on.
 * @typedef {object} Variant
 * @property {string} group
 * @property {boolean} inspect
 * @property {Record<string, string>} logging
 * @property {number} workers
 * @property {Record<string, unknown>} [listener] further settings of the listener, which identifies its clients by certificate then
 */

/** @type {readonly Variant[]} */
const VARIANTS = [
  { group: 'ours', inspect: false, logging: { level: 'warn' }, workers: 1 },
  DEFAULTS,
  { group: 'unlogged', inspect: true, logging: { level: 'info', rpc: 'none' }, workers: 1 },
  { group: 'logged', inspect: true, logging: { level: 'info', rpc: 'all' }, workers: 1 },
  { ...DEFAULTS, group: 'policy', listener: { policy: ALLOW_ALL } },
  {
    ...{ ...DEFAULTS, group: 'metadata' },
    listener: {
      policy: ALLOW_ALL,
      upstream_token_path: TOKEN_FILE,
      upstream_metadata: { 'x-gitaly-client-identity': 'identity' },
    },
  },
];

/** The groups that are this project's own. */
export const OUR_GROUPS = VARIANTS.map(({ group }) => group);

/**
 * This project's proxy, for each Node binary in all variants: as a tunnel (`ours`), with its calls followed, with all
 * of them logged into a file, with a policy, and with metadata added to each call.
 * @param {string[]} nodes paths of Node binaries; empty for the one that runs the bench
 * @param {string} program path of the built `dist/cli.js`
 * @returns {Promise<import('./peer.mjs').Peer[]>}
 */
export async function ourPeers(nodes, program) {
  const flags = await shebangFlags(program);
  const peers = [];
  for (const [index, node] of (nodes.length === 0 ? [process.execPath] : nodes).entries()) {
    const version = await versionOf(node, ['--version'], /^v(\d+\.\d+\.\d+\S*)$/m);
    if (version === 'unknown') throw new UsageError(`--node ${node}: not a Node binary`);
    const suffix = index === 0 ? '' : `-${index + 1}`;
    for (const variant of VARIANTS) peers.push(ours(node, flags, program, version, variant, suffix));
  }
  return peers;
}

/**
 * This project's proxy with its defaults and so many workers, on the Node that runs the bench.
 * @param {string} program path of the built `dist/cli.js`
 * @param {number} workers
 * @returns {Promise<import('./peer.mjs').Peer>}
 */
export async function oursWith(program, workers) {
  const flags = await shebangFlags(program);
  const variant = { ...DEFAULTS, group: `workers-${workers}`, workers };
  return ours(process.execPath, flags, program, process.versions.node, variant, '');
}

/**
 * The flags that the program asks Node for in its first line: it is measured as its users run it.
 * @param {string} program
 */
async function shebangFlags(program) {
  const [first = ''] = (await readFile(program, 'utf8')).split('\n', 1);
  return first.split(' ').filter((word) => word.startsWith('--'));
}

/**
 * @param {string} node
 * @param {readonly string[]} flags
 * @param {string} program
 * @param {string} version
 * @param {Variant} variant
 * @param {string} suffix of the id
 * @returns {import('./peer.mjs').Peer}
 */
function ours(node, flags, program, version, variant, suffix) {
  const { group, inspect, logging, workers, listener } = variant;
  return {
    suffix,
    id: `${group}${suffix}`,
    group,
    title: `${group} (node ${version})`,
    version: `node ${version}`,
    relaysBytes: true,
    start: ({ directory, listenPort, backendPort, files }) => ({
      command: node,
      args: [...flags, program, 'serve', '--config', `${directory}/config.yaml`],
      files: {
        'config.yaml': stringify({
          tls: {
            certificate_path: files.cert,
            key_path: files.key,
            ...(listener ? { client_auth: 'require', client_ca_path: files.cert } : { client_auth: 'none' }),
          },
          listeners: [
            {
              listen: `tls://127.0.0.1:${listenPort}`,
              forward: `tcp://127.0.0.1:${backendPort}`,
              inspect,
              ...listener,
            },
          ],
          logging: { ...logging, format: 'json' },
          workers,
          max_connections: 20_000,
        }),
        [TOKEN_FILE]: 'bench',
      },
    }),
  };
}
