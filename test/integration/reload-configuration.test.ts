import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { open } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';
import { stringify } from 'yaml';

import { RawBackend } from '../support/backends.js';
import { readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

const RELOADS = 'gitaly_tls_proxy_tls_reloads_total';
const SUCCESSFUL = 'gitaly_tls_proxy_tls_last_reload_successful';
const A = 'tcp://127.0.0.1:0';
/** Another address of the loopback network: two listeners on port 0 of one host are told apart by their order alone. */
const B = 'tcp://127.0.0.2:0';

async function reload(proxy: ProxyProcess): Promise<void> {
  const reloads = async (): Promise<number> => (await proxy.scrape()).value(RELOADS);
  const before = await reloads();
  proxy.signal('SIGHUP');
  await proxy.scrapeUntil((scrape) => scrape.value(RELOADS) > before);
}

/** Each listener has a descriptor: with as many as at the start, the others must be as they were too. */
async function endsWithOneListener(proxy: ProxyProcess, backend: RawBackend): Promise<void> {
  await proxy.configure({ listeners: [{ listen: A, forward: backend.url }] });
  await reload(proxy);
  await proxy.endsWithNothingLeaked();
}

/** Whether somebody accepts connections there. */
async function accepts(host: string, port: number): Promise<boolean> {
  try {
    const client = await tcpClient(port, host);
    client.destroy();
    return true;
  } catch {
    return false;
  }
}

describe('SIGHUP puts the changed file in force:', () => {
  test('new listeners are bound, removed ones stop accepting, open connections of both are kept', async () => {
    const backend = await RawBackend.start();
    const proxy = await ProxyProcess.start({
      // Were it followed, an idle connection would be drained.
      configuration: { listeners: [{ listen: A, forward: backend.url, inspect: false }] },
    });
    const portA = await proxy.port(A);
    const old = await tcpClient(portA);
    const oldUpstream = await connected(old, backend);

    await proxy.configure({ listeners: [{ listen: B, forward: backend.url }] });
    await reload(proxy);
    const fresh = await tcpClient(await proxy.port(B), '127.0.0.2');
    const freshUpstream = await connected(fresh, backend);
    expect(await accepts('127.0.0.1', portA)).toBe(false);
    const received = oldUpstream.received.length;
    old.write('still here');
    await oldUpstream.receive(received + 10);
    // Both are open, and both are counted.
    expect((await proxy.scrape()).value('gitaly_tls_proxy_connections_active')).toBe(2);

    for (const client of [old, fresh]) client.destroy();
    for (const { socket } of [oldUpstream, freshUpstream]) socket.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('changed settings hold for new connections and not for open ones', async () => {
    const [before, after] = [await RawBackend.start(), await RawBackend.start()];
    const { ca, proxy, port, configuration } = await startSetup({ listener: { forward: before.url } });
    const old = await tlsClient(port, { ca: ca.caPem });
    const oldUpstream = await connected(old, before);
    await expect(tlsClient(port, { ca: ca.caPem, ALPNProtocols: undefined })).rejects.toThrow();

    await proxy.configure({
      tls: { ...configuration.tls, require_alpn: false },
      listeners: [{ listen: TLS_LISTENER, forward: after.url }],
    });
    await reload(proxy);
    const fresh = await tlsClient(port, { ca: ca.caPem, ALPNProtocols: undefined });
    const freshUpstream = await connected(fresh, after);
    const received = oldUpstream.received.length;
    old.write('still here');
    await oldUpstream.receive(received + 10);

    for (const client of [old, fresh]) client.destroy();
    for (const { socket } of [oldUpstream, freshUpstream]) socket.destroy();
    await proxy.endsWithNothingLeaked();
  });
});

describe('all or nothing:', () => {
  test('a file with mistakes changes nothing, all of them are logged, and it recovers when they are fixed', async () => {
    const backend = await RawBackend.start();
    const listeners = [{ listen: A, forward: backend.url }];
    const proxy = await ProxyProcess.start({ configuration: { listeners } });
    const port = await proxy.port(A);
    await proxy.configure({ listeners: [...listeners, { listen: B, forward: 'http://x:1' }], colour: 'red' });
    await reload(proxy);
    const line = await proxy.log.waitForEvent('reload_failed');
    expect(line['error']).toContain('colour');
    expect(line['error']).toContain('listeners[1].forward');
    expect(line['error']).toContain(proxy.configurationPath);
    expect((await proxy.scrape()).value(SUCCESSFUL)).toBe(0);
    const client = await tcpClient(port);
    const upstream = await connected(client, backend);

    // No signal: what failed is tried again until it succeeds.
    await proxy.configure({ listeners: [...listeners, { listen: B, forward: backend.url }] });
    await proxy.scrapeUntil((scrape) => scrape.value(SUCCESSFUL) === 1);
    expect(await accepts('127.0.0.2', await proxy.port(B))).toBe(true);
    client.destroy();
    upstream.socket.destroy();
    await endsWithOneListener(proxy, backend);
  });

  test('where one new port is taken, no other listener is bound or removed', async () => {
    const backend = await RawBackend.start();
    const proxy = await ProxyProcess.start({
      configuration: { listeners: [{ listen: A, forward: backend.url }] },
    });
    const port = await proxy.port(A);
    const squatter = createServer();
    squatter.listen(0, '127.0.0.3');
    await once(squatter, 'listening');
    onTestFinished(() => void squatter.close());
    const address = squatter.address();
    const taken = `tcp://127.0.0.3:${typeof address === 'object' && address ? address.port : 0}`;

    await proxy.configure({
      listeners: [
        { listen: B, forward: backend.url },
        { listen: taken, forward: backend.url },
      ],
    });
    await reload(proxy);
    const line = await proxy.log.waitForEvent('reload_failed');
    expect(line['error']).toContain(`cannot listen on ${taken}`);
    expect(line['error']).toContain('EADDRINUSE');
    expect(proxy.log.lines.filter(({ listener, event }) => listener === B && event === 'listening')).toEqual(
      [],
    );
    expect(await accepts('127.0.0.1', port)).toBe(true);

    squatter.close();
    await proxy.scrapeUntil((scrape) => scrape.value(SUCCESSFUL) === 1);
    expect(await accepts('127.0.0.1', port)).toBe(false);
    expect(await accepts('127.0.0.2', await proxy.port(B))).toBe(true);
    await endsWithOneListener(proxy, backend);
  });
});

describe('SIGHUP is harmless', () => {
  test('twice at once', async () => {
    const backend = await RawBackend.start();
    const proxy = await ProxyProcess.start({
      configuration: { listeners: [{ listen: A, forward: backend.url }] },
    });
    const port = await proxy.port(A);
    proxy.signal('SIGHUP');
    proxy.signal('SIGHUP');
    await proxy.scrapeUntil((scrape) => scrape.value(RELOADS, { result: 'success' }) >= 1);
    const client = await tcpClient(port);
    const upstream = await connected(client, backend);
    client.end();
    upstream.socket.end();
    await readToEnd(client);
    await proxy.endsWithNothingLeaked();
  });

  test('before the program is ready', async () => {
    const backend = await RawBackend.start();
    // A pipe in place of the file holds the program at its start for as long as the test wants.
    const pipe = join(await temporaryDirectory(), 'configuration');
    execFileSync('mkfifo', [pipe]);
    const configuration = stringify({
      listeners: [{ listen: A, forward: backend.url }],
      prometheus_listen_addr: '127.0.0.1:0',
    });
    const proxy = await ProxyProcess.spawn({ args: ['serve', '--config', pipe] });
    const start = await open(pipe, 'w');
    proxy.signal('SIGHUP');
    await start.writeFile(configuration);
    await start.close();
    await proxy.log.waitForEvent('ready');
    const again = await open(pipe, 'w');
    await again.writeFile(configuration);
    await again.close();
    await proxy.log.waitForEvent('reloaded');
    expect(await accepts('127.0.0.1', await proxy.port(A))).toBe(true);
    proxy.signal('SIGTERM');
    expect(await proxy.exited).toBe(0);
  });
});
