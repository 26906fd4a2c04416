import type { ServeFlags } from '../../config/serve-source.js';
import type { Command, CommandEntry, Given } from '../command.js';
import { UsageError } from '../parse-flags.js';
import { SHORTEST_WAYS } from '../help.js';

const FILE = { label: 'FILE', completes: 'file' } as const;
const URL = { label: 'URL', completes: 'nothing' } as const;

export const SERVE: CommandEntry = {
  name: 'serve',
  summary: 'run the proxy (the default: flags alone mean serve)',
  description: [
    'Runs the proxy until SIGTERM or SIGINT, which let open connections finish; a second one stops at once. ' +
      'SIGHUP reads configuration and certificates again; certificates are also reloaded when their files change.',
  ],
  usage: ['--config FILE', '--listen URL --forward URL --cert FILE --key FILE [FLAGS]'],
  flags: [
    { name: 'config', value: FILE, text: 'the configuration file (YAML); goes with no other flag' },
    {
      name: 'listen',
      value: URL,
      repeatable: true,
      text:
        'where clients connect: tls://host:port, tcp://host:port or unix:/path; for HTTP https://host:port or ' +
        'http://host:port; may be repeated, each time with its --forward',
    },
    {
      name: 'forward',
      value: URL,
      repeatable: true,
      text:
        'the upstream: tcp://host:port, dns:host:port, unix:/path, tls://host:port or dns+tls:host:port; for HTTP ' +
        'http://host or https://host',
    },
    {
      name: 'cert',
      value: FILE,
      text: 'certificate for tls:// and https:// listeners, leaf first, then intermediates (PEM)',
    },
    { name: 'key', value: FILE, text: 'its private key (PEM)' },
    {
      name: 'client-ca',
      value: FILE,
      text: 'authorities to verify client certificates with: a file or a directory',
    },
    {
      name: 'client-auth',
      value: { label: 'none|report|optional|require', completes: ['none', 'report', 'optional', 'require'] },
      text: 'whether clients present a certificate (default: none)',
    },
    {
      name: 'prometheus-listen-addr',
      value: { label: 'HOST:PORT', completes: 'nothing' },
      text: 'serve metrics, liveness and readiness there',
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
      text: 'only for clients that present a certificate of these authorities; with metrics',
      line:
        'gitaly-tls-proxy serve --listen tls://0.0.0.0:9999 --forward tcp://127.0.0.1:8075 ' +
        '--cert cert.pem --key key.pem --client-ca clients-ca.pem --client-auth require ' +
        '--prometheus-listen-addr 127.0.0.1:9237',
    },
    {
      text: 'all that a file says',
      line: 'gitaly-tls-proxy serve --config gitaly-tls-proxy.yaml',
    },
  ],
  read,
};

function read(given: Given): Command {
  if (given.found.length === 0) throw new UsageError(SHORTEST_WAYS);
  const config = given.value('config');
  if (config !== undefined) {
    const other = given.flags.find(({ name }) => name !== 'config');
    if (other !== undefined)
      throw new UsageError(`--config goes with no other flag: put what --${other.name} says into the file`);
    return { command: 'serve', source: { kind: 'file', file: config } };
  }
  const pairs = pairUp(given);
  if (pairs.length === 0)
    throw new UsageError('--listen and --forward are missing: say what to serve, or give --config FILE');
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

/** The n-th `--listen` belongs to the n-th `--forward`, in whatever order they are mixed. */
function pairUp(given: Given): ServeFlags['pairs'] {
  const listens = given.values('listen');
  const forwards = given.values('forward');
  if (listens.length !== forwards.length) throw new UsageError(lonely(given));
  return listens.flatMap((listen, index) => {
    const forward = forwards[index];
    return forward === undefined ? [] : [{ listen, forward }];
  });
}

/** Names those that have no partner next to them, which is where people write it. */
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
