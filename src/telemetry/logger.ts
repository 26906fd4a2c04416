import { pino, stdTimeFunctions } from 'pino';
import { prettyFactory } from 'pino-pretty';

import type { LogFormat, Logging, LogLevel } from '../config/model.js';
import type { LogSink } from './log-sink.js';

/** Fields of a log line: flat, with dotted keys, as Gitaly writes them. `undefined` leaves a field out. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** What of the settings is about lines of every kind. */
export type LineLogging = Pick<Logging, 'level' | 'format'>;

/** The program's log. */
export interface Logger {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  /** Level and format from now on. */
  configure(logging: LineLogging): void;
  readonly sink: LogSink;
}

/** logrus, which Gitaly logs with, writes `warning` where pino says `warn`. */
const LOGRUS_LEVELS: Readonly<Record<string, string>> = { warn: 'warning' };

/** A field is at most this long: what a peer may put into a certificate or a ClientHello fills no disk. */
const MAX_FIELD_LENGTH = 8192;

/**
 * What JSON leaves as it is and a terminal obeys or an eye is fooled by: DEL, C1 controls (U+009B begins a control
 * sequence), line and paragraph separators, and the marks that turn the direction of text.
 */
const UNPRINTABLE = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

function printable(fields: LogFields): LogFields {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, typeof value === 'string' ? escaped(value) : value]),
  );
}

function escaped(text: string): string {
  const bounded = text.length > MAX_FIELD_LENGTH ? `${text.slice(0, MAX_FIELD_LENGTH)}…` : text;
  return bounded.replace(
    UNPRINTABLE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Makes the log: JSON lines in Gitaly's shape, or text for a terminal. */
export function createLogger(sink: LogSink, initial: LineLogging): Logger {
  const pretty = prettyFactory({
    colorize: false,
    ignore: 'pid,hostname',
    singleLine: true,
    translateTime: false,
    // It knows pino's `warn` and calls logrus's `warning` USERLVL.
    customPrettifiers: { level: (level) => (typeof level === 'string' ? level.toUpperCase() : '') },
  });
  let format: LogFormat = initial.format;
  let droppedAndTold = 0;
  const write = (line: string): void => {
    const droppedBefore = sink.droppedLines;
    sink.write(format === 'json' ? line : pretty(line));
    // The first line that is taken again tells of the gap before it; where its notice finds no room, a later one does.
    const lines = droppedBefore - droppedAndTold;
    if (lines === 0 || sink.droppedLines > droppedBefore) return;
    droppedAndTold = droppedBefore;
    log.warn({ lines }, 'log lines were dropped before this one: nobody took them in time');
    if (sink.droppedLines > droppedBefore) droppedAndTold -= lines;
  };
  const log = pino(
    {
      level: initial.level,
      base: null,
      messageKey: 'msg',
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: LOGRUS_LEVELS[label] ?? label }) },
    },
    { write },
  );
  const at =
    (level: LogLevel) =>
    (fields: LogFields, message: string): void => {
      if (log.isLevelEnabled(level)) log[level](printable(fields), message);
    };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    configure: (logging) => {
      log.level = logging.level;
      format = logging.format;
    },
    sink,
  };
}
