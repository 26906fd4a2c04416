import type { ServerRole, ServerSettings } from './found.js';
import type { SettingReader } from './setting-reader.js';
import type { SettingPlace, SettingPath } from './setting.js';

/**
 * The settings of `config.toml`, which `gitaly['configuration']` of `gitlab.rb` holds under the same names.
 *
 * @param below - where these settings are.
 * @param legacy - where the flat names of GitLab before 16 are, such as `gitaly['tls_listen_addr']`, if they count.
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
  reader.leave(
    [...below, 'tls', 'key'],
    'the proxy reads its key from a file: write it to one, and name that in key_path',
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
export function placeOf({ places }: ServerSettings, name: string): SettingPlace {
  return places.get(name) ?? { key: name, line: undefined };
}

/** Whether a server listens anywhere; without that there is nothing to put a proxy in front of. */
export function listens({ listenAddr, tlsListenAddr, socketPath, unknown }: ServerSettings): boolean {
  return (listenAddr ?? tlsListenAddr ?? socketPath) !== undefined || unknown.size > 0;
}
