import type { CreateRequest } from './certificates/create.js';
import type { Place } from './certificates/inspect/inspection-report.js';
import type { Address } from '../config/model.js';
import type { ServeSource } from '../config/serve-source.js';
import type { ImportRequest } from './import/run-import.js';
import type { SuggestRequest } from './policy/run-suggest.js';
import type { PolicyTestRequest } from './policy/test-rule.js';
import type { RehearseRequest } from './rehearse/run-rehearse.js';

/** A parsed command line. */
export type Command =
  | { readonly command: 'serve'; readonly source: ServeSource }
  | { readonly command: 'demo' }
  | { readonly command: 'check'; readonly options: CheckOptions }
  /** Run by the worker processes that the primary process starts; not available on the command line. */
  | { readonly command: 'worker' }
  | { readonly command: 'configuration validate'; readonly file: string | undefined }
  | { readonly command: 'configuration import'; readonly request: ImportRequest }
  | { readonly command: 'configuration rehearse'; readonly request: RehearseRequest }
  | { readonly command: 'policy suggest'; readonly request: SuggestRequest }
  | { readonly command: 'policy test'; readonly request: PolicyTestRequest }
  | { readonly command: 'certificates create'; readonly request: CreateRequest }
  | {
      readonly command: 'certificates inspect';
      readonly places: readonly Place[];
      readonly json: boolean;
    }
  | {
      readonly command: 'audit verify';
      readonly files: readonly string[];
      /** Hashes that a line must have. */
      readonly hashes: readonly string[];
    }
  | { readonly command: 'rpcs'; readonly from: string }
  /** Prints a text: help, a completion script or the manual page. */
  | { readonly command: 'print'; readonly text: string }
  | { readonly command: 'version' }
  | { readonly command: 'usage error'; readonly message: string };

/** The options of `check`. */
export interface CheckOptions {
  readonly addresses: readonly { readonly written: string; readonly address: Address }[];
  /** A configuration file of the proxy whose listeners and forwards are all checked. */
  readonly through: string | undefined;
  /** A file or a directory of trusted authorities. */
  readonly ca: string | undefined;
  /** Paths. */
  readonly clientPair: { readonly cert: string; readonly key: string } | undefined;
  readonly tokenFile: string | undefined;
  readonly serverName: string | undefined;
  readonly timeoutMs: number;
  readonly json: boolean;
}

/** A command. Its help, its shell completion and its section of the manual page are generated from this. */
export interface CommandEntry {
  /** One or two words, such as `configuration validate`. */
  readonly name: string;
  /** One phrase for a list of commands, without a capital and a full stop. */
  readonly summary: string;
  /** The first paragraphs of its help. */
  readonly description: readonly string[];
  /** The arguments after the name, one way of use per element; `''` for no arguments. */
  readonly usage: readonly string[];
  readonly words?: Positionals;
  readonly flags: readonly CommandFlag[];
  /** Command lines to copy. A test runs each of them. */
  readonly examples: readonly Example[];
  /** @throws {UsageError} when the flags and words make no sense together. */
  readonly read: (given: Given) => Command;
}

/** The arguments of a command that are not flags. */
interface Positionals {
  /** The name in help texts, for example `FILE`. */
  readonly label: string;
  readonly most: number;
  readonly completes: Completes;
}

export interface CommandFlag {
  /** Without the dashes. */
  readonly name: string;
  /** The one-letter form, without the dash. */
  readonly short?: string;
  /** Its value; `undefined` for a flag without one. */
  readonly value?: { readonly label: string; readonly completes: Completes };
  readonly repeatable?: boolean;
  /** Whether the next words are further values: `--server a b` means `--server a --server b`. */
  readonly takesMore?: boolean;
  /** Its purpose in one phrase, without a capital and a full stop. */
  readonly text: string;
}

/** The proposals of shell completion: file names, directory names, some words, or nothing. */
export type Completes = 'file' | 'directory' | 'nothing' | readonly string[];

export interface Example {
  /** Its purpose in one phrase, without a capital and a full stop. */
  readonly text: string;
  /** One line for a POSIX shell. */
  readonly line: string;
}

/** The flags of every command. */
export const COMMON_FLAGS: readonly CommandFlag[] = [
  { name: 'help', short: 'h', text: 'print help for the program or for a command' },
  { name: 'version', short: 'V', text: 'print the version' },
];

/** A flag with its value, or another argument. */
export type Argument =
  | { readonly kind: 'flag'; readonly name: string; readonly value: string | undefined }
  | { readonly kind: 'word'; readonly word: string };

/** The arguments of a command, in the order of the command line. */
export class Given {
  constructor(readonly found: readonly Argument[]) {}

  get words(): readonly string[] {
    return this.found.flatMap((argument) => (argument.kind === 'word' ? [argument.word] : []));
  }

  get flags(): readonly (Argument & { readonly kind: 'flag' })[] {
    return this.found.flatMap((argument) => (argument.kind === 'flag' ? [argument] : []));
  }

  has(name: string): boolean {
    return this.flags.some((flag) => flag.name === name);
  }

  /** The value of a flag that may be given once. */
  value(name: string): string | undefined {
    return this.values(name)[0];
  }

  /** The values of a flag that may be repeated. */
  values(name: string): readonly string[] {
    return this.flags.flatMap((flag) => (flag.name === name && flag.value !== undefined ? [flag.value] : []));
  }
}
