import type { Socket } from 'node:net';

import type { ReadReceiver } from '../../upstream/dialer.js';
import { guarded } from '../../guarded.js';
import { MAX_QUEUED_BYTES, MAX_UNANSWERED_BYTES, READ_BUFFER_BYTES } from '../../limits.js';
import type { ByteQueue } from './byte-queue.js';
import { isFiller, stopRead } from './hang-up.js';
import { TurnWriter } from './turn-writer.js';

/**
 * One direction of a relay: what the source reads is written to the sink, unchanged and in order. The source is
 * read no further while more than `MAX_QUEUED_BYTES` wait for the sink, each chunk at what it costs in memory.
 *
 * Once we have ended our side of the source, nothing but reading tells its reset from its end. So reading is stopped
 * within each read from then on (`stopRead` says why), and goes on in the next turn of the event loop.
 */
export interface HalfPipe {
  /** Writes what was read before the relay began, and starts. */
  start(head: Buffer): void;
  /** Bytes that wait for the sink. */
  readonly queuedBytes: number;
  /** Bytes that were read from the source, and that were written to the sink or wait for it. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Writes bytes that the source did not send, behind what it sent so far. */
  insert(bytes: Buffer): void;
  /** Writes all forwarded bytes, so that the sink can be written to directly. */
  flush(): void;
  /** Writes what is left and then ends the sink. What the source may still send is read and dropped. */
  finish(): void;
}

/** What a half-pipe needs to know. */
export interface HalfPipeOptions {
  readonly source: Socket;
  readonly sink: Socket;
  /** Whether `write` on an idle sink leaves nothing behind that looks at what was written: TLS does. */
  readonly sinkEncrypts: boolean;
  /** The taps of this direction. */
  readonly pass: (bytes: Buffer) => Buffer | undefined;
  /** The sink is about to be ended. */
  readonly onEnd: () => void;
  /** An exception in this connection's code (a tap's included): the connection ends, the process goes on. */
  readonly onFault: (error: unknown) => void;
}

/**
 * For plaintext upstream sockets: they read into one fixed buffer, whose view goes to the sink without a copy.
 *
 * The source goes on being read only while the view is free again when the callback returns; else it is stopped within
 * the callback until the sink has taken the view, so the buffer is never filled while somebody looks at it. Stopping
 * and starting costs two system calls a read, which small reads would feel.
 */
export class ReadHalfPipe implements HalfPipe {
  readonly #options: HalfPipeOptions;
  readonly #taken: () => void;
  #stopped = false;
  #finishing = false;
  #bytesIn = 0;
  #bytesOut = 0;

