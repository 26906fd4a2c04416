import { parseAddress } from '../../config/address.js';
import { formatHostPort } from '../../config/host-port.js';
import type { Address, NetworkAddress } from '../../config/model.js';
import type { FoundUpstream } from './found.js';
import {
  CONFIGURATION_FILE,
  RECONFIGURE,
  type ImportPlan,
  type PlannedListener,
  type ImportStep,
} from './import-plan.js';
import { isLoopback, USUAL_PORTS } from './server-addresses.js';
import type { Unread } from './setting.js';

/** The client next to which the proxy runs. */
export type ClientRole = 'rails' | 'praefect';

interface Pair {
  readonly name: string;
  readonly socket: string;
  readonly address: NetworkAddress;
}

/** The names and settings of a client. */
interface ClientNames {
  readonly who: string;
  readonly nodes: string;
  /** The reason why the Gitaly nodes need the sockets too. */
  readonly passesOn: string;
  readonly upstream: string;
  readonly setting: (name: string, address: string) => readonly string[];
  readonly check: string;
}

const NAMES: Readonly<Record<ClientRole, ClientNames>> = {
  rails: {
    who: 'Rails',
    nodes: 'each node with clients (Rails, Sidekiq, gitlab-shell) and the Gitaly nodes',
    passesOn: 'Rails passes its gitaly_address on to gitlab-shell, and to Gitaly nodes that call each other',
    upstream: 'storage',
    setting: (name, address) => [
      `${ruby(name)} => { 'gitaly_address' => ${ruby(address)} },      # gitlab_rails['repositories_storages']`,
      `${quoted(name)}: { gitaly_address: ${quoted(address)} }      # or gitlab.yml, without Omnibus, then restart Rails`,
    ],
    check: 'gitlab-rake gitlab:gitaly:check',
  },
  praefect: {
    who: 'Praefect',
    nodes: 'each Praefect node, and the Gitaly nodes',
    passesOn: 'Praefect passes these addresses on to Gitaly nodes that replicate from each other',
    upstream: 'node',
    setting: (name, address) => [`{ storage: ${ruby(name)}, address: ${ruby(address)}, token: … }`],
    check: 'praefect -config /var/opt/gitlab/praefect/config.toml dial-nodes',
  },
};

/** Checks that the sockets lead to Gitaly. */
const CHECK = `gitaly-tls-proxy check --through ${CONFIGURATION_FILE}`;

/** Plans the proxy on a node of Gitaly's clients, which connect to it in place of Gitaly: `unix:` → `tls://`. */
export function planClients(
  role: ClientRole,
  upstreams: readonly FoundUpstream[],
  {
    socketDirectory,
    tlsPorts,
  }: { readonly socketDirectory: string; readonly tlsPorts: ReadonlyMap<number, number> },
): ImportPlan | undefined {
  const names = NAMES[role];
  const overTls = ({ host, port }: NetworkAddress): string =>
    `tls://${formatHostPort({ host, port: tlsPorts.get(port) ?? USUAL_PORTS.gitaly.tls })}`;
  const unread: Unread[] = [];
  const pairs: Pair[] = [];
  const sockets = new Set<string>();
  for (const upstream of upstreams) {
    const address = addressOf(upstream);
    if (address.kind === 'unread') {
      unread.push({ key: upstream.key, line: upstream.line, reason: address.reason });
      continue;
    }
    const socket = socketFor(upstream.name, socketDirectory, sockets);
    const listen = parseAddress(socket, 'listen');
    if (listen.ok) pairs.push({ name: upstream.name, socket: listen.value.url, address: address.value });
    else
      unread.push({
        key: upstream.key,
        line: upstream.line,
        reason: `it would need a socket: ${listen.message}`,
      });
  }
  if (pairs.length === 0 && unread.length === 0) return undefined;
  return {
    heading: `On the nodes with ${names.who}: the proxy of the clients, which presents a certificate to Gitaly`,
    steps: pairs.length === 0 ? [] : steps(names, pairs, { socketDirectory, overTls }),
    listeners: pairs.map((pair) => listener(names, pair, overTls)),
    unread,
    warnings: [],
    server: undefined,
  };
}

