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

/** How a server is called where it is configured. */
export interface ServerNames {
  readonly server: 'Gitaly' | 'Praefect';
  /** The hash of `gitlab.rb` that holds its settings. */
  readonly omnibus: string;
  /** Its own counter of connections. */
  readonly counter: string;
  /** Who dials it. */
  readonly clients: string;
}

/** How long systemd waits for the copy to drain, as in packaging/gitaly-tls-proxy.service. */
const STOP_SECONDS = 610;

/** The node as its clients call it. */
const HOST = 'HOST';

/** The lines of sed that leave out all listeners but those of TLS. */
const ONLY_TLS = String.raw`-e '/^  - listen: \(tcp\|unix\):/,+1d'`;

/**
 * From a server that does TLS by itself to the proxy. The server's port passes to the proxy while nobody uses it: clients
 * go by a second port meanwhile, one after another.
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
              `the ${server} node, the number of the first command no longer grows, and the second prints no connection from another node.`,
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
            text: `On the ${server} node: see that ${server} has a listen_addr on loopback, the one that forward names.`,
          },
        ]
      : []),
    {
      text:
        `On the ${server} node: save this as ${CONFIGURATION_FILE}, and run a copy that listens on port ${interimPort}, as ` +
        `${server} has ${tls.port} still. Open port ${interimPort} in firewalls that let clients reach ${tls.port}.`,
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
        `On each node with clients, ${names.clients}: see that the copy is reached and ` +
        `trusted. ${HOST} is what stands in their addresses. ${VERDICT}`,
      lines: reached(interimPort),
    },
    {
      text: `${clients(server)}, one node after another: port ${interimPort} in place of ${tls.port}, ${RECONFIGURE}. Those that have not moved go on as before.`,
      lines: [`tls://${HOST}:${tls.port}   becomes   tls://${HOST}:${interimPort}`],
    },
    {
      text: `On the ${server} node: wait until nobody is on ${server}'s own port any more. This prints nothing then:`,
      lines: [`ss -Htn state established '( sport = :${tls.port} )'`],
    },
    {
      text:
        `On the ${server} node: take tls_listen_addr out of ${server}'s configuration` +
        (server === 'Gitaly'
          ? ', and tls with it, unless GitLab wants to see the certificate: Gitaly presents that of tls to its internal API'
          : ', and tls with it') +
        `. Nobody is there who could notice. ${graceful(server)}`,
      lines: [
        `# ${names.omnibus} in /etc/gitlab/gitlab.rb, then gitlab-ctl reconfigure; or config.toml, then SIGHUP`,
        `ss -Htln '( sport = :${tls.port} )'      # prints nothing when the port is free`,
      ],
    },
    {
      text: `On the ${server} node: start the proxy itself, which takes port ${tls.port}. gitaly-tls-proxy.socket, where it is installed, has to name the same addresses.`,
      lines: ['systemctl enable --now gitaly-tls-proxy', checkThrough(CONFIGURATION_FILE)],
    },
    {
      text: `${clients(server)}, one node after another: back to port ${tls.port}, ${RECONFIGURE}. Then, on the ${server} node, when the first command prints nobody any more, end the copy.`,
      lines: [
        `ss -Htn state established '( sport = :${interimPort} )'`,
        `systemctl stop ${unit} && rm ${copy}`,
      ],
    },
    ...(openPlain === undefined ? [] : [lastPlaintext(openPlain)]),
  ];
}

/** From plaintext to TLS: clients move one after another, while the server goes on listening where it does. */
export function firstTlsSteps(names: ServerNames, addresses: ServerAddresses, tls: PlannedTls): ImportStep[] {
  const { server } = names;
  const { openPlain, newListenAddr, forward } = addresses;
  const { port } = addresses.tls;
  const takesPlaintext = openPlain !== undefined && forward.startsWith('unix:');
  return [
    {
      text:
        `On the ${server} node: put a certificate and its key there, readable by git. The name by which clients call this ` +
        'node must be in it as Subject Alternative Name.',
      lines: [tls.certificatePath, tls.keyPath],
    },
    {
      text:
        `On the ${server} node: save this as ${CONFIGURATION_FILE}` +
        (takesPlaintext ? ', for now without the listener for plaintext (IMPORTED.yaml is this file)' : '') +
        `, and start the proxy. ${server} stays as it is.`,
      lines: [
        ...(takesPlaintext ? [`sed -e '/^  - listen: tcp:/,+1d' IMPORTED.yaml > ${CONFIGURATION_FILE}`] : []),
        `gitaly-tls-proxy configuration validate ${CONFIGURATION_FILE}`,
        'systemctl enable --now gitaly-tls-proxy',
      ],
    },
    {
      text: `On each node that dials ${server}, ${names.clients}: put the certificate's authority into the trust store. ${VERDICT}`,
      lines: [
        'cp ca.pem /etc/gitlab/trusted-certs/ && gitlab-ctl reconfigure      # without Omnibus: the store of the system',
        ...reached(port),
      ],
    },
    {
      text: `${clients(server)}, one node after another, ${RECONFIGURE}:`,
      lines: [
        openPlain === undefined
          ? `tls://${HOST}:${port}      # where clients are on other nodes; those on this one may stay`
          : `tcp://${HOST}:${openPlain.port}   becomes   tls://${HOST}:${port}`,
        'gitlab-rake gitlab:gitaly:check',
      ],
    },
    ...(openPlain === undefined
      ? []
      : [
          {
            text: `On the ${server} node: wait until nobody comes to the plaintext address from another node. This prints nobody from elsewhere then:`,
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
            text: 'On the same node: put the listener for plaintext back, which has the address of before, for a client that was forgotten.',
            lines: [`cp IMPORTED.yaml ${CONFIGURATION_FILE} && systemctl reload gitaly-tls-proxy`],
          },
          lastPlaintext(openPlain),
        ]
      : []),
    ...(openPlain !== undefined && newListenAddr === undefined
      ? [
          {
            text:
              `In the firewall of the ${server} node: close port ${openPlain.port} to other nodes. To have ${server} on loopback ` +
              'only, give it a socket_path first, then import its configuration again: by its socket it is reached while its listen_addr changes.',
          },
        ]
      : []),
  ];
}

