import type { SettingPlace, Unread } from './setting.js';

/** The supported files. */
export type FileKind = 'config.toml' | 'gitlab.yml' | 'gitlab.rb';

/** Gitaly and Praefect have the same settings. */
export type ServerRole = 'gitaly' | 'praefect';

/** The connection settings of a Gitaly or a Praefect, as they are in the file. */
export interface ServerSettings {
  readonly role: ServerRole;
  /** The positions of the settings that were read, by their names in Gitaly's configuration: `tls.min_version`. */
  readonly places: ReadonlyMap<string, SettingPlace>;
  /** Addresses that are set but could not be read. */
  readonly unknown: ReadonlySet<'listen_addr' | 'tls_listen_addr' | 'socket_path'>;
  readonly listenAddr: string | undefined;
  readonly tlsListenAddr: string | undefined;
  readonly socketPath: string | undefined;
  readonly certificatePath: string | undefined;
  readonly keyPath: string | undefined;
  readonly minVersion: string | undefined;
  readonly prometheusListenAddr: string | undefined;
  readonly gracefulTimeout: string | undefined;
  readonly loggingLevel: string | undefined;
  readonly loggingFormat: string | undefined;
}

/** A Gitaly as its clients know it: a storage of Rails, or a node of Praefect. */
export interface FoundUpstream {
  /** The name of the storage. */
  readonly name: string;
  readonly address: string;
  readonly line: number | undefined;
  /** The key of the address, formatted for prose. */
  readonly key: string;
}

/** The settings of a file of any kind. */
export interface Found {
  readonly kind: FileKind;
  readonly servers: readonly ServerSettings[];
  /** `gitaly_address` of the storages of Rails. */
  readonly storages: readonly FoundUpstream[];
  /** The addresses of Praefect's Gitalys. */
  readonly nodes: readonly FoundUpstream[];
  readonly unread: readonly Unread[];
}

/** A file that cannot be imported: the problem and its line. */
export class ImportFault extends Error {
  override readonly name = 'ImportFault';

  constructor(
    message: string,
    readonly line?: number,
  ) {
    super(message);
  }
}
