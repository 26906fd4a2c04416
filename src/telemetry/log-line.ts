import { cut, printable, printableText } from '../printable.js';

/** Fields of a log line: flat, with dotted keys, as Gitaly writes them. `undefined` leaves a field out. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

declare const fieldsTextBrand: unique symbol;

/** Fields as they stand in a line, `,"name":value` each: what many lines share is made text once. */
export type FieldsText = string & { readonly [fieldsTextBrand]: true };

/** A field is at most this long: what a peer may put into a certificate or a ClientHello fills no disk. */
const MAX_FIELD_LENGTH = 8192;

/** What stands between the quotes of JSON as it is, and on a terminal as well; nearly every value. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** A value in JSON, bounded and printable. */
export function jsonValue(value: string | number | boolean): string {
  if (typeof value === 'string') {
    return value.length <= MAX_FIELD_LENGTH && PLAIN.test(value) ? `"${value}"` : escaped(value);
  }
  // JSON has no word for what is no number.
  return typeof value === 'number' && !Number.isFinite(value) ? 'null' : String(value);
}

/** The text of some fields. Names are the program's own: plain, and none twice in a line. */
export function fieldsText(fields: LogFields): FieldsText {
  let text = '';
  for (const name in fields) {
    const value = fields[name];
    if (value !== undefined) text += `,"${name}":${jsonValue(value)}`;
  }
  return text as FieldsText;
}

/** One line in JSON: level, time, fields, message. */
export function jsonLine(level: string, fields: FieldsText, message: string): string {
  // The text format prints this field without escaping.
  const text = PLAIN.test(message) ? `"${message}"` : jsonValue(printable(message));
  return `{"level":"${level}","time":"${timestamp()}"${fields},"msg":${text}}\n`;
}

function escaped(value: string): string {
  return JSON.stringify(printableText(cut(value, MAX_FIELD_LENGTH)));
}

let writtenMs = Number.NaN;
let written = '';

/** RFC 3339 in UTC with milliseconds; lines of one millisecond share it. */
function timestamp(): string {
  const now = Date.now();
  if (now !== writtenMs) {
    writtenMs = now;
    written = new Date(now).toISOString();
  }
  return written;
}
