import { cut, printableText } from '../printable.js';

/** Fields of a log line: flat, with dotted keys, as in Gitaly's log. Fields that are `undefined` are omitted. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** Limits a field, so that a client's certificate or ClientHello cannot fill a disk. */
const MAX_FIELD_LENGTH = 8192;

/** Matches values that need no escaping in JSON or on a terminal, as nearly all do. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** Limits the length of all strings and escapes characters that a terminal interprets. The writer adds JSON's own escapes. */
export function printableFields<Fields extends Readonly<Record<string, unknown>>>(
  fields: Fields,
): Fields | Record<string, unknown> {
  for (const name in fields) {
    const value: unknown = fields[name];
    if (typeof value === 'string' && !isPlain(value)) return escapeAll(fields);
  }
  return fields;
}

function isPlain(value: string): boolean {
  return value.length <= MAX_FIELD_LENGTH && PLAIN.test(value);
}

function escapeAll(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, typeof value === 'string' ? escaped(value) : value]),
  );
}

function escaped(value: string): string {
  if (isPlain(value)) return value;
  return printableText(cut(value, MAX_FIELD_LENGTH));
}

let writtenMs = Number.NaN;
let written = '';

/** The current time as RFC 3339 in UTC with milliseconds. Lines of the same millisecond share the string. */
export function timestamp(): string {
  const now = Date.now();
  if (now !== writtenMs) {
    writtenMs = now;
    written = new Date(now).toISOString();
  }
  return written;
}
