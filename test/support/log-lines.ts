import type { Readable } from 'node:stream';

import type { EventId } from '../../src/telemetry/events.js';
import type { LogFields } from '../../src/telemetry/logger.js';

/** A JSON log line. */
export type LogLine = Readonly<Record<string, unknown>>;

/** Collects the log lines of a program and lets tests wait for one. */
export class LogLines {
  readonly lines: LogLine[] = [];
  /** Everything that was written, as it was written. */
  text = '';
  readonly #waiting = new Set<() => void>();
  #rest = '';
  #ended = false;
  #follower: ((line: LogLine) => void) | undefined;

  constructor(stream: Readable) {
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      this.text += chunk;
      const parts = (this.#rest + chunk).split('\n');
      this.#rest = parts.pop() ?? '';
      for (const part of parts) {
        const line = parseLine(part);
        if (!line) continue;
        this.lines.push(line);
        this.#follower?.(line);
      }
      for (const look of [...this.#waiting]) look();
    });
    stream.on('end', () => {
      this.#ended = true;
      for (const look of [...this.#waiting]) look();
    });
  }

  /** Has each line from now on, as it comes. */
  follow(follower: (line: LogLine) => void): void {
    this.#follower = follower;
  }

  /** The first line, also of those that came before, that a predicate accepts. Rejects when the program ends without one. */
  waitFor(predicate: (line: LogLine) => boolean): Promise<LogLine> {
    return this.#until(() => this.lines.find(predicate));
  }

  /** Waits until the output contains this text, and returns all of it; for output that is not a log. Rejects if the program ends without it. */
  waitForText(text: string): Promise<string> {
    return this.#until(() => (this.text.includes(text) ? this.text : undefined));
  }

  /** The first line of an event, with these fields. */
  waitForEvent(id: EventId, match: LogFields = {}): Promise<LogLine> {
    return this.waitFor(
      (line) => line['event'] === id && Object.entries(match).every(([name, value]) => line[name] === value),
    );
  }

  /** The line of the first connection that ended for this reason. */
  waitForClose(reason: string): Promise<LogLine> {
    return this.waitForEvent('connection_closed', { 'close.reason': reason });
  }

  #until<T>(find: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const found = find();
        if (found !== undefined) resolve(found);
        else if (this.#ended) reject(new Error(`the program ended without it; it wrote:\n${this.text}`));
        else return;
        this.#waiting.delete(look);
      };
      this.#waiting.add(look);
      look();
    });
  }
}

function parseLine(text: string): LogLine | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
