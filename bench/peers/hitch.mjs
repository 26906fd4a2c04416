import { findProgram, versionOf } from './peer.mjs';

/**
 * Hitch, Varnish's TLS terminator: one worker process and its parent.
 * @returns {Promise<import('./peer.mjs').Peer[]>}
 */
export async function hitchPeers() {
  const command = await findProgram('hitch');
  if (command === undefined) return [];
  return [
    {
      id: 'hitch',
      group: 'hitch',
      title: 'hitch',
      version: await versionOf(command, ['--version'], /(hitch \S+)/),
      relaysBytes: true,
      start: ({ directory, listenPort, backendPort, files }) => ({
        command,
        args: [`--config=${directory}/hitch.conf`],
        files: {
          'hitch.conf': `
frontend = { host = "127.0.0.1" port = "${listenPort}" }
backend = "[127.0.0.1]:${backendPort}"
pem-file = "${files.both}"
workers = 1
${process.getuid?.() === 0 ? 'user = "nobody"' : ''}
backlog = 4096
daemon = off
log-level = 0
log-filename = "${directory}/hitch.log"
ocsp-dir = ""
alpn-protos = "h2"
tls-protos = TLSv1.3
ciphersuites = "TLS_AES_128_GCM_SHA256"
`,
        },
      }),
    },
  ];
}
