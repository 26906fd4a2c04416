import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, onTestFinished, test } from 'vitest';

import { RawBackend } from '../support/backends.js';
import { tcpClient, tlsClient, unixClient } from '../support/clients.js';
import { ProxyProcess, type StartOptions } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

describe('listening', () => {
  test('on IPv6, TLS and port 0: the log has the port that was bound', async () => {
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

describe('a name', () => {
  const RESOLVE_NAMES = fileURLToPath(new URL('../support/resolve-names.mjs', import.meta.url));

  /** A proxy on port 0 of a name, for clients and for the admin port. */
  async function startOnName(
    name: string,
    addresses: readonly string[],
    workers = 1,
  ): Promise<{
    proxy: ProxyProcess;
    backend: RawBackend;
    port: number;
  }> {
    const backend = await RawBackend.start();
    const listen = `tcp://${name}:0`;
    const proxy = await ProxyProcess.start({
      configuration: {
        listeners: [{ listen, forward: backend.url }],
        prometheus_listen_addr: `${name}:0`,
        workers,
      },
      nodeArgs: ['--import', RESOLVE_NAMES],
      env: { RESOLVE_NAMES: JSON.stringify({ [name]: addresses }) },
    });
    return { proxy, backend, port: await proxy.port(listen) };
  }

  /** The admin port, by an address of its name. */
  async function metricsOf(proxy: ProxyProcess, host: string): Promise<number> {
    const line = await proxy.log.waitForEvent('listening', { listener: 'prometheus_listen_addr' });
    const { port } = new URL(String(line['listen']));
    return (await fetch(`http://${host}:${port}/metrics`, { headers: { connection: 'close' } })).status;
  }

  test.each([
    ['localhost', ['::1', '127.0.0.1'], 1],
    ['localhost', ['::1', '127.0.0.1', '127.0.0.1'], 2],
    ['localhost', ['::1'], 1],
    ['gitaly.test', ['127.0.0.1', '::1', '192.0.2.7'], 1],
  ])('%s with the addresses %j is listened on at each, with %i workers', async (name, addresses, workers) => {
    const { proxy, backend, port } = await startOnName(name, addresses, workers);
    for (const host of ['127.0.0.1', '::1']) {
      const client = await tcpClient(port, host);
      const upstream = await connected(client, backend);
      client.destroy();
      upstream.socket.destroy();
    }
    expect(await Promise.all(['127.0.0.1', '[::1]'].map((host) => metricsOf(proxy, host)))).toEqual([
      200, 200,
    ]);
    const absent = addresses.includes('192.0.2.7');
    expect(proxy.log.text.includes('"event":"listening_incomplete"')).toBe(absent);
    proxy.signal('SIGTERM');
    expect(await proxy.exited).toBe(0);
  });

  test('of which one address has the port taken: one line, exit 1, and nothing stays bound', async () => {
    const squatter = createServer();
    squatter.listen(0, '127.0.0.1');
    await once(squatter, 'listening');
    onTestFinished(() => void squatter.close());
    const { port } = squatter.address() as AddressInfo;
    const proxy = await ProxyProcess.spawn({
      configuration: { listeners: [{ listen: `tcp://localhost:${port}`, forward: 'tcp://127.0.0.1:1' }] },
      nodeArgs: ['--import', RESOLVE_NAMES],
      env: { RESOLVE_NAMES: JSON.stringify({ localhost: ['::1', '127.0.0.1'] }) },
    });
    expect(await proxy.exited).toBe(1);
    expect(proxy.stderr.text).toMatch(/^gitaly-tls-proxy: cannot listen on tcp:.*EADDRINUSE.*\n$/u);
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

  test('a socket path that another process listens on is not replaced: one line, exit 1', async () => {
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

  test('of a successor is not removed by the process that ends', async () => {
    const path = join(await temporaryDirectory(), 'gitaly.socket');
    const former = await startOn(path);
    await rm(path);
    const successor = await startOn(path);
    await former.proxy.endsWithNothingLeaked();
    const client = await unixClient(path);
    const upstream = await connected(client, successor.backend);
    client.destroy();
    upstream.socket.destroy();
    await successor.proxy.endsWithNothingLeaked();
    expect(await readdir(dirname(path))).toEqual([]);
  });

  test('has the mode and the group of `socket`, and others after a reload', async () => {
    const path = join(await temporaryDirectory(), 'gitaly.socket');
    const group = process.getgroups?.().at(-1) ?? 0;
    const listener = (socket: object): object => ({
      listen: `unix:${path}`,
      forward: 'tcp://127.0.0.1:1',
      socket,
    });
    const proxy = await ProxyProcess.start({
      configuration: { listeners: [listener({ mode: '0620', group: String(group) })] },
    });
    expect(statSync(path).mode & 0o777).toBe(0o620);
    expect(statSync(path).gid).toBe(group);
    const { ino } = statSync(path);
    await proxy.configure({ listeners: [listener({ mode: '666' })] });
    proxy.signal('SIGHUP');
    await proxy.log.waitForEvent('reloaded');
    expect(statSync(path)).toMatchObject({ ino, mode: expect.any(Number) as unknown });
    expect(statSync(path).mode & 0o777).toBe(0o666);
    await proxy.endsWithNothingLeaked();
  });

  test.each([
    [{ owner: 'no-such-user' }, 'listeners[0].socket.owner: unknown user on this machine'],
    [{ group: 'no-such-group' }, 'listeners[0].socket.group: unknown group on this machine'],
    [{ mode: 660 }, 'listeners[0].socket.mode: expected a string such as "0660"'],
    [{ mode: '0440' }, 'listeners[0].socket.mode: no client could connect'],
    [{ mode: 'rw' }, 'listeners[0].socket.mode: expected permission bits'],
  ])('with %j as `socket` is not made: one line, exit 2', async (socket, message) => {
    const path = join(await temporaryDirectory(), 'gitaly.socket');
    const proxy = await ProxyProcess.spawn({
      configuration: { listeners: [{ listen: `unix:${path}`, forward: 'tcp://127.0.0.1:1', socket }] },
    });
    expect(await proxy.exited).toBe(2);
    expect(proxy.stderr.text).toContain(message);
    expect(existsSync(path)).toBe(false);
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