  constructor(options: HalfPipeOptions, receive: (receiver: ReadReceiver) => void) {
    this.#options = options;
    this.#taken = () => {
      if (!this.#stopped || options.sink.writableLength > 0) return;
      this.#stopped = false;
      this.#resume();
    };
    receive((length, buffer) => this.#read(length, buffer));
  }

  start(head: Buffer): void {
    const { source, sink, pass } = this.#options;
    this.#bytesIn += head.length;
    const passed = head.length > 0 ? pass(head) : undefined;
    if (passed) {
      this.#bytesOut += passed.length;
      sink.write(passed);
    }
    source.resume();
  }

  get queuedBytes(): number {
    return this.#options.sink.writableLength;
  }

  get bytesIn(): number {
    return this.#bytesIn;
  }

  get bytesOut(): number {
    return this.#bytesOut;
  }

  insert(bytes: Buffer): void {
    if (this.#finishing) return;
    this.#bytesOut += bytes.length;
    this.#options.sink.write(bytes, this.#taken);
  }

  flush(): void {
    // Bytes wait in the sink only.
  }

  finish(): void {
    this.#finishing = true;
    endWhenTaken(this.#options);
  }

  #read(length: number, buffer: Buffer): boolean {
    const { pass, onFault } = this.#options;
    try {
      if (!this.#finishing) this.#bytesIn += length;
      const passed = this.#finishing ? undefined : pass(buffer.subarray(0, length));
      if (!passed || this.#write(passed, length > MAX_QUEUED_BYTES - buffer.length)) {
        if (!this.#options.source.writableEnded) return true;
        this.#resume();
        return false;
      }
    } catch (error) {
      onFault(error);
    }
    this.#stopped = true;
    return false;
  }

  #resume(): void {
    const { source } = this.#options;
    const resume = (): void => {
      if (!source.destroyed) source.resume();
    };
    if (source.writableEnded) setImmediate(resume);
    else resume();
  }

  /** Returns whether the buffer may be filled again at once. */
  #write(view: Buffer, large: boolean): boolean {
    const { sink, sinkEncrypts } = this.#options;
    this.#bytesOut += view.length;
    if (sink.writableLength > 0) {
      // The sink will look at the view after it has taken what came before: only a copy can wait that long.
      sink.write(Buffer.from(view), this.#taken);
      return false;
    }
    sink.write(view, this.#taken);
    // A sink that encrypts has done so by now, but the next read may come before the kernel has taken it: a full one must
    // find room in the queue then. A plain sink still holds the view unless the kernel has all of it.
    return sinkEncrypts ? !large : sink.writableLength === 0;
  }
}

/**
 * For sources that hand over a fresh buffer with each `data` event: TLS gives one for each record, 16 KiB at most.
 * What one turn of the event loop brought is written at its end with one system call.
 */
export class TurnHalfPipe implements HalfPipe {
  readonly #options: HalfPipeOptions;
  /** A copy of all that was read, while it is kept. */
  #kept: ByteQueue | undefined;
  readonly #writer: TurnWriter;
  #paused = false;
  #finishing = false;
  /** What the source held behind the filler of a stopped read comes within this tick: it is being read no further. */
  #emptying = false;
  #bytesIn = 0;
  #bytesOut = 0;

  /** `kept`: where all that is read is kept, too, until `forget`. The source is read no further while it is full. */
  constructor(options: HalfPipeOptions, kept?: ByteQueue) {
    this.#options = options;
    this.#kept = kept;
    this.#writer = new TurnWriter(options.sink, {
      onProgress: () => this.#progress(),
      onFault: options.onFault,
    });
    options.source.on('data', this.#onData);
  }

  readonly #onData = (chunk: Buffer): void => {
    if (isFiller(chunk)) {
      this.#emptied();
      return;
    }
    this.#collect(chunk);
    if (this.#options.source.writableEnded && !this.#emptying) this.#stopRead();
  };

  get queuedBytes(): number {
    return this.#writer.queuedBytes;
  }

  get bytesIn(): number {
    return this.#bytesIn;
  }

  get bytesOut(): number {
    return this.#bytesOut;
  }

  start(head: Buffer): void {
    if (head.length > 0) this.#collect(head);
    if (!this.#paused) this.#options.source.resume();
  }

  /** Keeps nothing any more. */
  forget(): void {
    this.#kept = undefined;
    this.#resumeIfRoom();
  }

  /** Leaves the source to somebody else, paused. What waits for the sink is dropped. */
  release(): void {
    this.#finishing = true;
    this.#writer.drop();
    const { source } = this.#options;
    source.off('data', this.#onData).pause();
  }

  insert(bytes: Buffer): void {
    if (this.#finishing) return;
    this.#add(bytes);
    this.#stopIfFull();
  }

  flush(): void {
    this.#writer.flush();
  }

  finish(): void {
    this.#finishing = true;
    if (this.#writer.isEmpty) endWhenTaken(this.#options);
    // Bytes that arrive from now on are dropped.
    if (this.#paused) this.#options.source.resume();
  }

  #collect(chunk: Buffer): void {
    const { pass, onFault } = this.#options;
    if (this.#finishing) return;
    this.#bytesIn += chunk.length;
    this.#kept?.add(chunk);
    try {
      const passed = pass(chunk);
      if (passed) this.#add(passed);
      this.#stopIfFull();
    } catch (error) {
      onFault(error);
    }
  }

  #stopRead(): void {
    const { source, onFault } = this.#options;
    guarded(onFault, stopRead)(source);
    setImmediate(() => {
      if (!this.#paused || this.#finishing) source.resume();
    });
  }

  #emptied(): void {
    this.#emptying = true;
    process.nextTick(() => (this.#emptying = false));
  }

  #add(chunk: Buffer): void {
    this.#bytesOut += chunk.length;
    this.#writer.add(chunk);
  }

  #stopIfFull(): void {
    if (this.#paused || this.#hasRoom) return;
    this.#paused = true;
    stopRead(this.#options.source);
  }

  get #hasRoom(): boolean {
    // One more read may follow, with bytes that OpenSSL has already decrypted.
    if (this.#writer.cost > MAX_QUEUED_BYTES - READ_BUFFER_BYTES) return false;
    return !this.#kept || this.#kept.cost <= MAX_UNANSWERED_BYTES;
  }

  #progress(): void {
    if (!this.#finishing) this.#resumeIfRoom();
    else if (this.#writer.isEmpty) endWhenTaken(this.#options);
  }

  #resumeIfRoom(): void {
    if (!this.#paused || !this.#hasRoom) return;
    this.#paused = false;
    this.#options.source.resume();
  }
}

const EMPTY = Buffer.alloc(0);

/**
 * Ends a sink once the kernel has taken all that was written to it. Until then the connection can still be reset, if it
 * must be cut: its peer would take a FIN behind half of the bytes for their end.
 */
function endWhenTaken({ sink, onEnd }: HalfPipeOptions): void {
  const end = (): void => {
    if (sink.writableEnded) return;
    onEnd();
    sink.end();
  };
  if (sink.writableEnded) return;
  if (sink.writableLength === 0) end();
  else
    sink.write(EMPTY, (error) => {
      if (!error) end();
    });
}
