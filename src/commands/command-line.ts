import { nearest } from '../config/nearest.js';
import { type Command, type CommandEntry, COMMON_FLAGS, Given } from './command.js';
import { groupHelp, helpOf, mainHelp, NO_ARGUMENTS } from './help.js';
import { parseFlags, UsageError } from './parse-flags.js';
import { COMMANDS } from './table.js';

/**
 * Parses the command line. `serve` is the default command if the first argument is a flag.
 *
 * @param args - the arguments after the program's name.
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
      return { command: 'usage error', message: NO_ARGUMENTS };
    case 'help':
      return parse([...rest, '--help']);
    case '--help':
    case '-h':
      return { command: 'print', text: mainHelp(COMMANDS) };
    default:
      return first.startsWith('-') ? parse(['serve', ...args]) : parseNamed(first, rest);
  }
}

function parseNamed(first: string, rest: readonly string[]): Command {
  const command = COMMANDS.find(({ name }) => name === first);
  if (command !== undefined) return parseCommand(command, rest);
  const group = COMMANDS.filter(({ name }) => name.startsWith(`${first} `));
  if (group.length > 0) return parseGroup(first, group, rest);
  const known = COMMANDS.map(({ name }) => name.replace(/ .*/u, ''));
  throw new UsageError(unknownCommand(first, known, 'gitaly-tls-proxy --help'));
}

function parseGroup(group: string, commands: readonly CommandEntry[], args: readonly string[]): Command {
  const [second, ...rest] = args;
  if (second === undefined || second.startsWith('-')) {
    if (new Given(parseFlags(args, COMMON_FLAGS)).has('help'))
      return { command: 'print', text: groupHelp(group, commands) };
    const ways = commands.flatMap(({ name, usage }) => usage.map((each) => `${name} ${each}`));
    throw new UsageError(`${group} needs a command: ${ways.join(', ')}`);
  }
  const name = `${group} ${second}`;
  const command = commands.find((each) => each.name === name);
  if (command !== undefined) return parseCommand(command, rest);
  const known = commands.map((each) => each.name);
  throw new UsageError(unknownCommand(name, known, `gitaly-tls-proxy ${group} --help`));
}

function parseCommand(command: CommandEntry, args: readonly string[]): Command {
  const { name, words, flags, read } = command;
  const given = new Given(parseFlags(args, [...flags, ...COMMON_FLAGS]));
  if (given.has('help')) return { command: 'print', text: helpOf(command) };
  if (given.has('version')) return { command: 'version' };
  const [stray] = given.words;
  if (words === undefined && stray !== undefined) {
    throw new UsageError(
      `${name} takes flags only, not ${JSON.stringify(stray)}; see gitaly-tls-proxy ${name} --help`,
    );
  }
  if (words !== undefined && given.words.length > words.most)
    throw new UsageError(`${name} takes ${words.most === 1 ? 'one' : words.most} ${words.label}`);
  return read(given);
}

function unknownCommand(given: string, known: readonly string[], help: string): string {
  const meant = nearest(given, known);
  const hint = meant === undefined ? `see ${help}` : `did you mean ${meant}?`;
  return `unknown command ${JSON.stringify(given)}; ${hint}`;
}
