import { prettyFactory } from 'pino-pretty';

import type { Logging, LogLevel } from '../config/model.js';
import { fieldsText, jsonLine, type FieldsText, type LogFields } from './log-line.js';
import type { LogSink } from './log-sink.js';

/** What of the settings is about lines of every kind. */
export type LineLogging = Pick<Logging, 'level' | 'format'>;

/**
 * Writes a line; its fields may be text already. `isUrgent`: the line is kept when others are dropped. The default is true for
 * warnings and errors.
 */
export type LogAt = (fields: LogFields | FieldsText, message: string, isUrgent?: boolean) => void;

/** The program's log. */
export interface Logger {
  readonly debug: LogAt;
  readonly info: LogAt;
  readonly warn: LogAt;
  readonly error: LogAt;
  /** Whether lines of this level are written. */
  isEnabled(level: LogLevel): boolean;
  /** Passes on what another process has written, whole lines. */
  readonly relay: (lines: string, isUrgent: boolean) => void;
  /** Level and format from now on. */
  configure(logging: LineLogging): void;
  readonly sink: LogSink;
}

/** How the levels follow each other, and each in the words of logrus, which Gitaly logs with. */
const LEVELS: Readonly<Record<LogLevel, { readonly rank: number; readonly word: string }>> = {
  debug: { rank: 0, word: 'debug' },
  info: { rank: 1, word: 'info' },
  warn: { rank: 2, word: 'warning' },
  error: { rank: 3, word: 'error' },
};

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
  let { level: least, format } = initial;
  let droppedAndTold = 0;
  const relay = (text: string, isUrgent: boolean): void => {
    const droppedBefore = sink.droppedLines;
    sink.write(text, isUrgent);
    // The first line that is taken again tells of the gap before it; where its notice finds no room, a later one does.
    const lines = droppedBefore - droppedAndTold;
    if (lines === 0 || sink.droppedLines > droppedBefore) return;
    droppedAndTold = droppedBefore;
    warn({ lines }, 'log lines were dropped before this one: nobody took them in time');
    if (sink.droppedLines > droppedBefore) droppedAndTold -= lines;
  };
  const at = (level: LogLevel): LogAt => {
    const { rank, word } = LEVELS[level];
    return (fields, message, isUrgent = rank >= LEVELS.warn.rank) => {
      if (rank < LEVELS[least].rank) return;
      const line = jsonLine(word, typeof fields === 'string' ? fields : fieldsText(fields), message);
      relay(format === 'json' ? line : pretty(line), isUrgent);
    };
  };
  const warn = at('warn');
  return {
    debug: at('debug'),
    info: at('info'),
    warn,
    error: at('error'),
    isEnabled: (level) => LEVELS[level].rank >= LEVELS[least].rank,
    relay,
    configure: (logging) => {
      ({ level: least, format } = logging);
    },
    sink,
  };
}