function addressOf({
  address,
}: FoundUpstream):
  | { readonly kind: 'read'; readonly value: NetworkAddress }
  | { readonly kind: 'unread'; readonly reason: string } {
  const read = parseAddress(address, 'forward');
  // The value is not quoted, because it may contain a secret.
  if (!read.ok)
    return {
      kind: 'unread',
      reason: /^dns(?:\+tls)?:\/\/[^/]/iu.test(address)
        ? 'it names a DNS server, which the proxy cannot choose: write dns:host:port or dns+tls:host:port, with a name that the system resolves'
        : 'expected tls://host:port, tcp://host:port, dns:host:port, dns+tls:host:port or unix:/path',
    };
  const { value }: { value: Address } = read;
  switch (value.scheme) {
    case 'tls':
      return { kind: 'read', value };
    case 'tcp':
      return isLoopback(value)
        ? { kind: 'unread', reason: 'plaintext on loopback stays on the same machine and needs no proxy' }
        : { kind: 'read', value };
    case 'unix':
      return { kind: 'unread', reason: 'a unix socket is on the same machine and needs no proxy' };
    case 'https':
    case 'http':
      return { kind: 'unread', reason: 'Gitaly does not speak HTTP/1.1' };
  }
}

function listener(
  { upstream }: ClientNames,
  { name, socket, address }: Pair,
  overTls: (address: NetworkAddress) => string,
): PlannedListener {
  return {
    comments: [
      address.scheme === 'tls'
        ? `${upstream} ${quoted(name)}`
        : `${upstream} ${quoted(name)}, still in plaintext: in the step "From plaintext to TLS", forward becomes ${overTls(address)}`,
    ],
    listen: socket,
    forward: address.url,
    tls: undefined,
    commentedOut: [
      'upstream_tls:',
      "  ca_path: /etc/gitlab/trusted-certs      # if the CA is not in the system's trust store",
      '  certificate_path: /etc/gitlab/ssl/gitaly-client.pem',
      '  key_path: /etc/gitlab/ssl/gitaly-client.key',
    ],
  };
}

function steps(
  names: ClientNames,
  pairs: readonly Pair[],
  {
    socketDirectory,
    overTls,
  }: { readonly socketDirectory: string; readonly overTls: (address: NetworkAddress) => string },
): ImportStep[] {
  const plaintext = pairs.filter(({ address }) => address.scheme === 'tcp');
  return [
    {
      text: `On ${names.nodes}: save this as ${CONFIGURATION_FILE}, or add its listeners to the file of a proxy that already runs there. All of them need the sockets before the first address changes: ${names.passesOn}.`,
      lines: [
        `install -d -o git -g git ${socketDirectory}      # packaging/gitaly-tls-proxy.service creates the one in /run`,
        `gitaly-tls-proxy configuration validate ${CONFIGURATION_FILE}`,
        'systemctl enable --now gitaly-tls-proxy',
      ],
    },
    {
      text:
        "On the same nodes: uncomment upstream_tls if the CA of the server certificate is not in the system's trust store, or " +
        'if the proxy is to present a client certificate. It is valid only with a forward to tls://. Then check that each socket leads to its Gitaly.',
      lines: ['systemctl reload gitaly-tls-proxy', CHECK],
    },
    {
      text: `On the nodes with ${names.who}, one after another, ${RECONFIGURE}:`,
      lines: [...pairs.flatMap(({ name, socket }) => names.setting(name, socket)), names.check],
    },
    ...(plaintext.length === 0
      ? []
      : [
          {
            text:
              'From plaintext to TLS, if forward is tcp://: import the configuration of that Gitaly or Praefect on its node, and ' +
              'follow the steps there until its tls:// listener is served. Then change forward to the TLS address on each node ' +
              'that has this file. The clients need no further change.',
            lines: [
              ...plaintext.map(({ address }) => `forward: ${overTls(address)}`),
              'systemctl reload gitaly-tls-proxy',
              CHECK,
            ],
          },
        ]),
    {
      text:
        'On the Gitaly nodes, to refuse clients without a certificate: set client_auth: optional with client_ca_path, and ' +
        'client_auth: require when this counter no longer grows.',
      lines: ['gitaly_tls_proxy_tls_client_certificates_total{result="absent"}'],
    },
  ];
}

/** A unique socket for each name, whatever characters it contains. */
function socketFor(name: string, directory: string, taken: Set<string>): string {
  const stem = `unix:${directory}/${name.replaceAll(/[^\w.-]/gu, '_')}`;
  let socket = `${stem}.socket`;
  for (let number = 2; taken.has(socket); number += 1) socket = `${stem}-${number}.socket`;
  taken.add(socket);
  return socket;
}

/** A string of Ruby. */
function ruby(text: string): string {
  return `'${text.replaceAll(/[\\']/gu, (character) => `\\${character}`)}'`;
}

function quoted(name: string): string {
  return JSON.stringify(name);
}
