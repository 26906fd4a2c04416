import { nearest } from '../config/nearest.js';
import type { ServeFlags, ServeSource } from '../config/serve-source.js';
import {
  CONFIGURATION_HELP,
  DEMO_HELP,
  MAIN_HELP,
  SERVE_HELP,
  SHORTEST_WAYS,
  VALIDATE_HELP,
} from './help.js';
import { parseFlags, UsageError, type Argument, type FlagTable } from './parse-flags.js';

/** What the command line asks for. */
export type Command =
  | { readonly command: 'serve'; readonly source: ServeSource }
  | { readonly command: 'demo' }
  /** Not on the command line: what a process runs that the primary process has started to serve connections. */
  | { readonly command: 'worker' }
  | { readonly command: 'configuration validate'; readonly file: string | undefined }
  | { readonly command: 'help'; readonly text: string }
  | { readonly command: 'version' }
  | { readonly command: 'usage error'; readonly message: string };

const COMMANDS = ['serve', 'demo', 'configuration'];

const SERVE_FLAGS: FlagTable = {
  config: { value: true },
  listen: { value: true, repeatable: true },
  forward: { value: true, repeatable: true },
  cert: { value: true },
  key: { value: true },
  'client-ca': { value: true },
  'client-auth': { value: true },
  'prometheus-listen-addr': { value: true },
  version: { value: false },
};

/**
 * Reads the command line. `serve` is the default command: flags alone mean it.
 *
 * @param args - what follows the program's name.
 */
export function parseCommandLine(args: readonly string[]): Command {
  try {
    return parse(args);
  } catch (error) {
    if (error instanceof UsageError) return { command: 'usage error', message: error.message };
    throw error;
  }
}

function parse(args: readonly string[]): Command {
  const [first, ...rest] = args;
  switch (first) {
    case undefined:
      return { command: 'usage error', message: SHORTEST_WAYS };
    case '--help':
    case '-h':
    case 'help':
      return { command: 'help', text: MAIN_HELP };
    case '--version':
    case '-V':
      return { command: 'version' };
    case 'serve':
      return parseServe(rest);
    case 'demo':
      return parseDemo(rest);
    case 'configuration':
      return parseConfiguration(rest);
    default:
      if (first.startsWith('-')) return parseServe(args);
      throw new UsageError(unknownCommand(first, COMMANDS, 'gitaly-tls-proxy --help'));
  }
}

function parseServe(args: readonly string[]): Command {
  const found = parseFlags(args, SERVE_FLAGS);
  if (asksForHelp(found)) return { command: 'help', text: SERVE_HELP };
  if (found.some((argument) => argument.kind === 'flag' && argument.name === 'version'))
    return { command: 'version' };
  refuseWords('serve', found);
  if (found.length === 0) throw new UsageError(SHORTEST_WAYS);
  const valueOf = (name: string): string | undefined =>
    found.flatMap((argument) =>
      argument.kind === 'flag' && argument.name === name ? [argument.value] : [],
    )[0];
  const config = valueOf('config');
  if (config !== undefined) {
    const other = found.find((argument) => argument.kind === 'flag' && argument.name !== 'config');
    if (other?.kind === 'flag') {
      throw new UsageError(`--config goes with no other flag: put what --${other.name} says into the file`);
    }
    return { command: 'serve', source: { kind: 'file', file: config } };
  }
  const pairs = pairUp(found);
  if (pairs.length === 0)
    throw new UsageError('--listen and --forward are missing: say what to serve, or give --config FILE');
  const flags: ServeFlags = {
    pairs,
    ...present('cert', valueOf('cert')),
    ...present('key', valueOf('key')),
    ...present('clientCa', valueOf('client-ca')),
    ...present('clientAuth', valueOf('client-auth')),
    ...present('prometheusListenAddr', valueOf('prometheus-listen-addr')),
  };
  return { command: 'serve', source: { kind: 'flags', flags } };
}

