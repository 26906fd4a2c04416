import { formatHostPort } from '../../config/host-port.js';
import type { HostPort } from '../../config/model.js';
import {
  CONFIGURATION_FILE,
  RECONFIGURE,
  TRUSTED_BY_GITLAB,
  type PlannedTls,
  type ImportStep,
} from './import-plan.js';
import { isWildcard, listenUrl, type ServerAddresses } from './server-addresses.js';

/** The names of a server and its settings. */
export interface ServerNames {
  readonly server: 'Gitaly' | 'Praefect';
  /** The hash of its settings in `gitlab.rb`. */
  readonly omnibus: string;
  /** Its own counter of connections. */
  readonly counter: string;
  /** The nodes that connect to it. */
  readonly clients: string;
}

/** The time in which the copy must drain, as in packaging/gitaly-tls-proxy.service. */
const STOP_SECONDS = 610;

/** Stands for the node's name in the addresses of its clients. */
const HOST = 'HOST';

/** The sed expression that removes all listeners except those with TLS. */
const ONLY_TLS = String.raw`-e '/^  - listen: \(tcp\|unix\):/,+1d'`;

/**
 * The steps from a server that terminates TLS itself to the proxy. Clients move to a second port, one after another; the
 * proxy takes over the server's port while no client uses it.
 */
export function takeOverSteps(
  names: ServerNames,
  addresses: ServerAddresses,
  prometheus: HostPort,
  plainIsUnknown: boolean,
): ImportStep[] {
  const { server } = names;
  const { tls, openPlain, newListenAddr, interimPort } = addresses;
  const copy = CONFIGURATION_FILE.replace('.yaml', `-${interimPort}.yaml`);
  const unit = `gitaly-tls-proxy-${interimPort}`;
  return [
    ...(openPlain === undefined
      ? []
      : [
          {
            text:
              `Clients that still use plaintext (tcp://${hostOf(openPlain)}:${openPlain.port}): move them to ${server}'s own ` +
              `tls://${hostOf(tls)}:${tls.port}, one node after another, as GitLab documents it. Continue when all have moved: on ` +
              `the ${server} node, the counter of the first command no longer grows, and the second command prints no connection from another node.`,
            lines: [
              `curl -s http://${formatHostPort(addresses.ownMetrics)}/metrics | grep '^${names.counter}{type="tcp"}'`,
              `ss -Htn state established '( sport = :${openPlain.port} )'`,
            ],
          },
        ]),
    ...(newListenAddr === undefined
      ? []
      : [
          {
            text:
              `On the ${server} node: let ${server} listen on loopback, and leave tls_listen_addr and tls as they are. ` +
              graceful(server),
            lines: setting(names, 'listen_addr', formatHostPort(newListenAddr)),
          },
        ]),
    ...(plainIsUnknown
      ? [
          {
            text: `On the ${server} node: make sure that ${server} has a listen_addr on loopback, and that forward contains it.`,
          },
        ]
      : []),
    {
      text:
        `On the ${server} node: save this as ${CONFIGURATION_FILE}, and run a copy that listens on port ${interimPort}, because ` +
        `${server} still uses ${tls.port}. Open port ${interimPort} in all firewalls in which ${tls.port} is open for clients.`,
      lines: [
        `sed -e '${toPort(tls.port, interimPort)}' ${ONLY_TLS} \\`,
        `  -e 's|^prometheus_listen_addr: .*|prometheus_listen_addr: "${nextTo(prometheus)}"|' \\`,
        `  ${CONFIGURATION_FILE} > ${copy}`,
        `gitaly-tls-proxy configuration validate ${copy}`,
        `systemd-run --unit ${unit} -p User=git -p LimitNOFILE=65536 -p TimeoutStopSec=${STOP_SECONDS} \\`,
        `  gitaly-tls-proxy serve --config ${copy}`,
        checkThrough(copy),
      ],
    },
    {
      text:
        `On each node with clients (${names.clients}): check that it reaches the copy and ` +
        `trusts its certificate. ${HOST} is the host name in their addresses. ${EXPECTED_OUTPUT}`,
      lines: clientChecks(interimPort),
    },
    {
      text: `${clients(server)}, one node after another: port ${interimPort} in place of ${tls.port}, ${RECONFIGURE}. Nodes that have not moved are not affected.`,
      lines: [`tls://${HOST}:${tls.port}   becomes   tls://${HOST}:${interimPort}`],
    },
    {
      text: `On the ${server} node: wait until no client is connected to ${server}'s own port. This command then prints nothing:`,
      lines: [`ss -Htn state established '( sport = :${tls.port} )'`],
    },
    {
      text:
        `On the ${server} node: remove tls_listen_addr from ${server}'s configuration` +
        (server === 'Gitaly'
          ? ", and also tls, unless GitLab's internal API requires a client certificate: Gitaly presents that of tls"
          : ', and also tls') +
        `. No client uses that port any more. ${graceful(server)}`,
      lines: [
        `# ${names.omnibus} in /etc/gitlab/gitlab.rb, then gitlab-ctl reconfigure; or config.toml, then SIGHUP`,
        `ss -Htln '( sport = :${tls.port} )'      # prints nothing when the port is free`,
      ],
    },
    {
      text: `On the ${server} node: start the proxy itself, which listens on port ${tls.port}. If gitaly-tls-proxy.socket is installed, it must contain the same addresses.`,
      lines: ['systemctl enable --now gitaly-tls-proxy', checkThrough(CONFIGURATION_FILE)],
    },
    {
      text: `${clients(server)}, one node after another: back to port ${tls.port}, ${RECONFIGURE}. Then, on the ${server} node, stop the copy as soon as the first command prints nothing.`,
      lines: [
        `ss -Htn state established '( sport = :${interimPort} )'`,
        `systemctl stop ${unit} && rm ${copy}`,
      ],
    },
    ...(openPlain === undefined ? [] : [lastPlaintext(openPlain)]),
  ];
}

