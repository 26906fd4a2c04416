import { parseArgs } from 'node:util';

import { nearest } from '../config/nearest.js';
import type { CommandFlag, Argument } from './command.js';

/** A mistake on the command line. Its message is printed to the user. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/**
 * Parses the arguments of one command and keeps their order.
 *
 * @throws {UsageError} for an unknown flag (with the nearest known one), a missing or superfluous value, or a flag
 * given twice.
 */
export function parseFlags(args: readonly string[], flags: readonly CommandFlag[]): Argument[] {
  const known = new Map(flags.map((flag) => [flag.name, flag]));
  const options = Object.fromEntries(
    flags.map(({ name, short, value }) => [
      name,
      {
        type: value === undefined ? ('boolean' as const) : ('string' as const),
        ...(short === undefined ? {} : { short }),
      },
    ]),
  );
  const { tokens } = parseArgs({
    args: [...args],
    options,
    strict: false,
    tokens: true,
    allowPositionals: true,
  });
  const seen = new Set<string>();
  const found: Argument[] = [];
  /** The flag that takes the next words as further values. */
  let open: string | undefined;
  for (const token of tokens) {
    if (token.kind === 'option-terminator') {
      open = undefined;
      continue;
    }
    if (token.kind === 'positional') {
      found.push(
        open === undefined
          ? { kind: 'word', word: token.value }
          : { kind: 'flag', name: open, value: token.value },
      );
      continue;
    }
    const flag = known.get(token.name);
    if (flag === undefined) throw new UsageError(unknownFlag(token.rawName, [...known.keys()]));
    const given = token.rawName;
    if (flag.value !== undefined) {
      // If the next argument starts with a dash, the value is missing, unless an equals sign precedes it.
      const forgotten =
        token.value === undefined || token.value === '' || (!token.inlineValue && /^-./u.test(token.value));
      if (forgotten) throw new UsageError(`${given} needs a value`);
    } else if (token.value !== undefined) {
      throw new UsageError(`${given} takes no value`);
    }
    if (seen.has(token.name) && flag.repeatable !== true && flag.value !== undefined) {
      throw new UsageError(`${given} is given twice`);
    }
    seen.add(token.name);
    found.push({ kind: 'flag', name: token.name, value: token.value });
    open = flag.takesMore === true ? flag.name : undefined;
  }
  return found;
}

function unknownFlag(given: string, names: readonly string[]): string {
  const meant = nearest(given.replace(/^-+/u, ''), names);
  return `unknown flag ${given}; ${meant === undefined ? 'see --help' : `did you mean --${meant}?`}`;
}
