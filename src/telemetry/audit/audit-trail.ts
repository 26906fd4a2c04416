import type { LogSink } from '../log-sink.js';
import { auditBody } from './audit-body.js';

/** The audit of this process: where its lines go, and whether they can be written. */
export class AuditTrail {
  readonly #onDrop: (lines: number) => void;
  #sink: LogSink | undefined;
  #isRequired = false;
  #isFailing = false;
  /** Whether the last line was dropped, because too many wait. */
  #isFull = false;
  /** Dropped lines that no line reports yet. */
  #unreported = 0;
  /** Called when `isBlocked` changes. */
  onBlocked: (isBlocked: boolean) => void = () => undefined;

  /** @param onDrop - counts lines that were dropped */
  constructor(onDrop: (lines: number) => void) {
    this.#onDrop = onDrop;
  }

  /** Whether calls are audited. */
  get isOn(): boolean {
    return this.#sink !== undefined;
  }

  /** Whether lines cannot be written. */
  get isBlocked(): boolean {
    return this.#isFailing || this.#isFull;
  }

  /** Whether mutating calls must be refused, because their lines cannot be written. */
  get mustRefuse(): boolean {
    return this.#isRequired && this.isBlocked;
  }

  /** `sink` takes the bodies of lines; without it, calls are not audited. */
  configure(sink: LogSink | undefined, isRequired: boolean): void {
    this.#sink = sink;
    this.#isRequired = isRequired;
  }

  /** The file has failed, or works again. */
  setFailing(isFailing: boolean): void {
    this.#change(() => (this.#isFailing = isFailing));
  }

  /** Writes the line of an event. */
  write(event: string, fields: Parameters<typeof auditBody>[1]): void {
    this.relay(`${auditBody(event, fields)}\n`);
  }

  /** Writes bodies of lines that another process has made. */
  relay(lines: string): void {
    const sink = this.#sink;
    if (!sink) return;
    if (this.#unreported > 0) this.#reportDrops(sink);
    const dropped = put(sink, lines);
    this.#change(() => (this.#isFull = dropped > 0));
    if (dropped === 0) return;
    this.#unreported += dropped;
    this.#onDrop(dropped);
  }

  #reportDrops(sink: LogSink): void {
    const lines = this.#unreported;
    if (put(sink, `${auditBody('dropped', { lines })}\n`) === 0) this.#unreported = 0;
  }

  #change(change: () => void): void {
    const before = this.isBlocked;
    change();
    if (this.isBlocked !== before) this.onBlocked(this.isBlocked);
  }
}

/** Returns the number of lines that the sink has dropped. */
function put(sink: LogSink, lines: string): number {
  const before = sink.droppedLines;
  sink.write(lines);
  return sink.droppedLines - before;
}
