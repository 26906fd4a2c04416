import { parseArgs } from 'node:util';
import { nearest } from '../config/nearest.js';

/** A flag as it was written, or a word without dashes. */
export type Argument =
  | { readonly kind: 'flag'; readonly name: string; readonly value: string | undefined }
  | { readonly kind: 'word'; readonly word: string };

/** The flags of a command by name: whether each takes a value, and whether it may be repeated. */
export type FlagTable = Readonly<Record<string, { readonly value: boolean; readonly repeatable?: boolean }>>;

/** Something wrong with the command line, in words for whoever typed it. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/**
 * Reads the arguments of one command in the order they were written. `--help` and `-h` are known everywhere.
 *
 * @throws {UsageError} for an unknown flag (with the nearest known one), a missing or superfluous value, or a flag
 * given twice.
 */
export function parseFlags(args: readonly string[], flags: FlagTable): Argument[] {
  const known: FlagTable = { ...flags, help: { value: false } };
  const options = Object.fromEntries(
    Object.entries(known).map(([name, flag]) => [
      name,
      {
        type: flag.value ? ('string' as const) : ('boolean' as const),
        ...(name === 'help' ? { short: 'h' } : {}),
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
  for (const token of tokens) {
    if (token.kind === 'option-terminator') continue;
    if (token.kind === 'positional') {
      found.push({ kind: 'word', word: token.value });
      continue;
    }
    const flag = Object.hasOwn(known, token.name) ? known[token.name] : undefined;
    if (flag === undefined) throw new UsageError(unknownFlag(token.rawName, Object.keys(known)));
    const given = token.rawName;
    if (flag.value) {
      // A value that starts with a dash is a forgotten value, unless it was joined by an equals sign.
      const forgotten =
        token.value === undefined || token.value === '' || (!token.inlineValue && /^-./u.test(token.value));
      if (forgotten) throw new UsageError(`${given} needs a value`);
    } else if (token.value !== undefined) {
      throw new UsageError(`${given} takes no value`);
    }
    if (seen.has(token.name) && flag.repeatable !== true && flag.value) {
      throw new UsageError(`${given} is given twice`);
    }
    seen.add(token.name);
    found.push({ kind: 'flag', name: token.name, value: token.value });
  }
  return found;
}

function unknownFlag(given: string, names: readonly string[]): string {
  const meant = nearest(given.replace(/^-+/u, ''), names);
  return `unknown flag ${given}; ${meant === undefined ? 'see --help' : `did you mean --${meant}?`}`;
}
