import { createServer } from 'node:net';

import { DEFAULT_LOGGING } from '../../config/defaults.js';
import type { Configuration, ListenerConfiguration, NetworkAddress } from '../../config/model.js';
import { ABUSE_LIMITS } from '../../limits.js';
import type { ThrowawayCertificates } from './throwaway-certificates.js';

const HOST = '127.0.0.1';

/** The ports that the demo would like, as GitLab's documentation has them. */
export const DEMO_PORTS = { tls: 9999, tcp: 8076, backend: 8075, metrics: 9237 } as const;

/** The usual port, or 0 (any that is free) where somebody has it. */
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
    timeouts: {
      handshakeMs: 10_000,
      prefaceMs: 10_000,
      dialMs: 5_000,
      halfCloseMs: 60_000,
      writeStallMs: 600_000,
      idleMs: 6 * 3_600_000,
    },
    maxConnections: 1_000,
    maxUnauthenticatedConnections: 500,
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
