import { existsSync, statSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { once } from 'node:events';
import { dirname, join } from 'node:path';

import { expect, onTestFinished, test } from 'vitest';

import { MAX_UNIX_PATH_BYTES } from '../../src/limits.js';
import { DEFAULT_ACCESS, UnixSocket } from '../../src/serving/unix-socket.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const isRoot = process.getuid?.() === 0;

async function bind(path: string): Promise<Server> {
  const server = createServer((socket) => socket.end());
  server.listen({ path });
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return server;
}

/** Whether connections to the path are accepted. */
async function isServed(path: string): Promise<boolean> {
  const client = connect({ path });
  try {
    await once(client, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    client.destroy();
  }
}

test('while the socket is prepared, its path does not exist, and the temporary name is accessible to no other user', async () => {
  const path = join(await temporaryDirectory(), 'gitaly.socket');
  const modes: number[] = [];
  await UnixSocket.listen(path, { ...DEFAULT_ACCESS, mode: 0o660 }, async (at) => {
    const server = await bind(at);
    modes.push(statSync(at).mode & 0o777);
    expect(existsSync(path)).toBe(false);
    expect(dirname(at)).toBe(dirname(path));
    return server;
  });
  expect(modes).toEqual([0]);
  expect(statSync(path).mode & 0o777).toBe(0o660);
  expect(await readdir(dirname(path))).toEqual(['gitaly.socket']);
});

test('a path as long as one may be, with a name of one letter, is listened on', async () => {
  const start = await temporaryDirectory();
  const directory = join(start, 'd'.repeat(MAX_UNIX_PATH_BYTES - Buffer.byteLength(start) - 3));
  await mkdir(directory);
  const path = join(directory, 's');
  expect(Buffer.byteLength(path)).toBe(MAX_UNIX_PATH_BYTES);
  await UnixSocket.listen(path, DEFAULT_ACCESS, bind);
  expect(await isServed(path)).toBe(true);
});

test('an owner that the process must not set is one error with a fix, and no file is left', async () => {
  const directory = await temporaryDirectory();
  const path = join(directory, 'gitaly.socket');
  const owner = { id: 12_345, name: 'git' };
  const listening = UnixSocket.listen(path, { ...DEFAULT_ACCESS, owner }, bind);
  if (isRoot) {
    await listening;
    expect(statSync(path).uid).toBe(owner.id);
    return;
  }
  await expect(listening).rejects.toThrow(
    'cannot set the owner of the socket to git: only root can change the owner of a file: run the proxy as git, or remove socket.owner',
  );
  await expect.poll(() => readdir(directory)).toEqual([]);
});

test("of two that start at the same time on one path, one fails, and the path is the other one's", async () => {
  const path = join(await temporaryDirectory(), 'gitaly.socket');
  const outcomes = await Promise.allSettled([1, 2].map(() => UnixSocket.listen(path, DEFAULT_ACCESS, bind)));
  const failed = outcomes.flatMap((outcome) =>
    outcome.status === 'rejected' ? [String(outcome.reason)] : [],
  );
  expect(failed).toEqual([expect.stringContaining('EADDRINUSE')]);
  expect(await isServed(path)).toBe(true);
});

test('a file in the place of the socket is not removed with it', async () => {
  const path = join(await temporaryDirectory(), 'gitaly.socket');
  const { socket } = await UnixSocket.listen(path, DEFAULT_ACCESS, bind);
  socket.remove();
  expect(existsSync(path)).toBe(false);
  await writeFile(path, '');
  socket.remove();
  expect(existsSync(path)).toBe(true);
});
