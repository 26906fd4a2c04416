import { MAX_LOG_FIELD_LENGTH } from '../limits.js';
import { cut, printableText } from '../printable.js';

/** Fields of a log line: flat, with dotted keys, as Gitaly writes them. `undefined` leaves a field out. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** Matches values that need no escaping, in JSON and on a terminal; nearly all values do. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** Bounds all texts and escapes what a terminal interprets; JSON's own escapes are left to the writer. */
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
  return value.length <= MAX_LOG_FIELD_LENGTH && PLAIN.test(value);
}

function escapeAll(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, typeof value === 'string' ? escaped(value) : value]),
  );
}

function escaped(value: string): string {
  if (isPlain(value)) return value;
  return printableText(cut(value, MAX_LOG_FIELD_LENGTH));
}

let writtenMs = Number.NaN;
let written = '';

/** The current time as RFC 3339 in UTC with milliseconds; lines of one millisecond share the text. */
export function timestamp(): string {
  const now = Date.now();
  if (now !== writtenMs) {
    writtenMs = now;
    written = new Date(now).toISOString();
  }
  return written;
}
