import { MAX_SHOWN_VALUE_LENGTH } from '../limits.js';
import { printable } from '../printable.js';
import type { KeyPath, Problem } from './model.js';

/** Finds the line (from 1) of a key in the file, or of its nearest ancestor in the file. */
export type Locate = (key: KeyPath) => number | undefined;

/**
 * A problem as one line for a terminal: `FILE:LINE: listeners[0].listen: message (got "x")`.
 *
 * @param source - the name of the file; absent if the configuration is from flags.
 */
export function formatProblem(
  problem: Problem,
  source: { readonly file: string | undefined; readonly locate: Locate },
): string {
  const line = problem.line ?? source.locate(problem.key);
  const place =
    source.file === undefined ? [] : [line === undefined ? source.file : `${source.file}:${line}`];
  const severity = problem.severity === 'warning' ? ['warning'] : [];
  const key = problem.key.length === 0 ? [] : [formatKey(problem.key)];
  const value = isScalar(problem.value) ? ` (got ${quote(problem.value)})` : '';
  return printable(`${[...place, ...severity, ...key, problem.message].join(': ')}${value}`);
}

/** Formats a key path for messages: `listeners[0].tls.key_path`. */
export function formatKey(key: KeyPath): string {
  return key.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    const shown = /[\s\p{Cc}]/u.test(part) ? JSON.stringify(part) : part;
    return text === '' ? shown : `${text}.${shown}`;
  }, '');
}

/** Whether a message can show the value. */
export function isScalar(value: unknown): value is string | number | boolean | null {
  return (
    value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
  );
}

function quote(value: string | number | boolean | null): string {
  if (typeof value !== 'string') return String(value);
  const short = value.length > MAX_SHOWN_VALUE_LENGTH ? `${value.slice(0, MAX_SHOWN_VALUE_LENGTH)}…` : value;
  return JSON.stringify(short);
}
