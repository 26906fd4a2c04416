import { close, constants, fstat, open, read, readdir, stat, type BigIntStats, type Stats } from 'node:fs';
import { Socket } from 'node:net';
import { promisify } from 'node:util';

import { FILE_SPARE_BYTES, MAX_SETTING_FILE_BYTES } from '../limits.js';
import { FileGate } from './file-gate.js';

/** The content of a file and its mode. */
export interface FileContent {
  readonly bytes: Buffer;
  /** As returned by `stat`. */
  readonly mode: number;
}

/** A path that leads to something that is not read. `code` is the matching system error, if there is one. */
class UnreadableKind extends Error {
  readonly code: string;

  constructor(message: string, code = 'EINVAL') {
    super(message);
    this.code = code;
  }
}

/** One gate per process, because its threads are shared. */
const gate = new FileGate();

/**
 * Reads a file, or a pipe (a FIFO, the `/dev/fd/63` of a shell) to its end. All accesses of this module have a deadline.
 * @throws the system's error, or one that describes why the file is not read
 */
export function readContent(path: string): Promise<FileContent> {
  return gate.enter(path, async (signal) => {
    // With this flag, a FIFO without a writer does not block a thread.
    const fd = await promisify(open)(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    let isTaken = false;
    try {
      const facts = await promisify(fstat)(fd);
      isTaken = facts.isFIFO();
      const bytes = isTaken ? await readPipe(fd, signal) : await readRegular(fd, facts);
      return { bytes, mode: facts.mode };
    } finally {
      if (!isTaken) await promisify(close)(fd);
    }
  });
}

/** A file that is open for appending. */
export interface AppendedFile {
  readonly fd: number;
  readonly facts: Stats;
  /** Its last bytes; empty for a device. */
  readonly tail: Buffer;
}

/**
 * Opens a file for appending, and reads its last bytes. A file that does not exist is created with mode 0640.
 * @throws the system's error, or one that describes why the file is not used
 */
export function openToAppend(path: string, tailBytes: number): Promise<AppendedFile> {
  return gate.enter(path, async (signal) => {
    const { O_APPEND, O_CREAT, O_NOCTTY, O_NONBLOCK, O_RDWR } = constants;
    // With O_NONBLOCK, a FIFO does not block a thread.
    const fd = await promisify(open)(path, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY, 0o640);
    try {
      const facts = await promisify(fstat)(fd);
      if (!facts.isFile() && !facts.isCharacterDevice()) throw new UnreadableKind('it is not a file');
      const tail = Buffer.alloc(facts.isFile() ? Math.min(facts.size, tailBytes) : 0);
      if (tail.length > 0) await promisify(read)(fd, tail, 0, tail.length, facts.size - tail.length);
      // After the deadline, no caller waits for the file.
      signal.throwIfAborted();
      return { fd, facts, tail };
    } catch (error) {
      await promisify(close)(fd);
      throw error;
    }
  });
}

/** The content of a file as text. */
export async function readText(path: string): Promise<string> {
  return (await readContent(path)).bytes.toString('utf8');
}

/** `stat`; follows links. */
export function statPath(path: string): Promise<BigIntStats> {
  return gate.enter(path, () => promisify(stat)(path, { bigint: true }));
}

/** The names in a directory, sorted. */
export async function listDirectory(path: string): Promise<string[]> {
  return (await gate.enter(path, () => promisify(readdir)(path))).sort();
}

async function readRegular(fd: number, facts: Stats): Promise<Buffer> {
  if (facts.isDirectory()) throw new UnreadableKind('it is a directory, not a file', 'EISDIR');
  if (!facts.isFile()) throw new UnreadableKind('it is a device or a socket, not a file');
  const chunks: Buffer[] = [];
  let length = 0;
  if (facts.size > MAX_SETTING_FILE_BYTES) throw tooLarge();
  for (;;) {
    const buffer = Buffer.allocUnsafe(Math.max(facts.size - length, 0) + FILE_SPARE_BYTES);
    const { bytesRead } = await promisify(read)(fd, buffer, 0, buffer.length, null);
    if (bytesRead === 0) return Buffer.concat(chunks, length);
    chunks.push(buffer.subarray(0, bytesRead));
    length += bytesRead;
    if (length > MAX_SETTING_FILE_BYTES) throw tooLarge();
  }
}

/** Waits for the first writer, reads until every writer has closed the pipe, and closes it. No thread is blocked meanwhile. */
function readPipe(fd: number, signal: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const socket = new Socket({ fd, readable: true, writable: false });
    signal.addEventListener('abort', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length > MAX_SETTING_FILE_BYTES) socket.destroy(tooLarge());
    });
    socket.once('error', reject);
    socket.once('close', () => resolve(Buffer.concat(chunks, length)));
  });
}

function tooLarge(): UnreadableKind {
  return new UnreadableKind(`it is larger than ${MAX_SETTING_FILE_BYTES / 1024 / 1024} MiB`);
}
