import { MAX_LOGGED } from '../../limits.js';
import { cut, printableJson } from '../../printable.js';

type Value = string | number | boolean | readonly string[] | undefined;

/** The content of an audit line: JSON on one line, with `event` and `time` first. Fields that are `undefined` are left out. */
export function auditBody(event: string, fields: Readonly<Record<string, Value>>): string {
  const body: Record<string, Value> = { event, time: new Date().toISOString() };
  for (const [name, value] of Object.entries(fields))
    body[name] = typeof value === 'string' ? cut(value, MAX_LOGGED.auditField) : value;
  return printableJson(body);
}
