import { access } from 'node:fs/promises';
import { findProgram, versionOf } from './peer.mjs';

/** Where Debian, Alpine and nginx's own packages put the stream module. */
const MODULES = ['/usr/lib/nginx/modules/ngx_stream_module.so', '/etc/nginx/modules/ngx_stream_module.so'];

/**
 * NGINX's stream module: the cheapest TLS tunnel that we know. Everything not written here is its default.
 * @returns {Promise<import('./peer.mjs').Peer[]>}
 */
export async function nginxPeers() {
  const command = await findProgram('nginx');
  const module = await firstReadable(MODULES);
  if (command === undefined || module === undefined) return [];
  const version = await versionOf(command, ['-v'], /nginx\/(\S+)/);
  return [
    {
      id: 'nginx',
      group: 'nginx',
      title: 'nginx stream',
      version: `nginx ${version}`,
      relaysBytes: true,
      start: ({ directory, listenPort, backendPort, files }) => ({
        command,
        args: ['-p', directory, '-c', `${directory}/nginx.conf`, '-e', `${directory}/error.log`],
        files: {
          'nginx.conf': `
daemon off;
${process.getuid?.() === 0 ? 'user root;' : ''}
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${directory}/nginx.pid;
error_log ${directory}/error.log crit;
load_module ${module};
events { worker_connections 20000; }
stream {
  server {
    listen 127.0.0.1:${listenPort} ssl backlog=4096;
    ssl_certificate ${files.cert};
    ssl_certificate_key ${files.key};
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    ssl_alpn h2;
    proxy_timeout 6h;
    proxy_pass 127.0.0.1:${backendPort};
  }
}
`,
        },
      }),
    },
  ];
}

/** @param {string[]} paths */
async function firstReadable(paths) {
  for (const path of paths) {
    try {
      await access(path);
      return path;
    } catch {
      // The next one.
    }
  }
  return undefined;
}
