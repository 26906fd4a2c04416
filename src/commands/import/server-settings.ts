import type { ServerRole, ServerSettings } from './found.js';
import type { SettingReader } from './setting-reader.js';
import type { SettingPlace, SettingPath } from './setting.js';

/**
 * Reads the settings of `config.toml`, which have the same names in `gitaly['configuration']` of `gitlab.rb`.
 *
 * @param below - the path of these settings.
 * @param legacy - the path of the flat names before GitLab 16, such as `gitaly['tls_listen_addr']`, if they apply.
 */
export function serverSettings(
  role: ServerRole,
  reader: SettingReader,
  { below, legacy }: { readonly below: SettingPath; readonly legacy: SettingPath | undefined },
): ServerSettings {
  const paths = (path: SettingPath, flat: readonly string[]): SettingPath[] => [
    [...below, ...path],
    ...(legacy === undefined ? [] : flat.map((name) => [...legacy, name])),
  ];
  const places = new Map<string, SettingPlace>();
  const read = (path: SettingPath, ...flat: readonly string[]): string | undefined => {
    const found = reader.text(...paths(path, flat));
    if (found) places.set(path.join('.'), found.place);
    return found?.value;
  };
  reader.skip(
    [...below, 'tls', 'key'],
    'the proxy reads the key from a file: write it to a file, and set key_path to its path',
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

/** The position of a setting that was read. */
export function placeOf({ places }: ServerSettings, name: string): SettingPlace {
  return places.get(name) ?? { key: name, line: undefined };
}

/** Whether a server listens at any address. If not, it needs no proxy. */
export function listens({ listenAddr, tlsListenAddr, socketPath, unknown }: ServerSettings): boolean {
  return (listenAddr ?? tlsListenAddr ?? socketPath) !== undefined || unknown.size > 0;
}
