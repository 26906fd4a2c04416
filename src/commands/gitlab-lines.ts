import { basename } from 'node:path';

import type { Created, CreatedCertificate } from './certificates/create.js';
import type { SubjectName } from './certificates/subject-name.js';
import { shellWord } from './completion/shell-word.js';

/** Omnibus GitLab's directories for its own certificates and for those that it trusts. */
const SSL = '/etc/gitlab/ssl';
const TRUSTED = '/etc/gitlab/trusted-certs';

/**
 * Lists the created files and the lines of `gitlab.rb` that use them. The output is valid Ruby: everything else that
 * is to be done is a comment.
 */
export function describeCreated(created: Created): string {
  const { authority, certificates } = created;
  const servers = certificates.filter(({ role }) => role === 'server');
  const clients = certificates.filter(({ role }) => role === 'client');
  const isFirst = authority.isNew || certificates.some(({ renewed }) => !renewed);
  const blocks = [listFiles(created)];
  if (isFirst && servers.length > 0) blocks.push(trustLines(created));
  if (servers.length > 0) blocks.push(serverLines(servers));
  if (isFirst && servers.length > 0) blocks.push(useLines(), railsLines(servers));
  if (clients.length > 0) blocks.push(clientLines(clients));
  if (isFirst && clients.length > 0) blocks.push(presentLines(servers[0]), requireLines());
  if (!isFirst) blocks.push(renewalLines());
  return blocks.map((lines) => `${lines.join('\n')}\n`).join('\n');
}

function listFiles({ authority, certificates, notAfter }: Created): string[] {
  const until = (date: Date): string => date.toISOString().slice(0, 10);
  const rows: [string, string][] = [];
  if (authority.isNew) {
    rows.push([
      authority.certificatePath,
      `authority ${JSON.stringify(authority.name)}, until ${until(authority.notAfter)}`,
    ]);
    rows.push([authority.keyPath, 'its private key, which can issue certificates: keep it off the nodes']);
  }
  for (const { role, names, certificatePath, keyPath, renewed } of certificates) {
    const all = names.map(({ value }) => value).join(', ');
    rows.push([
      certificatePath,
      `${role} certificate${renewed ? ', renewed' : ''}: ${all}, until ${until(notAfter)}`,
    ]);
    rows.push([keyPath, 'its private key']);
  }
  const width = Math.max(...rows.map(([path]) => path.length)) + 2;
  return rows.map(([path, what]) => `# ${path.padEnd(width)}${what}`);
}

function trustLines({ authority }: Created): string[] {
  return [
    '# On every client node of Gitaly (Rails, Sidekiq, Praefect, other Gitaly nodes), before you use a certificate:',
    `#   install -m 644 ${shellWord(basename(authority.certificatePath))} ${TRUSTED}/gitaly-ca.pem && gitlab-ctl reconfigure`,
  ];
}

function serverLines(servers: readonly CreatedCertificate[]): string[] {
  return servers.flatMap((server) => [
    `# On the node of ${server.names[0].value}:`,
    ...install(server, 'cert', 'key'),
  ]);
}

function useLines(): string[] {
  return [
    '# There, with gitaly-tls-proxy in front of Gitaly, in its configuration (Gitaly keeps its listen_addr on loopback):',
    '#   tls:',
    `#     certificate_path: ${SSL}/cert.pem`,
    `#     key_path: ${SSL}/key.pem`,
    '#   listeners:',
    '#     - listen: tls://0.0.0.0:9999',
    '#       forward: tcp://127.0.0.1:8075',
    '# or without gitaly-tls-proxy, in /etc/gitlab/gitlab.rb, merged with your settings:',
    "gitaly['configuration'] = {",
    "  tls_listen_addr: '0.0.0.0:9999',",
    '  tls: {',
    `    certificate_path: '${SSL}/cert.pem',`,
    `    key_path: '${SSL}/key.pem',`,
    '  },',
    '}',
  ];
}

function railsLines(servers: readonly CreatedCertificate[]): string[] {
  return [
    '# On the Rails and Sidekiq nodes, in /etc/gitlab/gitlab.rb, with the names of your storages:',
    "gitlab_rails['repositories_storages'] = {",
    ...servers.map((server, index) => {
      const storage = index === 0 ? 'default' : `storage${index + 1}`;
      return `  '${storage}' => { 'gitaly_address' => '${addressOf(server)}' },`;
    }),
    '}',
  ];
}

function clientLines(clients: readonly CreatedCertificate[]): string[] {
  return clients.flatMap((client) => [
    `# On the node of ${client.names[0].value}:`,
    ...install(client, 'client', 'client-key'),
  ]);
}

function presentLines(server: CreatedCertificate | undefined): string[] {
  return [
    '# There, gitaly-tls-proxy presents it; gitaly_address is unix:/run/gitaly-tls-proxy/gitaly.socket:',
    '#   listeners:',
    '#     - listen: unix:/run/gitaly-tls-proxy/gitaly.socket',
    `#       forward: ${server ? addressOf(server) : 'tls://gitaly.internal:9999'}`,
    '#       upstream_tls:',
    `#         ca_path: ${TRUSTED}/gitaly-ca.pem`,
    `#         certificate_path: ${SSL}/client.pem`,
    `#         key_path: ${SSL}/client-key.pem`,
  ];
}

function requireLines(): string[] {
  return [
    '# On the nodes with gitaly-tls-proxy in front of Gitaly, under tls: (`optional` until every client presents one):',
    '#   client_auth: require',
    `#   client_ca_path: ${TRUSTED}/gitaly-ca.pem`,
  ];
}

function renewalLines(): string[] {
  return [
    '# gitaly-tls-proxy applies them within two seconds. A Gitaly that terminates TLS itself must be restarted.',
  ];
}

/** Assumes that the files have been copied to the node under their present names. */
function install(
  { certificatePath, keyPath }: CreatedCertificate,
  certificate: string,
  key: string,
): string[] {
  return [
    `#   install -m 600 -o git ${shellWord(basename(keyPath))} ${SSL}/${key}.pem`,
    `#   install -m 644 ${shellWord(basename(certificatePath))} ${SSL}/${certificate}.pem`,
  ];
}

/** The server's address. A wildcard is replaced by an example of a host name. */
function addressOf({ names }: CreatedCertificate): string {
  const hosts = names.filter(({ kind }) => kind !== 'url');
  const host = hosts.find(({ value }) => !value.startsWith('*.')) ?? hosts[0];
  return `tls://${host === undefined ? 'gitaly.internal' : hostOf(host).replace('*', 'node')}:9999`;
}

function hostOf({ kind, value }: SubjectName): string {
  return kind === 'ip' && value.includes(':') ? `[${value}]` : value;
}
