import { createServer } from 'node:net';

import { buildTimeouts } from '../../config/build.js';
import { DEFAULT_LOGGING } from '../../config/defaults.js';
import type { Configuration, ListenerConfiguration, NetworkAddress } from '../../config/model.js';
import { ABUSE_LIMITS, DEMO_CONNECTIONS } from '../../limits.js';
import type { ThrowawayCertificates } from './throwaway-certificates.js';

const HOST = '127.0.0.1';

/** The demo's preferred ports, as in GitLab's documentation. */
export const DEMO_PORTS = { tls: 9999, tcp: 8076, backend: 8075, metrics: 9237 } as const;

/** The port, or 0 (any free port) if it is in use. */
export function portOrAnyFree(port: number): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(0));
    server.listen(port, HOST, () => server.close(() => resolve(port)));
  });
}

/** A `tls://` and a `tcp://` listener in front of the demo's backend, and metrics. */
export function demoConfiguration(
  certificates: ThrowawayCertificates,
  ports: { readonly tls: number; readonly tcp: number; readonly backend: number; readonly metrics: number },
): Configuration {
  const common: Omit<ListenerConfiguration, 'key' | 'listen' | 'tls'> = {
    forwarding: { routes: [], fallback: address('tcp', ports.backend) },
    upstreamTls: undefined,
    socket: undefined,
    http: undefined,
    proxyProtocol: { acceptFrom: [], send: undefined },
    timeouts: buildTimeouts({}),
    maxConnections: DEMO_CONNECTIONS,
    maxUnauthenticatedConnections: DEMO_CONNECTIONS / 2,
    maxConnectionsPerSource: undefined,
    maxConnectionAge: undefined,
    abuseLimits: ABUSE_LIMITS,
    inspect: 'on',
    clientAllow: undefined,
    policy: undefined,
    upstreamToken: undefined,
    upstreamMetadata: [],
  };
  const setting = (path: string): { path: string; key: string[] } => ({ path, key: ['demo'] });
  return {
    listeners: [
      {
        ...common,
        key: ['demo', 'tls'],
        listen: address('tls', ports.tls),
        tls: {
          certificates: [
            { certificate: setting(certificates.certificatePath), key: setting(certificates.keyPath) },
          ],
          minVersion: 'TLSv1.2',
          clientAuth: 'optional',
          clientCa: { files: [setting(certificates.caPath)], directories: [] },
          clientCrl: undefined,
          requireAlpn: true,
          protocols: ['h2'],
        },
      },
      { ...common, key: ['demo', 'tcp'], listen: address('tcp', ports.tcp), tls: undefined },
    ],
    prometheusListenAddr: { host: HOST, port: ports.metrics },
    adminHosts: [],
    workers: 1,
    gracefulRestartTimeoutMs: 1_000,
    rpcs: [],
    audit: undefined,
    healthChecks: undefined,
    logging: { ...DEFAULT_LOGGING, format: 'text' },
  };
}

function address(scheme: 'tls' | 'tcp', port: number): NetworkAddress {
  return { scheme, host: HOST, port, url: `${scheme}://${HOST}:${port}` };
}
