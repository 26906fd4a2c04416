import { pino, stdTimeFunctions } from 'pino';
import { prettyFactory } from 'pino-pretty';

import type { LogFormat, Logging, LogLevel } from '../config/model.js';
import type { LogSink } from './log-sink.js';

/** Fields of a log line: flat, with dotted keys, as Gitaly writes them. `undefined` leaves a field out. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** The program's log. */
export interface Logger {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  /** Level and format from now on. */
  configure(logging: Logging): void;
  readonly sink: LogSink;
}

/** logrus, which Gitaly logs with, writes `warning` where pino says `warn`. */
const LOGRUS_LEVELS: Readonly<Record<string, string>> = { warn: 'warning' };

/** Makes the log: JSON lines in Gitaly's shape, or text for a terminal. */
export function createLogger(sink: LogSink, initial: Logging): Logger {
  const pretty = prettyFactory({
    colorize: false,
    ignore: 'pid,hostname',
    singleLine: true,
    translateTime: false,
  });
  let format: LogFormat = initial.format;
  const log = pino(
    {
      level: initial.level,
      base: null,
      messageKey: 'msg',
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: LOGRUS_LEVELS[label] ?? label }) },
    },
    { write: (line: string) => sink.write(format === 'json' ? line : pretty(line)) },
  );
  const at =
    (level: LogLevel) =>
    (fields: LogFields, message: string): void =>
      log[level](fields, message);
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
