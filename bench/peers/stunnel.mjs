import { findProgram, versionOf } from './peer.mjs';

/**
 * stunnel: one process with a thread a connection, so its CPU may exceed one core; it has no setting for ALPN.
 * @returns {Promise<import('./peer.mjs').Peer[]>}
 */
export async function stunnelPeers() {
  const command = (await findProgram('stunnel4')) ?? (await findProgram('stunnel'));
  if (command === undefined) return [];
  return [
    {
      id: 'stunnel',
      group: 'stunnel',
      title: 'stunnel',
      version: await versionOf(command, ['-version'], /(stunnel \S+)/),
      relaysBytes: true,
      start: ({ directory, listenPort, backendPort, files }) => ({
        command,
        args: [`${directory}/stunnel.conf`],
        files: {
          'stunnel.conf': `
foreground = yes
pid =
debug = err
output = ${directory}/stunnel.log
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[gitaly]
accept = 127.0.0.1:${listenPort}
connect = 127.0.0.1:${backendPort}
cert = ${files.cert}
key = ${files.key}
sslVersionMin = TLSv1.3
ciphersuites = TLS_AES_128_GCM_SHA256
`,
        },
      }),
    },
  ];
}
