import { findProgram, versionOf } from './peer.mjs';

/**
 * HAProxy as a TCP relay and as an HTTP/2 proxy, one thread each.
 * @returns {Promise<import('./peer.mjs').Peer[]>}
 */
export async function haproxyPeers() {
  const command = await findProgram('haproxy');
  if (command === undefined) return [];
  const version = `haproxy ${await versionOf(command, ['-v'], /version (\S+)/i)}`;
  /** @type {(mode: 'tcp' | 'http', server: string) => import('./peer.mjs').Peer['start']} */
  const start =
    (mode, server) =>
    ({ directory, listenPort, backendPort, files }) => ({
      command,
      args: ['-db', '-f', `${directory}/haproxy.cfg`],
      files: {
        'haproxy.cfg': `
global
  nbthread 1
  maxconn 9900
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
defaults
  mode ${mode}
  timeout connect 5s
  timeout client 6h
  timeout server 6h
frontend tls
  bind 127.0.0.1:${listenPort} ssl crt ${files.both} alpn h2
  default_backend gitaly
backend gitaly
  server gitaly 127.0.0.1:${backendPort} ${server}
`,
      },
    });
  return [
    {
      id: 'haproxy-tcp',
      group: 'haproxy',
      title: 'haproxy tcp',
      version,
      relaysBytes: true,
      start: start('tcp', ''),
    },
    {
      id: 'haproxy-h2',
      group: 'haproxy',
      title: 'haproxy h2',
      version,
      relaysBytes: false,
      start: start('http', 'proto h2'),
    },
  ];
}
