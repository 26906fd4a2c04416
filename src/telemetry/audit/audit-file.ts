import { close, fdatasync, fstat, read, write } from 'node:fs';
import { promisify } from 'node:util';

import { deferred } from '../../deferred.js';
import { openToAppend } from '../../files/read-file.js';
import {
  AUDIT_BATCH_BYTES,
  AUDIT_STALL_MS,
  AUDIT_SYNC_MS,
  AUDIT_TAIL_BYTES,
  LOG_FLUSH_MS,
  LOG_RETRY_MS,
} from '../../limits.js';
import type { Outlet } from '../log-sink.js';
import { auditBody } from './audit-body.js';
import { appendLine, readLine, tornHash, type ChainHead } from './chain.js';

/** A file of audit lines that is open for appending. */
export interface OpenAuditFile {
  readonly path: string;
  readonly fd: number;
  readonly dev: number;
  readonly ino: number;
  /** Whether it has a size; a device has none. */
  readonly isRegular: boolean;
  /** Its size when it was opened. */
  readonly size: number;
  /** The lines at its end, when it was opened. */
  readonly tail: Tail;
}

/** The lines before it that the next line has to state. */
interface Tail {
  /** The hash of the last line of each other chain. */
  readonly hashes: readonly string[];
  /** The hashes of incomplete lines. */
  readonly torn: readonly string[];
}

/** Events of an audit file. They are synchronous and must not throw. */
export interface AuditFileEvents {
  /** An attempt to write has failed, or takes too long. */
  failed(path: string, error: string): void;
  /** Lines can be written again. */
  recovered(path: string): void;
  written(lines: number): void;
  /** The first line was written to a file; `head` is that line. */
  opened(path: string, head: ChainHead): void;
}

interface BatchLine {
  /** `undefined` for a statement, which is made anew if the file changes. */
  readonly body: string | undefined;
  readonly head: ChainHead;
  /** The offset behind it in the batch. */
  readonly end: number;
}

/** Lines that are being written. */
interface Batch {
  readonly bytes: Buffer;
  /** The offset of the first line. */
  readonly start: number;
  readonly lines: readonly BatchLine[];
  readonly statement: 'opened' | 'seen' | undefined;
  written: number;
}

const NOTHING: Tail = { hashes: [], torn: [] };
const LINE_END = 0x0a;

/**
 * Opens a file to append audit lines, and reads its end.
 * @throws the system's error, or one that describes why the file is not used
 */
export async function openAuditFile(path: string): Promise<OpenAuditFile> {
  const { fd, facts, tail } = await openToAppend(path, AUDIT_TAIL_BYTES);
  const { dev, ino, size } = facts;
  return { path, fd, dev, ino, isRegular: facts.isFile(), size, tail: readTail(tail) };
}

export function isSameFile(one: OpenAuditFile, other: OpenAuditFile): boolean {
  return one.path === other.path && one.dev === other.dev && one.ino === other.ino;
}

/** Closes a file that is not used. */
export function closeAuditFile({ fd }: OpenAuditFile): void {
  close(fd, () => undefined);
}

/**
 * Appends audit lines to a file as a chain, on a thread and in order. A line becomes part of the chain when it is written, so lines
 * that a full disk did not take continue the chain in the next file.
 */
export class AuditFile implements Outlet {
  queued = 0;
  readonly #events: AuditFileEvents;
  #file: OpenAuditFile;
  /** A reopened file that is not used yet. */
  #next: OpenAuditFile | undefined;
  #head: ChainHead;
  #waiting: string[] = [];
  #batch: Batch | undefined;
  /** Set until the first line in the file has been written: the lines that it has to state. */
  #opening: Tail | undefined;
  /** The size of the file when others' lines were last looked for. */
  #lookedAt: number;
  /** The size of the file if no other process writes to it. */
  #expected: number;
  #isWriting = false;
  #isFailing = false;
  #retry: NodeJS.Timeout | undefined;
  #sync: NodeJS.Timeout | undefined;
  #syncing: Promise<void> = Promise.resolve();
  #whenIdle: (() => void)[] = [];

  /** @param head - the chain that is continued */
  constructor(file: OpenAuditFile, head: ChainHead, events: AuditFileEvents) {
    this.#events = events;
    this.#file = file;
    this.#head = head;
    this.#opening = file.tail;
    this.#lookedAt = file.size;
    this.#expected = file.size;
    this.#write();
  }

  /** The last line that was written. */
  get head(): ChainHead {
    return this.#head;
  }

