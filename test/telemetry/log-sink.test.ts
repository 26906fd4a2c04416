import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { LOG_FLUSH_MS, MAX_LOG_QUEUE_BYTES } from '../../src/limits.js';
import { openLogSink, type LogSink } from '../../src/telemetry/log-sink.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const LINE = `${'x'.repeat(1023)}\n`;

interface Pipe {
  readonly sink: LogSink;
  /** The output so far. */
  readonly read: () => string;
  /** The reader leaves. */
  readonly close: () => void;
}

/** A sink that writes to a named pipe, whose other end reads only on demand. */
async function openPipe(): Promise<Pipe> {
  const path = join(await temporaryDirectory(), 'log');
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  let open = true;
  const close = (): void => {
    if (open) closeSync(reader);
    open = false;
  };
  onTestFinished(close);
  const buffer = Buffer.alloc(1 << 20);
  return {
    sink: openLogSink(writer),
    read: () => {
      try {
        return buffer.toString('utf8', 0, readSync(reader, buffer));
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return '';
        throw error;
      }
    },
    close,
  };
}

function fakeTimers(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}

/** Turns of the event loop, so that what can leave leaves. */
async function turns(count = 5): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

describe('a pipe', () => {
  test('gets its lines in order, and a flush waits for them', async () => {
    const { sink, read } = await openPipe();
    for (let count = 0; count < 10; count++) sink.write(`line ${count}\n`);
    await sink.flush();
    expect(read()).toBe(Array.from({ length: 10 }, (_, count) => `line ${count}\n`).join(''));
    expect(sink.droppedLines).toBe(0);
    await sink.flush();
  });

  test('a log that is not read blocks nothing: lines beyond the queue are dropped and counted', async () => {
    const { sink, read } = await openPipe();
    const written = Math.ceil((2 * MAX_LOG_QUEUE_BYTES) / LINE.length);
    for (let count = 0; count < written; count++) sink.write(LINE);
    await turns();
    const dropped = sink.droppedLines;
    expect(dropped).toBeGreaterThan(0);
    expect((written - dropped) * LINE.length).toBeLessThanOrEqual(MAX_LOG_QUEUE_BYTES + (1 << 20));
    // A reader that comes back gets whole lines again, all that were kept.
    let received = '';
    while (received.length < (written - dropped) * LINE.length) {
      received += read();
      await turns(1);
    }
    expect(received).toBe(LINE.repeat(written - dropped));
    sink.write('afterwards\n');
    await sink.flush();
    expect(read()).toBe('afterwards\n');
    expect(sink.droppedLines).toBe(dropped);
  });

  test('that is not read keeps warnings where other lines are dropped already', async () => {
    const { sink, read } = await openPipe();
    while (sink.droppedLines === 0) sink.write(LINE);
    sink.write('the cause\n', true);
    expect(sink.droppedLines).toBe(1);
    let received = '';
    while (!received.includes('the cause\n')) {
      received += read();
      await turns(1);
    }
    await sink.flush();
  });

  test('a log that is not read is flushed for at most the bound', async () => {
    const { sink } = await openPipe();
    for (let count = 0; count < 200; count++) sink.write(LINE);
    await turns();
    fakeTimers();
    let flushed = false;
    const flush = sink.flush().then(() => (flushed = true));
    vi.advanceTimersByTime(LOG_FLUSH_MS - 1);
    await turns();
    expect(flushed).toBe(false);
    vi.advanceTimersByTime(1);
    await flush;
    expect(vi.getTimerCount()).toBe(0);
  });

  test('whose reader has left drops and counts, and nothing is thrown', async () => {
    const { sink, close } = await openPipe();
    close();
    sink.write('the one that finds out\n');
    await sink.flush();
    for (let count = 0; count < 10; count++) sink.write(LINE);
    expect(sink.droppedLines).toBe(10);
    await sink.flush();
  });

  test('whose reader leaves while lines wait lets a flush end at once', async () => {
    const { sink, close } = await openPipe();
    for (let count = 0; count < 200; count++) sink.write(LINE);
    await turns();
    fakeTimers();
    const flush = sink.flush();
    close();
    await flush;
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('a file', () => {
  test('has every line once flush has settled', async () => {
    const path = join(await temporaryDirectory(), 'log');
    const sink = openLogSink(openSync(path, 'w'));
    for (let count = 0; count < 1000; count++) sink.write(`line ${count}\n`);
    await sink.flush();
    expect((await readFile(path, 'utf8')).split('\n')).toHaveLength(1001);
    sink.write('one more\n');
    await sink.flush();
    expect(await readFile(path, 'utf8')).toMatch(/line 999\none more\n$/);
    expect(sink.droppedLines).toBe(0);
    await sink.flush();
  });

  test('on a full disk drops and counts beyond its queue, and a flush is bounded', async () => {
    const sink = openLogSink(openSync('/dev/full', 'w'));
    const written = Math.ceil((2 * MAX_LOG_QUEUE_BYTES) / LINE.length);
    for (let count = 0; count < written; count++) sink.write(LINE);
    const dropped = sink.droppedLines;
    expect(dropped).toBeGreaterThan(0);
    await sink.flush();
    sink.write(LINE);
    expect(sink.droppedLines).toBeGreaterThan(dropped);
    await sink.flush();
  });
});