/** What the lines of `reached` say when all is well. */
const VERDICT =
  'openssl must say "ALPN protocol: h2" and "Verify return code: 0"; check says each cause and its cure, where gitaly-tls-proxy ' +
  `is installed. Without Omnibus, /etc/ssl/certs stands for ${TRUSTED_BY_GITLAB}.`;

/** Whether clients reach TLS there, and trust it. */
function reached(port: number): string[] {
  return [
    `openssl s_client -connect ${HOST}:${port} -servername ${HOST} -alpn h2 -CApath ${TRUSTED_BY_GITLAB} </dev/null`,
    `gitaly-tls-proxy check tls://${HOST}:${port} --ca ${TRUSTED_BY_GITLAB}`,
  ];
}

/** Whether a proxy serves what its configuration says. */
function checkThrough(file: string): string {
  return `gitaly-tls-proxy check --through ${file} --ca ${TRUSTED_BY_GITLAB}`;
}

function lastPlaintext(openPlain: HostPort): ImportStep {
  return {
    text:
      'When these queries of Prometheus have shown 0 or nothing for a day: remove the listener for plaintext from the file. Its open ' +
      'connections are drained. The log of the proxy names its clients.',
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
    : `${rails} Gitaly, or on the Praefect nodes, in its address (gitlab-shell and other Gitalys are told it by these)`;
}

function graceful(server: ServerNames['server']): string {
  return `${server} changes over without a gap: reconfigure sends SIGHUP to its wrapper, which is what to send elsewhere; a restart would leave a gap.`;
}

/** A setting in both languages, each said where. */
function setting({ omnibus }: ServerNames, name: string, value: string): string[] {
  return [
    `${name}: '${value}',      # ${omnibus} in /etc/gitlab/gitlab.rb, then gitlab-ctl reconfigure`,
    `${name} = "${value}"      # or config.toml, without Omnibus, then SIGHUP to gitaly-wrapper`,
  ];
}

function hostOf(address: HostPort): string {
  return isWildcard(address) ? HOST : formatHostPort(address).replace(/:\d+$/u, '');
}

/** What makes sed change the port of the listener of TLS. */
function toPort(from: number, to: number): string {
  return String.raw`s|^\(  - listen: tls://.*\):${from}$|\1:${to}|`;
}

/** The same address on the next port, for a second process. */
function nextTo(address: HostPort): string {
  return formatHostPort({ ...address, port: address.port === 65_535 ? 10_000 : address.port + 1 });
}
