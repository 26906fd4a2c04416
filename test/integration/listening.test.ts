import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import { RawBackend } from '../support/backends.js';
import { tcpClient, tlsClient, unixClient } from '../support/clients.js';
import { ProxyProcess, type StartOptions } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

describe('listening', () => {
  test('on IPv6, TLS and port 0: the log says which port was taken', async () => {
    const listen = 'tls://[::1]:0';
    const { ca, proxy, backend } = await startSetup({ listener: { listen } });
    const address = await proxy.address(listen);
    expect(address.hostname).toBe('[::1]');
    expect(Number(address.port)).toBeGreaterThan(0);
    const client = await tlsClient(Number(address.port), { host: '::1', ca: ca.caPem });
    const upstream = await connected(client, backend);
    const { localPort } = client;
    client.destroy();
    upstream.socket.destroy();
    const line = await proxy.log.waitForClose('finished');
    expect(line['peer.address']).toBe(`[::1]:${localPort}`);
    await proxy.endsWithNothingLeaked();
  });

  test('on all addresses, an IPv4 client shows with its IPv4 address', async () => {
    const listen = 'tcp://[::]:0';
    const backend = await RawBackend.start();
    const proxy = await ProxyProcess.start({
      configuration: { listeners: [{ listen, forward: backend.url }] },
    });
    const client = await tcpClient(await proxy.port(listen), '127.0.0.1');
    const upstream = await connected(client, backend);
    const { localPort } = client;
    client.resetAndDestroy();
    upstream.socket.destroy();
    expect((await proxy.log.waitForClose('reset'))['peer.address']).toBe(`127.0.0.1:${localPort}`);
    await proxy.endsWithNothingLeaked();
  });

  test('on several ports 0, each forwarded to its own', async () => {
    const [one, two] = [await RawBackend.start(), await RawBackend.start()];
    const listeners = [
      { listen: 'tcp://127.0.0.1:0', forward: one.url },
      { listen: 'tcp://127.0.0.2:0', forward: `dns:localhost:${new URL(two.url).port}` },
    ];
    const proxy = await ProxyProcess.start({ configuration: { listeners } });
    const first = await tcpClient(await proxy.port('tcp://127.0.0.1:0'));
    const second = await tcpClient(await proxy.port('tcp://127.0.0.2:0'), '127.0.0.2');
    const upstreams = [await connected(first, one), await connected(second, two)];
    for (const client of [first, second]) client.destroy();
    for (const { socket } of upstreams) socket.destroy();
    await proxy.endsWithNothingLeaked();
  });
});

describe('a unix socket', () => {
  async function startOn(
    path: string,
    options: StartOptions = {},
  ): Promise<{ proxy: ProxyProcess; backend: RawBackend }> {
    const backend = await RawBackend.start();
    const proxy = await ProxyProcess.start({
      ...options,
      configuration: { listeners: [{ listen: `unix:${path}`, forward: backend.url }] },
    });
    return { proxy, backend };
  }

  test('that a killed process left is replaced, and the own one is removed at the end', async () => {
    const path = join(await temporaryDirectory(), 'gitaly.socket');
    const killed = await startOn(path);
    killed.proxy.signal('SIGKILL');
    await killed.proxy.exited;
    expect(statSync(path).isSocket()).toBe(true);

    const { proxy, backend } = await startOn(path);
    const client = await unixClient(path);
    const upstream = await connected(client, backend);
    client.end();
    upstream.socket.end();
    expect(await proxy.log.waitForClose('finished')).toMatchObject({
      listener: `unix:${path}`,
      'peer.address': '@',
    });
    await proxy.endsWithNothingLeaked();
    expect(existsSync(path)).toBe(false);
  });

  test('may be used by whom the umask lets', async () => {
    const path = join(await temporaryDirectory(), 'gitaly.socket');
    const { proxy } = await startOn(path, {
      nodeArgs: ['--import', 'data:text/javascript,process.umask(0o117)'],
    });
    expect(statSync(path).mode & 0o777).toBe(0o660);
    await proxy.endsWithNothingLeaked();
  });

  test('that somebody listens on is not taken from him: one line, exit 1', async () => {
    const path = join(await temporaryDirectory(), 'gitaly.socket');
    const owner = createServer((socket) => socket.destroy());
    owner.listen({ path });
    await once(owner, 'listening');
    onTestFinished(() => void owner.close());
    const proxy = await ProxyProcess.spawn({
      configuration: { listeners: [{ listen: `unix:${path}`, forward: 'tcp://127.0.0.1:1' }] },
    });
    expect(await proxy.exited).toBe(1);
    expect(proxy.stderr.text).toMatch(/^gitaly-tls-proxy: cannot listen on unix:.*EADDRINUSE.*\n$/);
    (await unixClient(path)).destroy();
  });

  test('in a folder that is not there: one line, exit 1', async () => {
    const path = join(await temporaryDirectory(), 'nowhere', 'gitaly.socket');
    const proxy = await ProxyProcess.spawn({
      configuration: { listeners: [{ listen: `unix:${path}`, forward: 'tcp://127.0.0.1:1' }] },
    });
    expect(await proxy.exited).toBe(1);
    expect(proxy.stderr.text).toMatch(/^gitaly-tls-proxy: cannot listen on unix:.*\n$/);
  });

  test('where a file lies is not replaced: one line, exit 1, and the file stays', async () => {
    const path = join(await temporaryDirectory(), 'precious');
    await writeFile(path, 'kept');
    const proxy = await ProxyProcess.spawn({
      configuration: { listeners: [{ listen: `unix:${path}`, forward: 'tcp://127.0.0.1:1' }] },
    });
    expect(await proxy.exited).toBe(1);
    expect(await readFile(path, 'utf8')).toBe('kept');
  });
});
