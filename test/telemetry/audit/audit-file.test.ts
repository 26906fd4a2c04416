import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { EventEmitter, once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from 'vitest';

import { AuditFile, openAuditFile, type AuditFileEvents } from '../../../src/telemetry/audit/audit-file.js';
import { newChain } from '../../../src/telemetry/audit/chain.js';
import { verify } from './hand-made.js';

let directory = '';
let path = '';
const failures: string[] = [];
let recoveries = 0;
/** Emits `change` after each failure and each recovery. */
const outcomes = new EventEmitter();
const events: AuditFileEvents = {
  failed: (_, error) => {
    failures.push(error);
    outcomes.emit('change');
  },
  recovered: () => {
    recoveries++;
    outcomes.emit('change');
  },
  written: () => undefined,
  opened: () => undefined,
};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'audit-'));
  path = join(directory, 'audit.log');
  failures.length = 0;
  recoveries = 0;
});
afterEach(() => rmSync(directory, { recursive: true }));

async function open(at = path): Promise<AuditFile> {
  return new AuditFile(await openAuditFile(at), newChain(), events);
}

function send(file: AuditFile, ...calls: readonly number[]): void {
  for (const call of calls) file.send(Buffer.from(`{"event":"call","call":${call}}\n`));
}

function linesOf(file = path): string[] {
  return readFileSync(file, 'utf8').split(/(?<=\n)/u);
}

/** The calls in a file, in order. */
function callsIn(file = path): number[] {
  return [...readFileSync(file, 'utf8').matchAll(/"call":(\d+)/gu)].map(([, call]) => Number(call));
}

/** Waits for a condition on the failures and recoveries. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await once(outcomes, 'change');
}

test('lines are appended in order, and the file is readable by its group only', async () => {
  const file = await open();
  const calls = Array.from({ length: 1000 }, (_, call) => call);
  for (const call of calls) send(file, call);
  await file.end();
  expect(callsIn()).toEqual(calls);
  expect(file.queued).toBe(0);
  expect(verify([linesOf()])).toBe('intact');
  expect(statSync(path).mode & 0o137).toBe(0);
});

test('a process that starts later links its chain to the last line of the file', async () => {
  for (const call of [1, 2, 3]) {
    const file = await open();
    send(file, call);
    await file.end();
  }
  expect(callsIn()).toEqual([1, 2, 3]);
  expect(verify([linesOf()])).toBe('intact');
  // Each process writes three lines.
  expect(verify([linesOf().toSpliced(5, 1)])).toMatch(/^file1:6: lines are missing before it/u);
});

test('the incomplete line of a killed process is kept, ended, and stated', async () => {
  const first = await open();
  send(first, 1);
  await first.end();
  appendFileSync(path, '{"chain":"0011223344556677","sequence":4,"event":"ca');
  const second = await open();
  send(second, 2);
  await second.end();
  expect(verify([linesOf()])).toBe('intact');
  expect(linesOf()[3]).toBe('{"chain":"0011223344556677","sequence":4,"event":"ca\n');
  expect(verify([linesOf().with(3, '{}\n')])).toMatch(/^file1:4: it was changed/u);
});

test('after a rotation that renames, the chain continues in the new file', async () => {
  const file = await open();
  send(file, 1, 2);
  await file.flush();
  renameSync(path, `${path}.1`);
  send(file, 3);
  await file.flush();
  file.continueIn(await openAuditFile(path));
  send(file, 4);
  await file.end();
  expect([callsIn(`${path}.1`), callsIn()]).toEqual([[1, 2, 3], [4]]);
  expect(verify([linesOf(`${path}.1`), linesOf()])).toBe('intact');
  expect(verify([linesOf()])).toBe('intact');
  expect(verify([linesOf(`${path}.1`).slice(0, -1), linesOf()])).toMatch(
    /^file2:1: 1 line is missing before it/u,
  );
});

test('after a rotation that copies and truncates, the chain continues in the same file', async () => {
  const file = await open();
  send(file, 1, 2);
  await file.flush();
  writeFileSync(`${path}.1`, readFileSync(path));
  truncateSync(path);
  send(file, 3);
  await file.end();
  expect(callsIn()).toEqual([3]);
  expect(verify([linesOf(`${path}.1`), linesOf()])).toBe('intact');
});

test('two processes that write to one file state the lines of each other', async () => {
  const [first, second] = [await open(), await open()];
  for (let call = 0; call < 20; call += 2) {
    send(first, call);
    await first.flush();
    send(second, call + 1);
    await second.flush();
  }
  await first.end();
  await second.end();
  const lines = linesOf();
  expect(verify([lines])).toBe('intact');
  for (let index = 0; index < lines.length - 1; index++)
    expect(verify([lines.toSpliced(index, 1)]), `without line ${index + 1}`).not.toBe('intact');
});

test('two processes that write to one file at the same time stay intact', async () => {
  const [first, second] = [await open(), await open()];
  const calls = Array.from({ length: 500 }, (_, call) => call);
  for (const call of calls) {
    send(first, call);
    send(second, call);
    if (call % 50 === 0) await Promise.race([first.flush(), second.flush()]);
  }
  await Promise.all([first.end(), second.end()]);
  expect(callsIn()).toHaveLength(1000);
  expect(verify([linesOf()])).toBe('intact');
});

test('lines that a full disk does not take wait, and go to the file that is opened next', async () => {
  const file = await open('/dev/full');
  send(file, 1, 2);
  await until(() => failures.length > 1);
  expect(failures[0]).toContain('ENOSPC');
  expect(file.queued).toBeGreaterThan(0);
  file.continueIn(await openAuditFile(path));
  send(file, 3);
  await until(() => recoveries === 1);
  await file.end();
  expect(callsIn()).toEqual([1, 2, 3]);
  expect(verify([linesOf()])).toBe('intact');
});

test('a file that was removed is not written to, and its lines go to the next', async () => {
  const file = await open();
  send(file, 1);
  await file.flush();
  rmSync(path);
  send(file, 2);
  await until(() => failures.length > 0);
  expect(failures[0]).toBe('the file was removed');
  expect(existsSync(path)).toBe(false);
  file.continueIn(await openAuditFile(path));
  await until(() => recoveries === 1);
  await file.end();
  expect(callsIn()).toEqual([2]);
});

test('a directory and a pipe are not opened', async () => {
  await expect(openAuditFile(directory)).rejects.toThrow();
  await expect(openAuditFile('/proc/self/mem-that-does-not-exist')).rejects.toThrow();
});
