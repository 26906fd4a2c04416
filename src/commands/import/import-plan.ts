import type { HostPort } from '../../config/model.js';
import type { Unread } from './setting.js';

/** The components of GitLab that a file can configure. */
export const COMPONENTS = ['gitaly', 'praefect', 'clients'] as const;
export type ImportComponent = (typeof COMPONENTS)[number];

/** A step of the migration: a paragraph, then lines that are printed verbatim. */
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

/** A `listen` and its `forward`. */
export interface PlannedListener {
  /** Comments above it, one paragraph per element. */
  readonly comments: readonly string[];
  readonly listen: string;
  readonly forward: string;
  readonly tls: PlannedTls | undefined;
  /** Optional settings below it, commented out. */
  readonly commentedOut: readonly string[];
}

/** The proxy of one component: in front of Gitaly or Praefect, or on the nodes of their clients. */
export interface ImportPlan {
  readonly heading: string;
  readonly steps: readonly ImportStep[];
  readonly listeners: readonly PlannedListener[];
  /** Settings that could not be imported after all. */
  readonly unread: readonly Unread[];
  /** Settings that were imported and need attention. */
  readonly warnings: readonly Unread[];
  /** Settings that the proxy shares with the server behind it; `undefined` on the nodes of clients. */
  readonly server: PlannedServer | undefined;
}

export interface PlannedServer {
  readonly prometheus: HostPort;
  readonly gracefulRestartTimeout: string | undefined;
  readonly loggingLevel: string | undefined;
  readonly loggingFormat: string | undefined;
}

/** The path of the configuration, as in packaging/. */
export const CONFIGURATION_FILE = '/etc/gitaly-tls-proxy.yaml';

/** Omnibus' directory of the authorities that GitLab trusts. */
export const TRUSTED_BY_GITLAB = '/opt/gitlab/embedded/ssl/certs';

/** Applies a changed setting of GitLab. */
export const RECONFIGURE = 'then run gitlab-ctl reconfigure, or without Omnibus restart the changed services';

/** The metrics address if GitLab's configuration contains none. */
export const PROMETHEUS: HostPort = { host: '127.0.0.1', port: 9237 };
