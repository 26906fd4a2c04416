import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { readContent, readText } from '../../src/files/read-file.js';
import { MAX_SETTING_FILE_BYTES } from '../../src/limits.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const descriptors = (): number => readdirSync('/proc/self/fd').length;

test('a file is read whole, with its mode', async () => {
  const path = join(await temporaryDirectory(), 'file');
  const content = 'ä'.repeat(100_000);
  await writeFile(path, content, { mode: 0o640 });
  const { bytes, mode } = await readContent(path);
  expect(bytes.toString()).toBe(content);
  expect(mode & 0o777).toBe(0o640);
});

test('a file without a size of its own is read whole', async () => {
  expect(await readText('/proc/self/status')).toContain('SigCgt:');
});

test('a FIFO is read until its writers have closed it, and waits for the first one', async () => {
  const path = join(await temporaryDirectory(), 'fifo');
  execFileSync('mkfifo', [path]);
  const before = descriptors();
  const content = readText(path);
  const writer = await open(path, 'w');
  await writer.write('first, ');
  await writer.write('second');
  await writer.close();
  expect(await content).toBe('first, second');
  expect(descriptors()).toBe(before);
});

test.each([
  ['a directory', (path: string) => mkdir(path), 'it is a directory, not a file'],
  [
    'a file that is too large',
    async (path: string) => {
      const file = await open(path, 'w');
      await file.truncate(MAX_SETTING_FILE_BYTES + 1);
      await file.close();
    },
    'it is larger than 64 MiB',
  ],
])('%s is refused', async (_name, make, message) => {
  const path = join(await temporaryDirectory(), 'thing');
  await make(path);
  const before = descriptors();
  await expect(readText(path)).rejects.toThrow(message);
  expect(descriptors()).toBe(before);
});

test('a device without an end is refused', async () => {
  await expect(readText('/dev/zero')).rejects.toThrow('it is a device or a socket, not a file');
});
