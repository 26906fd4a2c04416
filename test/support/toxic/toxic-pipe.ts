import type { Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';

import { endOrReset } from './ended.js';
import type { Fault, Pace } from './plan.js';

/** What a way holds before it stops to read: the rest waits in the kernel, where the sender feels it. */
const QUEUED_BYTES_MAX = 64 * 1024;

const ODD_SLICE_BYTES_MAX = 3000;

/** How a way is carried, and who is told of what befalls it. */
export interface PipeOptions {
  readonly pace: Pace;
  readonly faults: readonly Fault[];
  readonly random: (below: number) => number;
  /** A fault comes to pass; those that take time are over when this settles. */
  readonly onFault: (fault: Fault) => Promise<void>;
  /** An end is gone without having finished. */
  readonly onBroken: () => void;
}

/** One way of a toxic connection: what the source sends reaches the sink, in order, late and in pieces. */
export class ToxicPipe {
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #options: PipeOptions;
  readonly #faults: Fault[];
  readonly #queue: { readonly bytes: Buffer; readonly dueMs: number }[] = [];
  #queuedBytes = 0;
  #passedBytes = 0;
  #lastDueMs = 0;
  #ended = false;
  #state: 'running' | 'stopped' = 'running';
  #wake: () => void = () => undefined;

  constructor(source: Socket, sink: Socket, options: PipeOptions) {
    this.#source = source;
    this.#sink = sink;
    this.#options = options;
    this.#faults = [...options.faults].sort((one, other) => one.afterBytes - other.afterBytes);
    source.on('data', (bytes: Buffer) => this.#receive(bytes));
    source.once('end', () => this.#sourceEnded());
    // An end comes before the close, so what closes without one was broken off.
    source.once('close', () => {
      if (!this.#ended) this.#break();
      this.#wake();
    });
    sink.once('close', () => this.#wake());
    sink.on('drain', () => this.#wake());
    source.resume();
    // A fault may come before the first byte, when the other way is not there yet.
    setImmediate(() => void this.#run());
  }

  /** Carries nothing any more. */
  stop(): void {
    this.#state = 'stopped';
    this.#source.pause();
    this.#wake();
  }

  #receive(bytes: Buffer): void {
    if (!this.#isRunning()) return;
    const { latencyMs, jitterMs } = this.#options.pace;
    const delayMs = latencyMs + (jitterMs > 0 ? this.#options.random(jitterMs) : 0);
    this.#lastDueMs = Math.max(this.#lastDueMs, performance.now() + delayMs);
    this.#queue.push({ bytes, dueMs: this.#lastDueMs });
    this.#queuedBytes += bytes.length;
    if (this.#queuedBytes > QUEUED_BYTES_MAX) this.#source.pause();
    this.#wake();
  }

  #sourceEnded(): void {
    endOrReset(this.#source, (kind) => {
      if (kind === 'reset') {
        this.#break();
        return;
      }
      this.#ended = true;
      this.#wake();
    });
  }

  #break(): void {
    if (this.#isRunning()) this.#options.onBroken();
  }

  /** Waits until something has happened: bytes, an end, room in the sink. */
  #change(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }

  async #run(): Promise<void> {
    await this.#passFaults();
    while (this.#isRunning()) {
      const next = this.#queue.shift();
      if (next) {
        const waitMs = next.dueMs - performance.now();
        if (waitMs >= 1) await pause(waitMs);
        await this.#carry(next.bytes);
        this.#queuedBytes -= next.bytes.length;
        if (this.#queuedBytes <= QUEUED_BYTES_MAX && this.#isRunning()) this.#source.resume();
      } else if (this.#ended) {
        this.#sink.end();
        return;
      } else await this.#change();
    }
  }

  async #carry(bytes: Buffer): Promise<void> {
    for (let offset = 0; offset < bytes.length && this.#isRunning();) {
      const length = Math.min(this.#sliceBytes(), bytes.length - offset);
      this.#sink.write(bytes.subarray(offset, offset + length));
      offset += length;
      this.#passedBytes += length;
      if (this.#isSliced) await nextTurn();
      while (this.#sink.writableNeedDrain && !this.#sink.destroyed && this.#isRunning()) await this.#change();
      await this.#passFaults();
    }
  }

  #isRunning(): boolean {
    return this.#state === 'running';
  }

  get #isSliced(): boolean {
    const { slices, slicedBytes } = this.#options.pace;
    return slices !== 'as they come' && this.#passedBytes < slicedBytes;
  }

  /** How long the next slice is: never beyond the place of the next fault. */
  #sliceBytes(): number {
    const [next] = this.#faults;
    const toFault = next ? next.afterBytes - this.#passedBytes : Number.POSITIVE_INFINITY;
    if (!this.#isSliced) return toFault;
    const { pace, random } = this.#options;
    return Math.min(toFault, pace.slices === 'one byte' ? 1 : 1 + random(ODD_SLICE_BYTES_MAX));
  }

  async #passFaults(): Promise<void> {
    for (let [next] = this.#faults; next && next.afterBytes <= this.#passedBytes; [next] = this.#faults) {
      this.#faults.shift();
      if (this.#isRunning()) await this.#options.onFault(next);
    }
  }
}