/** The steps from plaintext to TLS: clients move one after another, while the server keeps its address. */
export function firstTlsSteps(names: ServerNames, addresses: ServerAddresses, tls: PlannedTls): ImportStep[] {
  const { server } = names;
  const { openPlain, newListenAddr, forward } = addresses;
  const { port } = addresses.tls;
  const takesPlaintext = openPlain !== undefined && forward.startsWith('unix:');
  return [
    {
      text:
        `On the ${server} node: install a certificate and its key at these paths, readable by git. The certificate must contain ` +
        "the node's name in the addresses of clients as a subject alternative name.",
      lines: [tls.certificatePath, tls.keyPath],
    },
    {
      text:
        `On the ${server} node: save this as ${CONFIGURATION_FILE}` +
        (takesPlaintext ? ', for now without the plaintext listener (IMPORTED.yaml is this file)' : '') +
        `, and start the proxy. Leave ${server} unchanged.`,
      lines: [
        ...(takesPlaintext ? [`sed -e '/^  - listen: tcp:/,+1d' IMPORTED.yaml > ${CONFIGURATION_FILE}`] : []),
        `gitaly-tls-proxy configuration validate ${CONFIGURATION_FILE}`,
        'systemctl enable --now gitaly-tls-proxy',
      ],
    },
    {
      text: `On each client node of ${server} (${names.clients}): install the CA of the certificate in the trust store. ${EXPECTED_OUTPUT}`,
      lines: [
        'cp ca.pem /etc/gitlab/trusted-certs/ && gitlab-ctl reconfigure      # without Omnibus: the system store',
        ...clientChecks(port),
      ],
    },
    {
      text: `${clients(server)}, one node after another, ${RECONFIGURE}:`,
      lines: [
        openPlain === undefined
          ? `tls://${HOST}:${port}      # for clients on other nodes; those on this node need no change`
          : `tcp://${HOST}:${openPlain.port}   becomes   tls://${HOST}:${port}`,
        'gitlab-rake gitlab:gitaly:check',
      ],
    },
    ...(openPlain === undefined
      ? []
      : [
          {
            text: `On the ${server} node: wait until no client on another node uses the plaintext address. This command then prints no connection from another node:`,
            lines: [`ss -Htn state established '( sport = :${openPlain.port} )'`],
          },
        ]),
    ...(openPlain !== undefined && newListenAddr !== undefined
      ? [
          {
            text: `On the ${server} node: let ${server} listen on loopback only. ${graceful(server)}`,
            lines: setting(names, 'listen_addr', formatHostPort(newListenAddr)),
          },
          {
            text: 'On the same node: add the plaintext listener, which has the previous address, for clients that were forgotten.',
            lines: [`cp IMPORTED.yaml ${CONFIGURATION_FILE} && systemctl reload gitaly-tls-proxy`],
          },
          lastPlaintext(openPlain),
        ]
      : []),
    ...(openPlain !== undefined && newListenAddr === undefined
      ? [
          {
            text:
              `In the firewall of the ${server} node: close port ${openPlain.port} to other nodes. To let ${server} listen on loopback ` +
              'only, set its socket_path first, then import its configuration again: the proxy uses the socket while listen_addr changes.',
          },
        ]
      : []),
  ];
}

