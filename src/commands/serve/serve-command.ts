import type { ServeFlags } from '../../config/serve-source.js';
import type { Command, CommandEntry, Given } from '../command.js';
import { UsageError } from '../parse-flags.js';
import { NO_ARGUMENTS } from '../help.js';

const FILE = { label: 'FILE', completes: 'file' } as const;
const URL = { label: 'URL', completes: 'nothing' } as const;

export const SERVE: CommandEntry = {
  name: 'serve',
  summary: 'run the proxy (the default if only flags are given)',
  description: [
    'Runs the proxy until SIGTERM or SIGINT. The first of these signals drains open connections, a second one resets ' +
      'them. SIGHUP reloads the configuration and the certificates; certificates are also reloaded when their files ' +
      'change.',
  ],
  usage: ['--config FILE', '--listen URL --forward URL --cert FILE --key FILE [FLAGS]'],
  flags: [
    {
      name: 'config',
      value: FILE,
      text: 'the configuration file (YAML); cannot be combined with other flags',
    },
    {
      name: 'listen',
      value: URL,
      repeatable: true,
      text:
        'the address that clients connect to: tls://host:port, tcp://host:port or unix:/path; for HTTP ' +
        'https://host:port or http://host:port; may be repeated, each time with its own --forward',
    },
    {
      name: 'forward',
      value: URL,
      repeatable: true,
      text:
        'the upstream to forward to: tcp://host:port, dns:host:port, unix:/path, tls://host:port or dns+tls:host:port; for HTTP ' +
        'http://host or https://host',
    },
    {
      name: 'cert',
      value: FILE,
      text: 'the certificate of tls:// and https:// listeners: the leaf first, then intermediates (PEM)',
    },
    { name: 'key', value: FILE, text: 'its private key (PEM)' },
    {
      name: 'client-ca',
      value: FILE,
      text: 'the CA certificates that verify client certificates: a file or a directory',
    },
    {
      name: 'client-auth',
      value: { label: 'none|report|optional|require', completes: ['none', 'report', 'optional', 'require'] },
      text: 'whether client certificates are requested (optional), required (require), or only reported (report); default: none',
    },
    {
      name: 'prometheus-listen-addr',
      value: { label: 'HOST:PORT', completes: 'nothing' },
      text: 'the address that serves metrics, liveness and readiness',
    },
  ],
  examples: [
    {
      text: 'TLS on port 9999 for a Gitaly on this machine',
      line:
        'gitaly-tls-proxy serve --listen tls://0.0.0.0:9999 --forward tcp://127.0.0.1:8075 ' +
        '--cert cert.pem --key key.pem',
    },
    {
      text: 'require client certificates, and serve metrics',
      line:
        'gitaly-tls-proxy serve --listen tls://0.0.0.0:9999 --forward tcp://127.0.0.1:8075 ' +
        '--cert cert.pem --key key.pem --client-ca clients-ca.pem --client-auth require ' +
        '--prometheus-listen-addr 127.0.0.1:9237',
    },
    {
      text: 'with a configuration file',
      line: 'gitaly-tls-proxy serve --config gitaly-tls-proxy.yaml',
    },
  ],
  read,
};

function read(given: Given): Command {
  if (given.found.length === 0) throw new UsageError(NO_ARGUMENTS);
  const config = given.value('config');
  if (config !== undefined) {
    const other = given.flags.find(({ name }) => name !== 'config');
    if (other !== undefined)
      throw new UsageError(
        `--config cannot be combined with other flags: move the value of --${other.name} into the file`,
      );
    return { command: 'serve', source: { kind: 'file', file: config } };
  }
  const pairs = pairUp(given);
  if (pairs.length === 0)
    throw new UsageError('--listen and --forward are missing: give both, or --config FILE');
  const flags: ServeFlags = {
    pairs,
    ...present('cert', given.value('cert')),
    ...present('key', given.value('key')),
    ...present('clientCa', given.value('client-ca')),
    ...present('clientAuth', given.value('client-auth')),
    ...present('prometheusListenAddr', given.value('prometheus-listen-addr')),
  };
  return { command: 'serve', source: { kind: 'flags', flags } };
}

/** Pairs the n-th `--listen` with the n-th `--forward`, in whatever order they are mixed. */
function pairUp(given: Given): ServeFlags['pairs'] {
  const listens = given.values('listen');
  const forwards = given.values('forward');
  if (listens.length !== forwards.length) throw new UsageError(lonely(given));
  return listens.flatMap((listen, index) => {
    const forward = forwards[index];
    return forward === undefined ? [] : [{ listen, forward }];
  });
}

/** Names the flags without a partner next to them. */
function lonely(given: Given): string {
  const alone: string[] = [];
  let waiting: { readonly name: string; readonly value: string } | undefined;
  const leaveAlone = (flag: { readonly name: string; readonly value: string }): void => {
    alone.push(`--${flag.name} ${flag.value} has no --${flag.name === 'listen' ? 'forward' : 'listen'}`);
  };
  for (const { name, value } of given.flags) {
    if (value === undefined || (name !== 'listen' && name !== 'forward')) continue;
    if (waiting === undefined) waiting = { name, value };
    else if (waiting.name === name) {
      leaveAlone(waiting);
      waiting = { name, value };
    } else waiting = undefined;
  }
  if (waiting !== undefined) leaveAlone(waiting);
  return `${alone.join('; ')}: each --listen needs its --forward`;
}

function present<Name extends string>(name: Name, value: string | undefined): Partial<Record<Name, string>> {
  const entries: Partial<Record<Name, string>> = {};
  if (value !== undefined) entries[name] = value;
  return entries;
}
