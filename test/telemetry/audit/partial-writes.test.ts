import type * as Fs from 'node:fs';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, test, vi } from 'vitest';

import { AuditFile, openAuditFile } from '../../../src/telemetry/audit/audit-file.js';
import { newChain } from '../../../src/telemetry/audit/chain.js';
import { verify } from './hand-made.js';

/** Bytes that still fit on the disk. */
let room = Number.POSITIVE_INFINITY;

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof Fs>();
  const write = (
    fd: number,
    bytes: Buffer,
    offset: number,
    done: (error: Error | null, written: number) => void,
  ): void => {
    const length = Math.min(bytes.length - offset, room);
    room -= length;
    if (length > 0) fs.write(fd, bytes, offset, length, null, done);
    else setImmediate(() => done(new Error('ENOSPC: no space left on device'), 0));
  };
  return { ...fs, write };
});

const CALLS = [1, 2, 3, 4];

/** Writes calls to a disk that is full after some bytes. Returns the lines of the file, and of one that is opened then. */
async function fill(bytes: number, relieve: 'space' | 'file'): Promise<string[][]> {
  const directory = mkdtempSync(join(tmpdir(), 'audit-'));
  const path = join(directory, 'audit.log');
  try {
    room = bytes;
    let whenFailed: () => void = () => undefined;
    const failed = new Promise<void>((resolve) => (whenFailed = resolve));
    const events = {
      failed: () => whenFailed(),
      recovered: () => undefined,
      written: () => undefined,
      opened: () => undefined,
    };
    const file = new AuditFile(await openAuditFile(path), newChain(), events);
    for (const call of CALLS) file.send(Buffer.from(`{"event":"call","call":${call}}\n`));
    await failed;
    room = Number.POSITIVE_INFINITY;
    if (relieve === 'file') file.continueIn(await openAuditFile(`${path}.2`));
    await file.end();
    const lines = (name: string): string[] => readFileSync(name, 'utf8').match(/[^\n]+\n?/gu) ?? [];
    return relieve === 'file' ? [lines(path), lines(`${path}.2`)] : [lines(path)];
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function callsIn(files: readonly (readonly string[])[]): number[] {
  return files.flatMap((lines) =>
    lines
      .flatMap((line) => (line.endsWith('\n') ? (/"call":(\d+)/u.exec(line)?.slice(1) ?? []) : []))
      .map(Number),
  );
}

test('a line that a full disk cut off is completed once there is space', async () => {
  for (let bytes = 0; bytes < 700; bytes += 13) {
    const files = await fill(bytes, 'space');
    expect([verify(files), callsIn(files)], String(bytes)).toEqual(['intact', CALLS]);
  }
});

test('a line that a full disk cut off is written again in the file that is opened next, and no line twice', async () => {
  for (let bytes = 0; bytes < 700; bytes += 13) {
    const files = await fill(bytes, 'file');
    expect([verify(files), callsIn(files)], String(bytes)).toEqual(['intact', CALLS]);
  }
});
