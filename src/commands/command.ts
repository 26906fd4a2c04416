import type { CreateRequest } from './certificates/create.js';
import type { Place } from './certificates/inspect/inspection-report.js';
import type { Address } from '../config/model.js';
import type { ServeSource } from '../config/serve-source.js';
import type { ImportRequest } from './import/run-import.js';

/** What the command line asks for. */
export type Command =
  | { readonly command: 'serve'; readonly source: ServeSource }
  | { readonly command: 'demo' }
  | { readonly command: 'check'; readonly options: CheckOptions }
  /** Not on the command line: what a process runs that the primary process has started to serve connections. */
  | { readonly command: 'worker' }
  | { readonly command: 'configuration validate'; readonly file: string | undefined }
  | { readonly command: 'configuration import'; readonly request: ImportRequest }
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
  /** What is asked for is a text: help, a script for a shell, the manual. */
  | { readonly command: 'print'; readonly text: string }
  | { readonly command: 'version' }
  | { readonly command: 'usage error'; readonly message: string };

/** What `check` is told. */
export interface CheckOptions {
  readonly addresses: readonly { readonly written: string; readonly address: Address }[];
  /** A configuration of the proxy, all of which is checked. */
  readonly through: string | undefined;
  /** A file or a directory of authorities. */
  readonly ca: string | undefined;
  /** Paths. */
  readonly clientPair: { readonly cert: string; readonly key: string } | undefined;
  readonly tokenFile: string | undefined;
  readonly serverName: string | undefined;
  readonly timeoutMs: number;
  readonly json: boolean;
}

/** A command as the command line, its help, the completion of shells and the manual know it. */
export interface CommandEntry {
  /** One or two words, such as `configuration validate`. */
  readonly name: string;
  /** What it does, for a list of commands; no capital, no full stop. */
  readonly summary: string;
  /** What its help says first, in paragraphs. */
  readonly description: readonly string[];
  /** What follows the name, each way of using it a line; `''` for nothing. */
  readonly usage: readonly string[];
  readonly words?: Words;
  readonly flags: readonly CommandFlag[];
  /** Command lines to copy. A test runs each of them. */
  readonly examples: readonly Example[];
  /** @throws {UsageError} when the flags and words make no sense together. */
  readonly read: (given: Given) => Command;
}

/** The words without dashes that a command takes. */
interface Words {
  /** What one is called, such as `FILE`. */
  readonly label: string;
  readonly most: number;
  readonly completes: Completes;
}

export interface CommandFlag {
  /** Without its dashes. */
  readonly name: string;
  /** One letter that stands for it. */
  readonly short?: string;
  /** What follows it; without it, nothing does. */
  readonly value?: { readonly label: string; readonly completes: Completes };
  readonly repeatable?: boolean;
  /** Whether words that follow its value are more of its values: `--server a b` is `--server a --server b`. */
  readonly takesMore?: boolean;
  /** What it is for; no capital, no full stop. */
  readonly text: string;
}

/** What a shell proposes: names of files, of directories, one of some words, or nothing. */
export type Completes = 'file' | 'directory' | 'nothing' | readonly string[];

export interface Example {
  /** What it shows; no capital, no full stop. */
  readonly text: string;
  /** One line for a POSIX shell. */
  readonly line: string;
}

/** The flags of every command. */
export const COMMON_FLAGS: readonly CommandFlag[] = [
  { name: 'help', short: 'h', text: 'what the program does, or the command before it' },
  { name: 'version', short: 'V', text: 'the version' },
];

/** A flag as it was written, or a word without dashes. */
export type Argument =
  | { readonly kind: 'flag'; readonly name: string; readonly value: string | undefined }
  | { readonly kind: 'word'; readonly word: string };

/** What was given to a command, in the order it was written. */
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
