import type { ServerRole, ServerSettings } from './found.js';
import { settingAt, type Place, type Setting, type SettingPath, type Unread } from './setting.js';

/** Reads settings of one kind and keeps a list of what had to be left. */
export class SettingReader {
  constructor(
    private readonly root: Setting,
    /** How what stands at a path is written in prose. */
    private readonly key: (path: SettingPath) => string,
    private readonly unread: Unread[],
  ) {}

  /** The first of these paths that is set to a text which is not empty, and where that stands. */
  text(...paths: readonly SettingPath[]): { readonly value: string; readonly place: Place } | undefined {
    for (const path of paths) {
      const setting = settingAt(this.root, path);
      if (setting?.kind === 'scalar' && typeof setting.value === 'string' && setting.value !== '')
        return { value: setting.value, place: { key: this.key(path), line: setting.line } };
      const empty = setting?.kind === 'scalar' && (setting.value === null || setting.value === '');
      // What could not be read is listed by whoever knows the whole file.
      if (setting !== undefined && !empty && setting.kind !== 'unread')
        this.unread.push({ key: this.key(path), line: setting.line, reason: 'a text is expected there' });
    }
    return undefined;
  }

  /** Whether one of these paths is itself set to what could not be read; where all around it is unread, nobody knows. */
  isUnread(...paths: readonly SettingPath[]): boolean {
    return paths.some(
      (path) =>
        settingAt(this.root, path)?.kind === 'unread' &&
        settingAt(this.root, path.slice(0, -1))?.kind === 'map',
    );
  }

  /** Says of a setting, where it is set, why it is left. */
  leave(path: SettingPath, reason: string): void {
    const setting = settingAt(this.root, path);
    if (setting !== undefined && setting.kind !== 'unread')
      this.unread.push({ key: this.key(path), line: setting.line, reason });
  }
}

/**
 * The settings of `config.toml`, which `gitaly['configuration']` of `gitlab.rb` holds under the same names.
 *
 * @param legacy - whether the flat names of GitLab before 16 count, too: `gitaly['tls_listen_addr']`.
 */
export function serverSettings(
  role: ServerRole,
  reader: SettingReader,
  { below, legacy }: { readonly below: SettingPath; readonly legacy: boolean },
): ServerSettings {
  const paths = (path: SettingPath, flat: readonly string[]): SettingPath[] => [
    [...below, ...path],
    ...(legacy ? flat.map((name) => [name]) : []),
  ];
  const places = new Map<string, Place>();
  const read = (path: SettingPath, ...flat: readonly string[]): string | undefined => {
    const found = reader.text(...paths(path, flat));
    if (found) places.set(path.join('.'), found.place);
    return found?.value;
  };
  reader.leave(
    [...below, 'tls', 'key'],
    'a key in the configuration itself is not taken over: put it into a file',
  );
  return {
    role,
    places,
    unknown: new Set(
      (['listen_addr', 'tls_listen_addr', 'socket_path'] as const).filter((name) =>
        reader.isUnread(...paths([name], [name])),
      ),
    ),
    listenAddr: read(['listen_addr'], 'listen_addr'),
    tlsListenAddr: read(['tls_listen_addr'], 'tls_listen_addr'),
    socketPath: read(['socket_path'], 'socket_path'),
    certificatePath: read(['tls', 'certificate_path'], 'certificate_path'),
    keyPath: read(['tls', 'key_path'], 'key_path'),
    minVersion: read(['tls', 'min_version']),
    prometheusListenAddr: read(['prometheus_listen_addr'], 'prometheus_listen_addr'),
    gracefulTimeout:
      role === 'gitaly'
        ? read(['graceful_restart_timeout'], 'graceful_restart_timeout')
        : read(['graceful_stop_timeout'], 'graceful_stop_timeout'),
    loggingLevel: read(['logging', 'level'], 'logging_level'),
    loggingFormat: read(['logging', 'format'], 'logging_format'),
  };
}

/** Where a setting stands that was read. */
export function placeOf({ places }: ServerSettings, name: string): Place {
  return places.get(name) ?? { key: name, line: undefined };
}

/** Whether a server listens anywhere; without that there is nothing to put a proxy in front of. */
export function listens({ listenAddr, tlsListenAddr, socketPath, unknown }: ServerSettings): boolean {
  return (listenAddr ?? tlsListenAddr ?? socketPath) !== undefined || unknown.size > 0;
}