/** The n-th `--listen` belongs to the n-th `--forward`, in whatever order they are mixed. */
function pairUp(found: readonly Argument[]): ServeFlags['pairs'] {
  const listens: string[] = [];
  const forwards: string[] = [];
  for (const argument of found) {
    if (argument.kind !== 'flag' || argument.value === undefined) continue;
    if (argument.name === 'listen') listens.push(argument.value);
    if (argument.name === 'forward') forwards.push(argument.value);
  }
  if (listens.length !== forwards.length) throw new UsageError(lonely(found));
  return listens.flatMap((listen, index) => {
    const forward = forwards[index];
    return forward === undefined ? [] : [{ listen, forward }];
  });
}

/** Names those that have no partner next to them, which is where people write it. */
function lonely(found: readonly Argument[]): string {
  const alone: string[] = [];
  let waiting: { readonly name: string; readonly value: string } | undefined;
  const leaveAlone = (flag: { readonly name: string; readonly value: string }): void => {
    alone.push(`--${flag.name} ${flag.value} has no --${flag.name === 'listen' ? 'forward' : 'listen'}`);
  };
  for (const argument of found) {
    if (argument.kind !== 'flag' || argument.value === undefined) continue;
    const { name, value } = argument;
    if (name !== 'listen' && name !== 'forward') continue;
    if (waiting === undefined) waiting = { name, value };
    else if (waiting.name === name) {
      leaveAlone(waiting);
      waiting = { name, value };
    } else waiting = undefined;
  }
  if (waiting !== undefined) leaveAlone(waiting);
  return `${alone.join('; ')}: each --listen needs its --forward`;
}

function parseDemo(args: readonly string[]): Command {
  const found = parseFlags(args, {});
  if (asksForHelp(found)) return { command: 'help', text: DEMO_HELP };
  refuseWords('demo', found);
  return { command: 'demo' };
}

function parseConfiguration(args: readonly string[]): Command {
  const [subcommand, ...rest] = args;
  if (subcommand === 'validate') return parseValidate(rest);
  if (subcommand === undefined)
    throw new UsageError('configuration needs a command: configuration validate [FILE]');
  if (subcommand.startsWith('-')) {
    if (asksForHelp(parseFlags(args, {}))) return { command: 'help', text: CONFIGURATION_HELP };
    throw new UsageError('configuration needs a command: configuration validate [FILE]');
  }
  throw new UsageError(
    unknownCommand(subcommand, ['validate'], 'gitaly-tls-proxy configuration --help', 'configuration '),
  );
}

function parseValidate(args: readonly string[]): Command {
  const found = parseFlags(args, {});
  if (asksForHelp(found)) return { command: 'help', text: VALIDATE_HELP };
  const words = found.flatMap((argument) => (argument.kind === 'word' ? [argument.word] : []));
  if (words.length > 1) throw new UsageError('configuration validate takes one FILE');
  const [file] = words;
  return { command: 'configuration validate', file: file === '-' ? undefined : file };
}

function asksForHelp(found: readonly Argument[]): boolean {
  return found.some((argument) => argument.kind === 'flag' && argument.name === 'help');
}

function refuseWords(command: string, found: readonly Argument[]): void {
  const stray = found.find((argument) => argument.kind === 'word');
  if (stray?.kind === 'word') {
    throw new UsageError(
      `${command} takes flags only, not ${JSON.stringify(stray.word)}; see gitaly-tls-proxy ${command} --help`,
    );
  }
}

function unknownCommand(given: string, known: readonly string[], help: string, prefix = ''): string {
  const meant = nearest(given, known);
  const hint = meant === undefined ? `see ${help}` : `did you mean ${prefix}${meant}?`;
  return `unknown command ${JSON.stringify(prefix + given)}; ${hint}`;
}

function present<Name extends string>(name: Name, value: string | undefined): Partial<Record<Name, string>> {
  const entries: Partial<Record<Name, string>> = {};
  if (value !== undefined) entries[name] = value;
  return entries;
}
