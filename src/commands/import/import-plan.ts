import type { HostPort } from '../../config/model.js';
import type { Unread } from './setting.js';

/** Which sides of the proxy are wanted, where a file speaks of several. */
export const SIDES = ['gitaly', 'praefect', 'clients'] as const;
export type ImportSide = (typeof SIDES)[number];

/** Something to do, in its turn: a paragraph, then lines that are shown as they are. */
export interface ImportStep {
  readonly text: string;
  readonly lines?: readonly string[];
}

/** A certificate of a listener. */
export interface PlannedTls {
  readonly certificatePath: string;
  readonly keyPath: string;
  readonly minVersion: 'TLS 1.2' | 'TLS 1.3' | undefined;
}

/** A pair of the configuration. */
export interface PlannedListener {
  /** What is said above it; each a paragraph. */
  readonly comments: readonly string[];
  readonly listen: string;
  readonly forward: string;
  readonly tls: PlannedTls | undefined;
  /** Lines below it that are commented out, for whoever needs them. */
  readonly spare: readonly string[];
}

/** One side of the proxy: in front of a Gitaly or a Praefect, or beside their clients. */
export interface ImportPlan {
  readonly heading: string;
  readonly steps: readonly ImportStep[];
  readonly listeners: readonly PlannedListener[];
  /** Settings that could not be imported after all. */
  readonly unread: readonly Unread[];
  /** Settings that were imported and need attention. */
  readonly warnings: readonly Unread[];
  /** What the proxy has in common with the server that it is in front of; `undefined` beside clients. */
  readonly server: PlannedServer | undefined;
}

export interface PlannedServer {
  readonly prometheus: HostPort;
  readonly gracefulRestartTimeout: string | undefined;
  readonly loggingLevel: string | undefined;
  readonly loggingFormat: string | undefined;
}

/** Where the configuration is put, as in packaging/. */
export const CONFIGURATION_FILE = '/etc/gitaly-tls-proxy.yaml';

/** Where Omnibus keeps the authorities that GitLab trusts. */
export const TRUSTED_BY_GITLAB = '/opt/gitlab/embedded/ssl/certs';

/** What puts a changed setting of GitLab's in force. */
export const RECONFIGURE = 'then gitlab-ctl reconfigure, or without Omnibus a restart of what has changed';

/** Where metrics are served unless Gitaly's configuration says where Prometheus looks. */
export const PROMETHEUS: HostPort = { host: '127.0.0.1', port: 9237 };
