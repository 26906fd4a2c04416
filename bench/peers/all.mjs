import { envoyPeers } from './envoy.mjs';
import { haproxyPeers } from './haproxy.mjs';
import { hitchPeers } from './hitch.mjs';
import { nginxPeers } from './nginx.mjs';
import { OUR_GROUPS, ourPeers } from './ours.mjs';
import { stunnelPeers } from './stunnel.mjs';

/** The values of `--only`: ids and groups. `direct` measures the load without a proxy. */
export const PEER_NAMES = [
  ...['direct', 'nginx', 'haproxy', 'haproxy-tcp', 'haproxy-h2', 'hitch', 'stunnel'],
  ...['envoy', 'envoy-tcp', 'envoy-h2', ...OUR_GROUPS],
];

/**
 * The installed and selected peers, in the order of the report.
 * @param {(peer: { id: string, group: string }) => boolean} wanted
 * @param {string[]} nodes
 * @param {string} program
 * @returns {Promise<import('./peer.mjs').Peer[]>}
 */
export async function installedPeers(wanted, nodes, program) {
  const peers = [
    ...(await nginxPeers()),
    ...(await haproxyPeers()),
    ...(await hitchPeers()),
    ...(await stunnelPeers()),
    ...(await envoyPeers()),
    ...(await ourPeers(nodes, program)),
  ];
  return peers.filter(wanted);
}