  /** The file that new lines go to. */
  get file(): OpenAuditFile {
    return this.#next ?? this.#file;
  }

  /** `lines`: bodies of lines, each with its line end. */
  send(lines: Buffer): void {
    this.queued += lines.length;
    this.#waiting.push(...lines.toString().split('\n').slice(0, -1));
    this.#write();
  }

  /** Continues in another file. Lines that the current one has not taken go there. */
  continueIn(file: OpenAuditFile): void {
    if (this.#next) closeAuditFile(this.#next);
    this.#next = file;
    this.#write();
  }

  /** Waits until everything has been written, at most `LOG_FLUSH_MS`. If the file cannot be written, one more attempt is made. */
  async flush(): Promise<void> {
    const { promise, resolve } = deferred();
    const timer = setTimeout(resolve, LOG_FLUSH_MS);
    await Promise.race([promise, this.#idle().then(() => this.#idle())]);
    clearTimeout(timer);
  }

  /** Ends the chain: writes its last line, waits as `flush` does, and closes the file. */
  async end(): Promise<void> {
    this.send(Buffer.from(`${auditBody('closed', {})}\n`));
    await this.flush();
    clearTimeout(this.#retry);
    // A write that hangs still uses the file.
    if (this.#isWriting) return;
    await this.#syncFile();
    closeAuditFile(this.#file);
  }

  /** Writes what waits. Settles when it has been written, or cannot be. */
  #idle(): Promise<void> {
    return this.#write() ? new Promise((resolve) => this.#whenIdle.push(resolve)) : Promise.resolve();
  }

  /** Returns whether something is being written. */
  #write(): boolean {
    const hasWork = this.#next ?? this.#batch ?? this.#opening ?? this.#waiting[0];
    if (this.#isWriting || hasWork === undefined) return this.#isWriting;
    clearTimeout(this.#retry);
    this.#isWriting = true;
    const stalled = setTimeout(
      () => this.#fail(new Error(`a write takes longer than ${AUDIT_STALL_MS / 1000} s`)),
      AUDIT_STALL_MS,
    );
    void this.#writeBatch()
      .then(
        () => this.#succeed(),
        (error: unknown) => this.#fail(error),
      )
      .finally(() => {
        clearTimeout(stalled);
        this.#isWriting = false;
        if (this.#isFailing) this.#retry = setTimeout(() => this.#write(), LOG_RETRY_MS).unref();
        else if (this.#write()) return;
        for (const idle of this.#whenIdle.splice(0)) idle();
      });
    return true;
  }

  async #writeBatch(): Promise<void> {
    if (this.#next) await this.#change(this.#next);
    this.#batch ??= await this.#nextBatch();
    const batch = this.#batch;
    while (batch.written < batch.bytes.length) {
      const written = await writeFrom(this.#file.fd, batch.bytes, batch.written);
      batch.written += written;
      this.#expected += written;
    }
    this.#batch = undefined;
    this.#take(batch.lines, batch.statement);
    if (this.#file.isRegular) this.#sync ??= setTimeout(() => void this.#syncFile(), AUDIT_SYNC_MS).unref();
  }

  #succeed(): void {
    if (!this.#isFailing) return;
    this.#isFailing = false;
    this.#events.recovered(this.#file.path);
  }

  #fail(error: unknown): void {
    this.#isFailing = true;
    this.#events.failed(this.#file.path, error instanceof Error ? error.message : String(error));
  }

  /** Lines have been written whole. */
  #take(lines: readonly BatchLine[], statement: Batch['statement']): void {
    const last = lines.at(-1);
    if (!last) return;
    this.#head = last.head;
    for (const { body } of lines) if (body !== undefined) this.queued -= Buffer.byteLength(body) + 1;
    this.#events.written(lines.length);
    const [first] = lines;
    if (statement === 'opened' && first) {
      this.#opening = undefined;
      this.#events.opened(this.#file.path, first.head);
    }
  }

  /** Leaves the current file, which may be full, with what it has taken. */
  async #change(next: OpenAuditFile): Promise<void> {
    const left = this.#leaveBatch();
    const opening = this.#opening ?? NOTHING;
    await this.#syncFile();
    closeAuditFile(this.#file);
    this.#next = undefined;
    this.#file = next;
    this.#lookedAt = next.size;
    this.#expected = next.size;
    this.#opening = {
      hashes: [...opening.hashes, ...next.tail.hashes],
      torn: [...opening.torn, ...left, ...next.tail.torn],
    };
  }

  /** Returns the hash of the incomplete line that a batch leaves, if any. Lines that were not written whole wait again. */
  #leaveBatch(): string[] {
    const batch = this.#batch;
    if (!batch) return [];
    this.#batch = undefined;
    const done = batch.lines.filter(({ end }) => end <= batch.written);
    this.#take(done, batch.statement);
    const rest = batch.lines.slice(done.length).flatMap(({ body }) => (body === undefined ? [] : [body]));
    this.#waiting = [...rest, ...this.#waiting];
    const torn = batch.bytes.subarray(done.at(-1)?.end ?? batch.start, batch.written);
    return torn.length > 0 ? [tornHash(torn)] : [];
  }

  /** Makes lines of what waits, behind a statement about the file if there is something to state. */
  async #nextBatch(): Promise<Batch> {
    const [statement, body] = (await this.#look()) ?? [];
    // Ends the incomplete line of a process that was killed.
    const separator = statement === 'opened' && this.#file.tail.torn.length > 0 ? '\n' : '';
    const lines: BatchLine[] = [];
    let bytes = Buffer.from(separator);
    const chunks = [bytes];
    let head = this.#head;
    let end = separator.length;
    const add = (text: string, isStatement: boolean): void => {
      const [line, next] = appendLine(head, text);
      bytes = Buffer.from(line);
      chunks.push(bytes);
      head = next;
      end += bytes.length;
      lines.push({ body: isStatement ? undefined : text, head, end });
    };
    if (body !== undefined) add(body, true);
    let taken = 0;
    for (; taken < this.#waiting.length && end < AUDIT_BATCH_BYTES; taken++)
      add(this.#waiting[taken] ?? '', false);
    this.#waiting.splice(0, taken);
    return { bytes: Buffer.concat(chunks), start: separator.length, lines, statement, written: 0 };
  }

  /** Looks for lines of others in the file. Returns what has to be stated before the next line. */
  async #look(): Promise<readonly [statement: 'opened' | 'seen', body: string] | undefined> {
    const seen = this.#file.isRegular ? await this.#lookForOthers() : [];
    const opening = this.#opening;
    if (opening) {
      const { hashes, torn } = opening;
      const fields = {
        at: this.#expected,
        previous: this.#head.hash,
        seen: [...hashes, ...seen],
        torn,
        pid: process.pid,
      };
      return ['opened', auditBody('opened', fields)];
    }
    return seen.length > 0 ? ['seen', auditBody('seen', { seen })] : undefined;
  }

  async #lookForOthers(): Promise<readonly string[]> {
    const { size, nlink } = await promisify(fstat)(this.#file.fd);
    if (nlink === 0) throw new Error('the file was removed');
    if (size === this.#expected) return [];
    // A shorter file was truncated by a rotation that copies.
    const isTruncated = size < this.#expected;
    const from = Math.max(isTruncated ? 0 : this.#lookedAt, size - AUDIT_TAIL_BYTES);
    const buffer = Buffer.alloc(size - from);
    const { bytesRead } = await promisify(read)(this.#file.fd, buffer, 0, buffer.length, from);
    this.#lookedAt = size;
    this.#expected = size;
    if (isTruncated) {
      this.#file = { ...this.#file, tail: NOTHING };
      this.#opening ??= NOTHING;
    }
    return readTail(buffer.subarray(0, bytesRead), this.#head.chain).hashes;
  }

  /** Brings what was written to the disk. */
  #syncFile(): Promise<void> {
    clearTimeout(this.#sync);
    // A file is not closed while it is still being synced.
    if (this.#sync === undefined) return this.#syncing;
    this.#sync = undefined;
    this.#syncing = promisify(fdatasync)(this.#file.fd).catch((error: unknown) => this.#fail(error));
    return this.#syncing;
  }
}

/** Writes a part of the bytes from an offset on. Returns its length. */
function writeFrom(fd: number, bytes: Buffer, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, offset, (error, written) => (error ? reject(error) : resolve(written)));
  });
}

/** The last line of each chain in the end of a file, and its last line if that is incomplete. */
function readTail(bytes: Buffer, ownChain?: string): Tail {
  const hashes = new Map<string, string>();
  let start = 0;
  for (let end = bytes.indexOf(LINE_END); end >= 0; end = bytes.indexOf(LINE_END, start)) {
    const line = readLine(bytes.subarray(start, end));
    if (line && line.chain !== ownChain) hashes.set(line.chain, line.hash);
    start = end + 1;
  }
  const rest = bytes.subarray(start);
  return { hashes: [...hashes.values()], torn: rest.length > 0 ? [tornHash(rest)] : [] };
}
