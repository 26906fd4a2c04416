import { ABUSE_LIMITS } from '../limits.js';
import type { Logging } from './model.js';

/** The defaults, as literals of the configuration file. */
export const DEFAULTS = {
  minVersion: 'TLS 1.2',
  clientAuth: 'none',
  requireAlpn: true,
  /** Most clones of large repositories take less time. A restart may keep new connections waiting until this timeout. */
  gracefulRestartTimeout: '10m',
  logging: { level: 'info', format: 'json', rpc: 'failed', rpcSampling: 1 },
  timeouts: {
    handshake: '10s',
    preface: '10s',
    dial: '5s',
    half_close: '1m',
    write_stall: '10m',
    idle: '6h',
  },
  maxConnections: 10_000,
  abuseLimits: ABUSE_LIMITS,
  workers: 1,
  readinessRequiresUpstream: false,
  inspect: true,
  policy: { mode: 'enforce', readOnly: false },
  auditRequired: false,
  http: {
    /** GitLab's internal API; Gitaly calls nothing else. */
    gatePaths: ['/api/v4/internal/'],
    clientCertificateHeaders: false,
  },
} as const;

/** The log settings until the configuration has been read. */
export const DEFAULT_LOGGING: Logging = {
  level: DEFAULTS.logging.level,
  format: DEFAULTS.logging.format,
  rpc: { which: DEFAULTS.logging.rpc, slowMs: 0, sampling: DEFAULTS.logging.rpcSampling },
};
