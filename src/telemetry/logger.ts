import { pino } from 'pino';
import { prettyFactory } from 'pino-pretty';

import type { Logging } from '../config/model.js';
import {
  LOG_EVENTS,
  type EventDefinition,
  type EventId,
  type EventVariant,
  type EventFields,
} from './events.js';
import type { LogSink } from './log-sink.js';
import { MAX_LOG_FIELD_LENGTH } from '../limits.js';
import { cut, printableText } from '../printable.js';

/** The settings that apply to lines of every kind. */
type LineLogging = Pick<Logging, 'level' | 'format'>;

/** Writes lines of one event. `message` replaces the message of the table, if that has placeholders. */
export type LogBound<Id extends EventId, Bound extends keyof EventFields<Id>> = (
  fields: Omit<EventFields<Id>, Bound>,
  message?: string,
) => void;

/** The program's log: writes events, each with its fields. Level and message come from `LOG_EVENTS`. */
export interface Logger {
  log<Id extends EventId>(event: Id, fields: EventFields<Id>): void;
  /** Whether the log level allows a line of an event with these fields. */
  isEnabled<Id extends EventId>(event: Id, fields: Partial<EventFields<Id>>): boolean;
  /** Serialises once the fields that many lines of an event share. */
  bind<Id extends EventId, Bound extends keyof EventFields<Id>>(
    event: Id,
    fields: Pick<EventFields<Id>, Bound>,
  ): LogBound<Id, Bound>;
  /** Writes complete lines that another process formatted. */
  readonly relay: (lines: string, isUrgent: boolean) => void;
  /** Applies level and format to all later lines. */
  configure(logging: LineLogging): void;
  readonly sink: LogSink;
}

/** The names of the levels in logrus, which Gitaly uses. */
const LEVEL_WORDS: Readonly<Record<string, string>> = {
  debug: 'debug',
  info: 'info',
  warn: 'warning',
  error: 'error',
};

/**
 * Fields whose value is never written. No line has such a field today; the list is a safeguard in case metadata or headers are
 * ever logged as fields.
 */
const SECRET_PATHS = [
  'authorization',
  'gitaly-servers',
  'gitlab-shell-api-request',
  'gitlab-shared-secret',
  'private-token',
  'job-token',
  'cookie',
  'set-cookie',
  'token',
  'password',
  'passphrase',
  'private_key',
].flatMap((name) => ['', 'grpc.meta.', 'http.header.'].map((prefix) => `["${prefix}${name}"]`));

/** Creates the log: JSON lines in Gitaly's format, or text for a terminal. */
export function createLogger(sink: LogSink, initial: LineLogging): Logger {
  let { format } = initial;
  let isLineUrgent = false;
  let reportedDrops = 0;
  const relay = (text: string, isUrgent: boolean): void => {
    const droppedBefore = sink.droppedLines;
    sink.write(text, isUrgent);
    // The first line after a gap reports the gap. If that report is dropped too, a later line repeats it.
    const lines = droppedBefore - reportedDrops;
    if (lines === 0 || sink.droppedLines > droppedBefore) return;
    reportedDrops = droppedBefore;
    log('log_lines_dropped', { lines });
    if (sink.droppedLines > droppedBefore) reportedDrops -= lines;
  };
  const root = pino(
    {
      level: initial.level,
      base: null,
      timestamp: () => `,"time":"${timestamp()}"`,
      formatters: { level: (label) => ({ level: LEVEL_WORDS[label] ?? label }), log: printableFields },
      redact: { paths: SECRET_PATHS, censor: '[redacted]' },
    },
    { write: (line) => relay(format === 'json' ? line : pretty(line), isLineUrgent) },
  );
  const write = (instance: pino.Logger, event: EventId, fields: LogFields, text?: string): void => {
    const definition: EventDefinition = LOG_EVENTS[event];
    const variant = variantOf(definition, fields);
    const level = variant?.level ?? definition.level;
    isLineUrgent = definition.isUrgent ?? (level === 'warn' || level === 'error');
    instance[level](fields, text ?? variant?.message ?? definition.message);
  };
  const log = <Id extends EventId>(event: Id, fields: EventFields<Id>): void => {
    const definition: EventDefinition = LOG_EVENTS[event];
    const { error = definition.error, fix = definition.fix } = variantOf(definition, fields) ?? {};
    // `error` and `fix` come first, whether they are from the table or from the caller.
    write(root, event, { event, error, fix, ...fields });
  };
  return {
    log,
    isEnabled: (event, fields) => {
      const definition: EventDefinition = LOG_EVENTS[event];
      return root.isLevelEnabled(variantOf(definition, fields)?.level ?? definition.level);
    },
    bind: (event, fields) => {
      // A pino child without options has no level of its own and follows the root's.
      const child = root.child(printableFields({ event, ...fields }));
      return (more, text) => write(child, event, more, text);
    },
    relay,
    configure: (logging) => {
      format = logging.format;
      root.level = logging.level;
    },
    sink,
  };
}

function variantOf({ variants }: EventDefinition, fields: LogFields): EventVariant | undefined {
  const value = variants && fields[variants.field];
  return typeof value === 'string' ? variants?.of[value] : undefined;
}

/** Formats a line for a terminal: time, level, event and message, then the fields. */
const pretty = prettyFactory({
  colorize: false,
  ignore: 'pid,hostname,event',
  singleLine: true,
  translateTime: false,
  messageFormat: '{event}: {msg}',
  // By default, pino-pretty prints `error` on a line of its own.
  errorLikeObjectKeys: [],
  // By default, pino-pretty prints USERLVL for logrus's `warning`.
  customPrettifiers: { level: (level) => (typeof level === 'string' ? level.toUpperCase() : '') },
});

/** Fields of a log line: flat, with dotted keys, as in Gitaly's log. Fields that are `undefined` are omitted. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** Matches values that need no escaping in JSON or on a terminal, as nearly all do. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** Limits the length of all strings and escapes characters that a terminal interprets. The writer adds JSON's own escapes. */
function printableFields<Fields extends Readonly<Record<string, unknown>>>(
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

/** The current time as RFC 3339 in UTC with milliseconds. Lines of the same millisecond share the string. */
function timestamp(): string {
  const now = Date.now();
  if (now !== writtenMs) {
    writtenMs = now;
    written = new Date(now).toISOString();
  }
  return written;
}
