/** What holds where the file is silent, in the file's own literals. */
export const DEFAULTS = {
  minVersion: 'TLS 1.2',
  clientAuth: 'none',
  requireAlpn: true,
  gracefulRestartTimeout: '1m',
  logging: { level: 'info', format: 'json' },
  timeouts: { handshake: '10s', preface: '10s', dial: '5s', half_close: '1m', idle: '6h' },
  maxConnections: 10_000,
} as const;