/** The expected output of `clientChecks`. */
const EXPECTED_OUTPUT =
  'openssl must print "ALPN protocol: h2" and "Verify return code: 0". If gitaly-tls-proxy is installed there, check prints ' +
  `each cause with its fix. Without Omnibus, use /etc/ssl/certs in place of ${TRUSTED_BY_GITLAB}.`;

/** Commands that check that clients reach the TLS port and trust its certificate. */
function clientChecks(port: number): string[] {
  return [
    `openssl s_client -connect ${HOST}:${port} -servername ${HOST} -alpn h2 -CApath ${TRUSTED_BY_GITLAB} </dev/null`,
    `gitaly-tls-proxy check tls://${HOST}:${port} --ca ${TRUSTED_BY_GITLAB}`,
  ];
}

/** A command that checks all listeners and forwards of a configuration. */
function checkThrough(file: string): string {
  return `gitaly-tls-proxy check --through ${file} --ca ${TRUSTED_BY_GITLAB}`;
}

function lastPlaintext(openPlain: HostPort): ImportStep {
  return {
    text:
      'When these Prometheus queries have returned 0 or nothing for a day: remove the plaintext listener from the file. Its open ' +
      'connections are drained. The log of the proxy contains its clients.',
    lines: [
      `sum(increase(gitaly_tls_proxy_connections_total{listener="${listenUrl('tcp', openPlain)}",protocol!="unknown"}[1d]))`,
      `sum(gitaly_tls_proxy_connections_active{listener="${listenUrl('tcp', openPlain)}"})`,
      'systemctl reload gitaly-tls-proxy',
    ],
  };
}

function clients(server: ServerNames['server']): string {
  const rails = 'On the Rails and Sidekiq nodes, in gitaly_address of the storages of this';
  return server === 'Praefect'
    ? `${rails} Praefect`
    : `${rails} Gitaly, or on the Praefect nodes, in its address (which they pass on to gitlab-shell and other Gitaly nodes)`;
}

function graceful(server: ServerNames['server']): string {
  return `${server} switches without downtime on SIGHUP to its wrapper, which reconfigure sends; without Omnibus, send it yourself. A restart would interrupt service.`;
}

/** A setting in both languages, each with its file. */
function setting({ omnibus }: ServerNames, name: string, value: string): string[] {
  return [
    `${name}: '${value}',      # ${omnibus} in /etc/gitlab/gitlab.rb, then gitlab-ctl reconfigure`,
    `${name} = "${value}"      # or config.toml, without Omnibus, then SIGHUP to gitaly-wrapper`,
  ];
}

function hostOf(address: HostPort): string {
  return isWildcard(address) ? HOST : formatHostPort(address).replace(/:\d+$/u, '');
}

/** The sed expression that changes the port of the TLS listener. */
function toPort(from: number, to: number): string {
  return String.raw`s|^\(  - listen: tls://.*\):${from}$|\1:${to}|`;
}

/** The same address with the next port, for a second process. */
function nextTo(address: HostPort): string {
  return formatHostPort({ ...address, port: address.port === 65_535 ? 10_000 : address.port + 1 });
}
