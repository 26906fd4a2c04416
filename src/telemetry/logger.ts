import { pino } from 'pino';
import { prettyFactory } from 'pino-pretty';

import type { Logging, LogLevel } from '../config/model.js';
import { printableFields, timestamp, type LogFields } from './log-line.js';
import type { LogSink } from './log-sink.js';

/** The settings that apply to lines of every kind. */
export type LineLogging = Pick<Logging, 'level' | 'format'>;

/** Writes a line. `isUrgent`: the line is kept when others are dropped. The default is true for warnings and errors. */
export type LogAt = (fields: LogFields, message: string, isUrgent?: boolean) => void;

/** Writes lines that have some fields in common. */
export interface LevelLogger {
  readonly debug: LogAt;
  readonly info: LogAt;
  readonly warn: LogAt;
  readonly error: LogAt;
  /** A logger whose lines begin with these fields, which are serialised once. It follows the level of this one. */
  child(fields: LogFields): LevelLogger;
}

/** The program's log. */
export interface Logger extends LevelLogger {
  /** Writes whole lines of another process. */
  readonly relay: (lines: string, isUrgent: boolean) => void;
  /** Applies level and format to all later lines. */
  configure(logging: LineLogging): void;
  readonly sink: LogSink;
}

/** The levels in the words of logrus, which Gitaly logs with. */
const LEVEL_WORDS: Readonly<Record<string, string>> = {
  debug: 'debug',
  info: 'info',
  warn: 'warning',
  error: 'error',
};

/**
 * Fields whose value is never written. No line has such a field; the list keeps it so if metadata or headers are ever passed on
 * as fields.
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

/** Makes the log: JSON lines in Gitaly's shape, or text for a terminal. */
export function createLogger(sink: LogSink, initial: LineLogging): Logger {
  const pretty = prettyFactory({
    colorize: false,
    ignore: 'pid,hostname',
    singleLine: true,
    translateTime: false,
    // It calls logrus's `warning` USERLVL.
    customPrettifiers: { level: (level) => (typeof level === 'string' ? level.toUpperCase() : '') },
  });
  let { format } = initial;
  let isLineUrgent = false;
  let reportedDrops = 0;
  const relay = (text: string, isUrgent: boolean): void => {
    const droppedBefore = sink.droppedLines;
    sink.write(text, isUrgent);
    // The first line after a gap reports the gap; if its notice is dropped too, a later line does.
    const lines = droppedBefore - reportedDrops;
    if (lines === 0 || sink.droppedLines > droppedBefore) return;
    reportedDrops = droppedBefore;
    levels.warn({ lines }, 'log lines were dropped before this one: nobody took them in time');
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
  const levelsOf = (instance: pino.Logger): LevelLogger => {
    const at =
      (level: LogLevel, isUrgentByDefault: boolean): LogAt =>
      (fields, message, isUrgent = isUrgentByDefault) => {
        isLineUrgent = isUrgent;
        instance[level](fields, message);
      };
    return {
      debug: at('debug', false),
      info: at('info', false),
      warn: at('warn', true),
      error: at('error', true),
      // Without options, a child of pino's has no level of its own and follows the root's.
      child: (fields) => levelsOf(instance.child(printableFields(fields))),
    };
  };
  const levels = levelsOf(root);
  return {
    ...levels,
    relay,
    configure: (logging) => {
      format = logging.format;
      root.level = logging.level;
    },
    sink,
  };
}
