import { readFile } from 'node:fs/promises';

import { stringify } from 'yaml';
import { UsageError } from '../usage-error.mjs';
import { versionOf } from './peer.mjs';

/**
 * This project's proxy, twice for each Node binary: as a tunnel, and with its calls followed.
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
    for (const group of ['ours', 'inspected']) peers.push(ours(node, flags, program, version, group, suffix));
  }
  return peers;
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
 * @param {string} group `ours` or `inspected`
 * @param {string} suffix of the id
 * @returns {import('./peer.mjs').Peer}
 */
function ours(node, flags, program, version, group, suffix) {
  return {
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
          tls: { certificate_path: files.cert, key_path: files.key, client_auth: 'none' },
          listeners: [
            {
              listen: `tls://127.0.0.1:${listenPort}`,
              forward: `tcp://127.0.0.1:${backendPort}`,
              inspect: group === 'inspected',
            },
          ],
          logging: { level: 'warn', format: 'json' },
        }),
      },
    }),
  };
}
