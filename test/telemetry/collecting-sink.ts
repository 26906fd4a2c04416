import type { LogSink } from '../../src/telemetry/log-sink.js';

/** A sink that keeps what it is given. */
export class CollectingSink implements LogSink {
  readonly lines: string[] = [];
  readonly droppedLines = 0;

  write(line: string): void {
    this.lines.push(line);
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  /** The parsed lines. */
  get parsed(): unknown[] {
    return this.lines.map((line) => JSON.parse(line) as unknown);
  }
}
