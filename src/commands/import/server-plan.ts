import { DEFAULTS } from '../../config/defaults.js';
import { parseDuration } from '../../config/duration.js';
import type { ServerSettings } from './found.js';
import type { ImportPlan, PlannedListener, PlannedServer, PlannedTls } from './import-plan.js';
import { PROMETHEUS } from './import-plan.js';
import { isWildcard, listenUrl, serverAddresses, type ServerAddresses } from './server-addresses.js';
import { placeOf } from './server-settings.js';
import { firstTlsSteps, takeOverSteps, type ServerNames } from './server-steps.js';
import type { Unread } from './setting.js';

/** The paths in GitLab's documentation. */
const USUAL_CERTIFICATE = '/etc/gitlab/ssl/cert.pem';
const USUAL_KEY = '/etc/gitlab/ssl/key.pem';

/** The proxy's names of logrus' levels. Those above `error` end Gitaly. */
const LEVELS: ReadonlyMap<string, string> = new Map([
  ['trace', 'debug'],
  ['debug', 'debug'],
  ['info', 'info'],
  ['warn', 'warn'],
  ['warning', 'warn'],
  ['error', 'error'],
  ['fatal', 'error'],
  ['panic', 'error'],
]);

const NAMES: Readonly<Record<ServerSettings['role'], ServerNames>> = {
  gitaly: {
    server: 'Gitaly',
    omnibus: "gitaly['configuration']",
    counter: 'gitaly_connections_total',
    clients: 'Rails, Sidekiq, gitlab-shell, Praefect and the other Gitaly nodes',
  },
  praefect: {
    server: 'Praefect',
    omnibus: "praefect['configuration']",
    counter: 'gitaly_praefect_connections_total',
    clients: 'Rails, Sidekiq, gitlab-shell and the Gitaly nodes',
  },
};

/** Plans the proxy in front of a Gitaly or a Praefect, and the migration to it. */
export function planServer(settings: ServerSettings): ImportPlan {
  const unread: Unread[] = [];
  const warnings: Unread[] = [];
  const names = NAMES[settings.role];
  const addresses = serverAddresses(settings, unread);
  const server = commonSettings(settings, addresses, { unread, warnings });
  const tls = certificate(settings, unread);
  const steps =
    addresses.ownTls === undefined
      ? firstTlsSteps(names, addresses, tls)
      : takeOverSteps(names, addresses, server.prometheus, settings.unknown.has('listen_addr'));
  return {
    heading:
      addresses.ownTls === undefined
        ? `On the ${names.server} node: TLS in front of a plaintext ${names.server}`
        : `On the ${names.server} node: the proxy replaces ${names.server}'s own TLS`,
    steps,
    listeners: listeners(settings, addresses, tls),
    unread,
    warnings,
    server,
  };
}

function listeners(
  settings: ServerSettings,
  { tls, tlsIsAssumed, ownTls, forward, openPlain }: ServerAddresses,
  certificatePair: PlannedTls,
): PlannedListener[] {
  const { server } = NAMES[settings.role];
  const isPlaceholder = settings.certificatePath === undefined || settings.keyPath === undefined;
  const comments = [
    ...(ownTls === undefined
      ? []
      : [`${server} itself uses this address until the steps above have freed it.`]),
    ...(tlsIsAssumed && ownTls !== undefined
      ? ['tls_listen_addr could not be read. This is the usual address: replace it by the actual one.']
      : []),
    ...(settings.unknown.has('listen_addr') &&
    settings.listenAddr === undefined &&
    !forward.startsWith('unix:')
      ? [
          'listen_addr could not be read. forward contains the usual address: replace it by the actual one, on loopback.',
        ]
      : []),
    ...(isPlaceholder
      ? [
          "The paths of certificate and key, above, are those of GitLab's documentation: no others could be read.",
        ]
      : []),
  ];
  const main = { comments, listen: listenUrl('tls', tls), forward, tls: certificatePair, commentedOut: [] };
  if (openPlain === undefined || (ownTls === undefined && !forward.startsWith('unix:'))) return [main];
  const plaintext = {
    comments: [
      'The previous plaintext address, for clients that were forgotten. Remove it in the last step.',
    ],
    listen: listenUrl('tcp', openPlain),
    forward,
    tls: undefined,
    commentedOut: [],
  };
  return [main, plaintext];
}

function certificate(settings: ServerSettings, unread: Unread[]): PlannedTls {
  const { certificatePath, keyPath, minVersion } = settings;
  const skip = (name: string, reason: string): void => {
    unread.push({ ...placeOf(settings, `tls.${name}`), reason });
  };
  const isKnownVersion = minVersion === 'TLS 1.2' || minVersion === 'TLS 1.3';
  if (minVersion !== undefined && !isKnownVersion) skip('min_version', 'expected "TLS 1.2" or "TLS 1.3"');
  for (const [name, path] of [
    ['certificate_path', certificatePath],
    ['key_path', keyPath],
  ] as const)
    if (path !== undefined && !path.startsWith('/'))
      skip(
        name,
        `it is relative to the working directory of ${NAMES[settings.role].server}: use an absolute path`,
      );
  return {
    certificatePath: certificatePath ?? USUAL_CERTIFICATE,
    keyPath: keyPath ?? USUAL_KEY,
    minVersion: isKnownVersion ? minVersion : undefined,
  };
}

/** Settings that both the proxy and the server have. */
function commonSettings(
  settings: ServerSettings,
  { prometheus }: ServerAddresses,
  { unread, warnings }: { readonly unread: Unread[]; readonly warnings: Unread[] },
): PlannedServer {
  const { role, gracefulTimeout, loggingLevel, loggingFormat } = settings;
  if (prometheus !== undefined && isWildcard(prometheus))
    warnings.push({
      ...placeOf(settings, 'prometheus_listen_addr'),
      reason:
        `every machine that can connect to port ${prometheus.port} can read the metrics and the admin pages, which contain ` +
        `clients and repositories. Allow only Prometheus in the firewall, or change it to 127.0.0.1:${prometheus.port}`,
    });
  const timeoutName = role === 'gitaly' ? 'graceful_restart_timeout' : 'graceful_stop_timeout';
  if (isShorter(gracefulTimeout, DEFAULTS.gracefulRestartTimeout))
    warnings.push({
      ...placeOf(settings, timeoutName),
      reason:
        `a restart of the proxy resets calls that take longer, such as clones of large repositories. ` +
        `Remove it for the proxy's default of ${DEFAULTS.gracefulRestartTimeout}`,
    });
  const known = <T>(
    name: string,
    value: string | undefined,
    read: (text: string) => T | undefined,
  ): T | undefined => {
    const found = value === undefined ? undefined : read(value);
    if (value !== undefined && found === undefined)
      unread.push({ ...placeOf(settings, name), reason: 'the proxy does not support this value' });
    return found;
  };
  return {
    prometheus: prometheus ?? PROMETHEUS,
    gracefulRestartTimeout: known(timeoutName, gracefulTimeout, (text) =>
      parseDuration(text).ok ? text : undefined,
    ),
    loggingLevel: known('logging.level', loggingLevel, (text) => LEVELS.get(text.toLowerCase())),
    loggingFormat: known('logging.format', loggingFormat, (text) =>
      text === 'json' || text === 'text' ? text : undefined,
    ),
  };
}

function isShorter(duration: string | undefined, other: string): boolean {
  const [one, two] = [parseDuration(duration ?? ''), parseDuration(other)];
  return one.ok && two.ok && one.value < two.value;
}
