import { resolve } from 'node:path';
import type { FileSetting, KeyPath, Problem } from './model.js';

/** The environment variables that name certificate authorities, as in Go and OpenSSL. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The type of a path, with links followed, or the reason why it is unknown. */
export type PathKind = 'file' | 'directory' | { readonly reason: string };
export type KindOfPath = (path: string) => PathKind;

/** The text of a file, or the reason why it cannot be read. */
export type TextOfFile = (path: string) => string | { readonly reason: string };

/** The context in which the parts of a configuration are validated. */
export interface BuildContext {
  /** Relative paths are relative to it. */
  readonly directory: string;
  readonly env: Environment;
  readonly kindOf: KindOfPath;
  readonly textOf: TextOfFile;
  /** Whether the schema has already reported a problem with a key, or with one above it. */
  readonly isBroken: (key: KeyPath) => boolean;
  /** The operator's name of a key: the key itself, or the flag that sets it. */
  readonly nameKey: (key: KeyPath) => KeyPath;
  readonly report: (problem: Problem) => void;
}

/** A value of the file and its key. */
export interface Written<T> {
  readonly value: T;
  readonly key: KeyPath;
}

export function reportError(context: BuildContext, key: KeyPath, message: string, value?: unknown): void {
  context.report({ severity: 'error', key, message, ...(value === undefined ? {} : { value }) });
}

export function reportWarning(context: BuildContext, key: KeyPath, message: string, value?: unknown): void {
  context.report({ severity: 'warning', key, message, ...(value === undefined ? {} : { value }) });
}

export function fileSetting(context: BuildContext, written: Written<string>): FileSetting {
  return { path: resolve(context.directory, written.value), key: context.nameKey(written.key) };
}
