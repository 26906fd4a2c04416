import type { KeyPath, Problem } from './model.js';
import type { ServeFlags } from './serve-source.js';

/** The flag for each key of the file that has one. */
const FLAGS: ReadonlyMap<string, string> = new Map([
  ['listen', '--listen'],
  ['forward', '--forward'],
  ['certificate_path', '--cert'],
  ['key_path', '--key'],
  ['client_ca_path', '--client-ca'],
  ['client_auth', '--client-auth'],
  ['prometheus_listen_addr', '--prometheus-listen-addr'],
]);

/** Converts the flags to the content of an equivalent file, so that the same validation applies to both. */
export function contentFromFlags(flags: ServeFlags): object {
  return withoutUndefined({
    tls: withoutUndefined({
      certificate_path: flags.cert,
      key_path: flags.key,
      client_ca_path: flags.clientCa,
      client_auth: flags.clientAuth,
    }),
    listeners: flags.pairs.map(({ listen, forward }) => ({ listen, forward })),
    prometheus_listen_addr: flags.prometheusListenAddr,
  });
}

/** `['tls', 'key_path']` → `['--key']`. A listener's key without a flag of its own is reported under `--listen`. */
export function flagKey(key: KeyPath): KeyPath {
  for (const part of [...key].reverse()) {
    const flag = typeof part === 'string' ? FLAGS.get(part) : undefined;
    if (flag !== undefined) return [flag];
  }
  return key[0] === 'listeners' ? ['--listen'] : key;
}

/** Rewrites a problem in terms of flags. Messages have keys in backticks. */
export function flagProblem(problem: Problem): Problem {
  const message = problem.message.replace(/`([a-z_]+)`/gu, (text, name: string) => {
    const flag = FLAGS.get(name);
    return flag === undefined ? text : `\`${flag}\``;
  });
  return { ...problem, key: flagKey(problem.key), message };
}

/** Reports flags for TLS towards clients if no listener uses TLS, because the user expects TLS. */
export function unusedTlsFlags(flags: ServeFlags): Problem[] {
  if (flags.pairs.some(({ listen }) => /^(?:tls|https):/iu.test(listen))) return [];
  const given: readonly (readonly [string, string | undefined])[] = [
    ['--cert', flags.cert],
    ['--key', flags.key],
    ['--client-ca', flags.clientCa],
    ['--client-auth', flags.clientAuth],
  ];
  return given.flatMap(([flag, value]): Problem[] =>
    value === undefined
      ? []
      : [
          {
            severity: 'error',
            key: [flag],
            message: 'has no effect, because no `--listen` is a tls:// or https:// address',
            value,
          },
        ],
  );
}

function withoutUndefined(entries: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined));
}
