import { execFileSync } from 'node:child_process';
import { open, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';
import { stringify } from 'yaml';

import { RawBackend } from '../support/backends.js';
import { tlsClient } from '../support/clients.js';
import { FAST_CLOCK } from '../support/fast-clock.js';
import { handles } from '../support/process-facts.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

const HANG_FILES = fileURLToPath(new URL('../support/hang-files.mjs', import.meta.url));
const LAST_RELOAD = 'gitaly_tls_proxy_tls_last_reload_successful';
/** A process with a stuck thread can only end with an exit code where Node can replace the process. */
const EXIT_CODE = 'execve' in process ? 0 : null;

async function makeFifo(): Promise<string> {
  const path = join(await temporaryDirectory(), 'fifo');
  execFileSync('mkfifo', [path]);
  return path;
}

/** Options for a start in which files can hang: see hang-files.mjs. */
async function hanging(): Promise<{ fifo: string; nodeArgs: string[]; env: Record<string, string> }> {
  const fifo = await makeFifo();
  return {
    fifo,
    nodeArgs: [...FAST_CLOCK.nodeArgs, '--import', HANG_FILES],
    env: { ...FAST_CLOCK.env, HANGING_FIFO: fifo },
  };
}

test('while the file systems of all certificates hang, the reload is reported as failed and clients are served; then it renews again', async () => {
  const { fifo, ...options } = await hanging();
  const backend = await RawBackend.start();
  // A name is looked up on the threads that also serve files.
  const forward = backend.url.replace('127.0.0.1', 'localhost');
  const { ca, server, proxy, port } = await startSetup({ ...options, listener: { forward } });
  const paths = [server.certificatePath, server.keyPath, proxy.configurationPath];
  for (const path of paths) await writeFile(`${path}.hangs`, '');
  proxy.signal('SIGHUP');
  const line = await proxy.log.waitForEvent('reload_failed');
  expect(line['error']).toContain('timed out after 5 s');
  expect((await proxy.scrape()).value(LAST_RELOAD)).toBe(0);
  const client = await tlsClient(port, { ca: ca.caPem });
  const upstream = await connected(client, backend);
  client.destroy();
  upstream.socket.destroy();

  for (const path of paths) await rm(`${path}.hangs`);
  // Opened for reading and writing, a FIFO never blocks, and every open that hangs returns, now and later.
  const writer = await open(fifo, 'r+');
  await proxy.scrapeUntil((scrape) => scrape.value(LAST_RELOAD) === 1);
  await writer.close();
  await proxy.endsWithNothingLeaked();
});

test.each([1, 2])(
  'SIGTERM during a reload that hangs ends the program at once, with %i workers',
  async (workers) => {
    const { nodeArgs, env } = await hanging();
    const { server, proxy } = await startSetup({ nodeArgs, env, more: { workers } });
    await writeFile(`${server.certificatePath}.hangs`, '');
    proxy.signal('SIGHUP');
    while (!proxy.stderr.text.includes(' hangs\n')) await delay(5);
    proxy.signal('SIGTERM');
    expect(await proxy.exited).toBe(EXIT_CODE);
    expect(proxy.log.text).not.toContain('"event":"reload_failed"');
  },
);

test('SIGTERM ends a start that waits for its configuration', async () => {
  const proxy = await ProxyProcess.spawn({ args: ['serve', '--config', await makeFifo()] });
  // Node itself handles SIGTERM from its start on, and SIGQUIT not.
  while (!handles(proxy.pid, 'SIGQUIT')) await delay(5);
  proxy.signal('SIGTERM');
  expect(await proxy.exited).toBe(0);
  expect(proxy.log.text).toContain('"event":"stopped_before_ready"');
});

test('a certificate that becomes a FIFO without a writer fails the reload, and is renewed when it is a file again', async () => {
  const { server, proxy } = await startSetup(FAST_CLOCK);
  const path = server.certificatePath;
  await rename(path, `${path}.kept`);
  await symlink(await makeFifo(), path);
  const line = await proxy.log.waitForEvent('reload_failed');
  expect(line['error']).toContain('nothing is written to the pipe');
  await rm(path);
  await rename(`${path}.kept`, path);
  await proxy.scrapeUntil((scrape) => scrape.value(LAST_RELOAD) === 1);
  await proxy.endsWithNothingLeaked();
});

test('a configuration is read from a FIFO once, as of sops or doppler', async () => {
  const fifo = await makeFifo();
  const proxy = await ProxyProcess.spawn({ args: ['serve', '--config', fifo] });
  const writer = await open(fifo, 'w');
  await writer.write(
    stringify({ listeners: [{ listen: 'tcp://127.0.0.1:0', forward: 'tcp://127.0.0.1:9' }] }),
  );
  await writer.close();
  await proxy.log.waitForEvent('ready');
  proxy.signal('SIGTERM');
  expect(await proxy.exited).toBe(0);
});

test('`configuration validate` of a file that hangs reports the timeout and ends', async () => {
  const { nodeArgs, env } = await hanging();
  const path = join(await temporaryDirectory(), 'file');
  await writeFile(path, '');
  await writeFile(`${path}.hangs`, '');
  const proxy = await ProxyProcess.spawn({ args: ['configuration', 'validate', path], nodeArgs, env });
  expect(await proxy.exited).toBe(EXIT_CODE === 0 ? 2 : null);
  expect(proxy.log.text).toContain('timed out after 5 s');
});
