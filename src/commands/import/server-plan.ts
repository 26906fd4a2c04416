import { DEFAULTS } from '../../config/defaults.js';
import { parseDuration } from '../../config/duration.js';
import type { ServerSettings } from './found.js';
import type { ImportPlan, PlannedListener, PlannedServer, PlannedTls } from './import-plan.js';
import { PROMETHEUS } from './import-plan.js';
import { isWildcard, listenUrl, serverAddresses, type ServerAddresses } from './server-addresses.js';
import { placeOf } from './server-settings.js';
import { firstTlsSteps, takeOverSteps, type ServerNames } from './server-steps.js';
import type { Unread } from './setting.js';

/** Where GitLab's documentation puts them. */
const USUAL_CERTIFICATE = '/etc/gitlab/ssl/cert.pem';
const USUAL_KEY = '/etc/gitlab/ssl/key.pem';

/** How logrus' levels are called here; those above `error` end Gitaly. */
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

/** The proxy in front of a Gitaly or a Praefect, and the way there. */
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
        ? `On the ${names.server} node: TLS in front of a ${names.server} that has none`
        : `On the ${names.server} node: the proxy takes ${names.server}'s own TLS over`,
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
      : [`${server} itself has this address until it has given it up: follow the steps.`]),
    ...(tlsIsAssumed && ownTls !== undefined
      ? ['tls_listen_addr could not be read, and this is the usual one: write what it is.']
      : []),
    ...(settings.unknown.has('listen_addr') &&
    settings.listenAddr === undefined &&
    !forward.startsWith('unix:')
      ? ['listen_addr could not be read: forward names the usual one. Write what it is, on loopback.']
      : []),
    ...(isPlaceholder
      ? ['Certificate and key, above, are where GitLab documents them: no others could be read.']
      : []),
  ];
  const main = { comments, listen: listenUrl('tls', tls), forward, tls: certificatePair, spare: [] };
  if (openPlain === undefined || (ownTls === undefined && !forward.startsWith('unix:'))) return [main];
  const plaintext = {
    comments: [
      `The plaintext address of before, for a client that was forgotten. Remove it in the last step.`,
    ],
    listen: listenUrl('tcp', openPlain),
    forward,
    tls: undefined,
    spare: [],
  };
  return [main, plaintext];
}

function certificate(settings: ServerSettings, unread: Unread[]): PlannedTls {
  const { certificatePath, keyPath, minVersion } = settings;
  const leave = (name: string, reason: string): void => {
    unread.push({ ...placeOf(settings, `tls.${name}`), reason });
  };
  const isKnownVersion = minVersion === 'TLS 1.2' || minVersion === 'TLS 1.3';
  if (minVersion !== undefined && !isKnownVersion) leave('min_version', 'it is "TLS 1.2" or "TLS 1.3"');
  for (const [name, path] of [
    ['certificate_path', certificatePath],
    ['key_path', keyPath],
  ] as const)
    if (path !== undefined && !path.startsWith('/'))
      leave(
        name,
        `it is relative to where ${NAMES[settings.role].server} was started: write it from the root`,
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
        `every machine that reaches port ${prometheus.port} can read the metrics and the admin pages, which name ` +
        `clients and repositories. Let a firewall admit Prometheus only, or change it to 127.0.0.1:${prometheus.port}`,
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
      unread.push({ ...placeOf(settings, name), reason: 'the proxy has no such value' });
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
