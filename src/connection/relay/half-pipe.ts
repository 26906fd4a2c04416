import type { Socket } from 'node:net';

import type { ReadReceiver } from '../../upstream/dialer.js';
import { guarded } from '../../guarded.js';
import { MAX_QUEUED_BYTES, MAX_UNANSWERED_BYTES, READ_BUFFER_BYTES } from '../../limits.js';
import type { ByteQueue } from './byte-queue.js';
import { isFiller, stopRead } from './hang-up.js';
import { TurnWriter } from './turn-writer.js';

/**
 * One direction of a relay: bytes read from the source are written to the sink, in order. Reading stops while more than
 * `MAX_QUEUED_BYTES` wait for the sink, where each chunk counts with its cost in memory.
 *
 * Once we have ended our side of the source, only a read distinguishes its reset from its end. From then on, reading is therefore
 * stopped within each read (see `stopRead` for the reason), and continues in the next turn of the event loop.
 */
export interface HalfPipe {
  /** Writes the bytes that were read before the relay began, and starts to read. */
  start(head: Buffer): void;
  /** Bytes that wait for the sink. */
  readonly queuedBytes: number;
  /** Bytes that were read from the source, and bytes that were written to the sink or wait for it. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Writes bytes that the source did not send, after those that it has sent so far. */
  insert(bytes: Buffer): void;
  /** Writes all forwarded bytes, so that the sink can be written to directly. */
  flush(): void;
  /** Writes the queued bytes and then ends the sink. Further bytes of the source are read and dropped. */
  finish(): void;
}

export interface HalfPipeOptions {
  readonly source: Socket;
  readonly sink: Socket;
  /** Whether the sink encrypts: after `write` on an idle TLS socket, the written buffer is no longer referenced. */
  readonly sinkEncrypts: boolean;
  /** The taps of this direction. */
  readonly pass: (bytes: Buffer) => Buffer | undefined;
  /** The sink is about to be ended. */
  readonly onEnd: () => void;
  /** The code of this connection, or a tap, has thrown an exception. The connection ends, but not the process. */
  readonly onFault: (error: unknown) => void;
}

/**
 * For plaintext upstream sockets, which read into one fixed buffer. A view of the buffer is written to the sink without a copy.
 *
 * Reading continues only if the view is no longer in use when the callback returns. Otherwise the source is stopped within the
 * callback until the sink has taken the view, so the buffer is never overwritten while it is in use. Stopping and starting costs two
 * system calls per read, which would slow down small reads.
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
    // No bytes are queued outside the sink.
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
      // The sink will read the view only after it has taken the previous bytes, so it gets a copy.
      sink.write(Buffer.from(view), this.#taken);
      return false;
    }
    sink.write(view, this.#taken);
    // A TLS sink has encrypted the view by now. But the next read may come before the kernel has accepted the result, so the queue
    // must have room for a full read. A plaintext sink still references the view unless the kernel has accepted all of it.
    return sinkEncrypts ? !large : sink.writableLength === 0;
  }
}

/**
 * For sources that emit a new buffer with each `data` event: TLS emits one per record, at most 16 KiB. The bytes of one turn of the
 * event loop are written at its end with one system call.
 */
export class TurnHalfPipe implements HalfPipe {
  readonly #options: HalfPipeOptions;
  /** A copy of all bytes read so far, until `forget`. */
  #kept: ByteQueue | undefined;
  readonly #writer: TurnWriter;
  #paused = false;
  #finishing = false;
  /** Whether the source is emitting the bytes that it held behind the filler of a stopped read. Reading is already stopped then. */
  #emptying = false;
  #bytesIn = 0;
  #bytesOut = 0;

  /** `kept`: keeps a copy of all bytes read, until `forget`. Reading stops while it is full. */
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

  /** Stops keeping a copy of the bytes read. */
  forget(): void {
    this.#kept = undefined;
    this.#resumeIfRoom();
  }

  /** Releases the source, paused, for another reader. Bytes that wait for the sink are dropped. */
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
 * Ends a sink once the kernel has accepted all bytes written to it. Until then the connection can still be reset. A FIN after only
 * some of the bytes would look like a complete end to the peer.
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
