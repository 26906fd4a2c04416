import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';

import { describe, expect, onTestFinished, test } from 'vitest';

import { MAX_CUT_CALL_LINES, UNAUTHENTICATED_LINES } from '../../src/limits.js';
import { Authority } from '../support/authority.js';
import { RawBackend } from '../support/backends.js';
import { BACKCHANNEL_PREFACE, HTTP2_PREFACE, readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { ALLOWED, ONE_WORKER, PLAIN, startGate } from '../support/gate.js';
import type { LogLine } from '../support/log-lines.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, startWithCalls, TLS_LISTENER } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

const TCP_LISTENER = 'tcp://127.0.0.1:0';
const CLOSED = 'gitaly_tls_proxy_connections_closed_total';
const DROPPED_LINES = 'gitaly_tls_proxy_log_lines_dropped_total';

/** The lines of connections. */
function connectionLines(proxy: ProxyProcess): LogLine[] {
  return proxy.log.lines.filter((line) => 'close.reason' in line);
}

/** How many lines the log says are missing from it. */
function missingLines(proxy: ProxyProcess): number {
  return proxy.log.lines
    .filter(({ event, level }) => event === 'log_lines_dropped' && level === 'warning')
    .reduce((sum, { lines }) => sum + Number(lines), 0);
}

describe('the log', () => {
  test('has one line for a connection, with who, what, how much, how long, and who ended it why', async () => {
    const clients = await Authority.create(await temporaryDirectory(), 'clients');
    const known = await clients.client({ dns: ['sidekiq.internal'] });
    const { ca, proxy, port, backend } = await startSetup({
      tls: { client_auth: 'require', client_ca_path: clients.caPath },
    });
    const client = await tlsClient(port, {
      ca: ca.caPem,
      cert: known.certificatePem,
      key: known.keyPem,
      maxVersion: 'TLSv1.3',
    });
    const { localPort } = client;
    const upstream = await connected(client, backend);
    const ending = readToEnd(client);
    upstream.socket.end('12345');
    client.end();
    expect((await ending).received.toString()).toBe('12345');
    const line = await proxy.log.waitForClose('finished');
    expect(line).toMatchObject({
      level: 'info',
      msg: 'connection finished',
      listener: TLS_LISTENER,
      upstream: backend.url,
      'peer.address': `127.0.0.1:${localPort}`,
      'peer.identity': 'sidekiq.internal',
      protocol: 'backchannel',
      'tls.version': 'TLSv1.3',
      'tls.cipher': 'TLS_AES_128_GCM_SHA256',
      'tls.resumed': false,
      server_name: 'localhost',
      'bytes.to_upstream': BACKCHANNEL_PREFACE.length,
      'bytes.to_client': 5,
      'close.reason': 'finished',
      'close.initiator': expect.stringMatching(/^(client|upstream)$/) as unknown,
      duration_ms: expect.any(Number) as unknown,
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as unknown,
    });
    expect(connectionLines(proxy)).toHaveLength(1);
    await proxy.endsWithNothingLeaked();
  });

  test("has no line at info for a load balancer's probes, over TCP and TLS, but counts them", async () => {
    const { ca, proxy, port } = await startSetup();
    for (let index = 0; index < 5; index++) {
      const probe = await tcpClient(port);
      probe.end();
      await readToEnd(probe);
      const handshake = await tlsClient(port, { ca: ca.caPem });
      handshake.end();
      await readToEnd(handshake);
    }
    const reset = await tcpClient(port);
    reset.resetAndDestroy();
    await proxy.scrapeUntil((scrape) => scrape.value(CLOSED, { reason: 'probe' }) === 11);
    expect(connectionLines(proxy)).toEqual([]);
    await proxy.endsWithNothingLeaked();
  });

  test('shows the probes at level debug, and is text for a terminal where asked', async () => {
    const { proxy, port } = await startSetup({ more: { logging: { level: 'debug', format: 'json' } } });
    const probe = await tcpClient(port);
    probe.end();
    expect(await proxy.log.waitForClose('probe')).toMatchObject({ level: 'debug' });
    await proxy.endsWithNothingLeaked();

    const inText = await ProxyProcess.spawn({
      configuration: {
        listeners: [{ listen: 'tcp://127.0.0.1:0', forward: 'tcp://127.0.0.1:1' }],
        logging: { format: 'text' },
      },
    });
    const text = await inText.log.waitForText('ready');
    expect(inText.log.lines).toEqual([]);
    expect(text).toContain('INFO');
    inText.signal('SIGTERM');
    expect(await inText.exited).toBe(0);
  });
});

describe('a connection that ends with many calls open', () => {
  test('has its own line before theirs, of which there are some, and a count of the rest', async () => {
    const CALLS = 400;
    const { backend, proxy, port } = await startSetup({ listener: { listen: TCP_LISTENER } });
    const raw = await tcpClient(port);
    const session = connectHttp2(`http://127.0.0.1:${port}`, { createConnection: () => raw });
    session.on('error', () => undefined);
    onTestFinished(() => session.destroy());
    const calls = Array.from({ length: CALLS }, () =>
      session.request({ ':method': 'POST', ':path': '/gitaly.CommitService/FindCommit' }),
    );
    for (const call of calls) call.on('error', () => undefined);
    const { socket } = await backend.accept();
    socket.write(HTTP2_PREFACE.subarray(-9));
    await proxy.scrapeUntil((scrape) => scrape.value('gitaly_tls_proxy_rpcs_in_flight') === CALLS);
    raw.resetAndDestroy();
    const rest = await proxy.log.waitForEvent('call_lines_suppressed');
    expect(rest).toMatchObject({
      lines: CALLS - MAX_CUT_CALL_LINES,
      'peer.address': expect.any(String) as unknown,
    });
    const own = proxy.log.lines.findIndex((line) => 'close.reason' in line);
    const first = proxy.log.lines.findIndex((line) => 'grpc.code' in line);
    expect(own).toBeGreaterThan(-1);
    expect(own).toBeLessThan(first);
    expect(proxy.log.lines.filter((line) => 'grpc.code' in line)).toHaveLength(MAX_CUT_CALL_LINES);
    await proxy.endsWithNothingLeaked();
  });
});

describe('the lines of unauthenticated clients are limited, those of others are not, and metrics count all:', () => {
  const { burst } = UNAUTHENTICATED_LINES;

  test('connections', async () => {
    const { proxy, port, call } = await startWithCalls();
    const CONNECTIONS = 2 * burst;
    let left = CONNECTIONS;
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        while (left-- > 0) {
          const stranger = await tcpClient(port);
          stranger.end('no TLS');
          await readToEnd(stranger);
        }
      }),
    );
    await call();
    await proxy.log.waitForClose('finished');
    const lines = proxy.log.lines.filter((line) => line['close.reason'] === 'handshake_failed');
    expect(lines.length).toBeGreaterThanOrEqual(burst);
    expect(lines.length).toBeLessThan(CONNECTIONS);
    const closed = (await proxy.scrape()).value(CLOSED, { reason: 'handshake_failed' });
    expect(closed).toBe(CONNECTIONS);
    await proxy.endsWithNothingLeaked();
  });

  test('HTTP requests', async () => {
    const gate = await startGate({
      listener: { listen: PLAIN, paths: ['/api/v4/internal/'] },
      more: ONE_WORKER,
    });
    const [stranger, known] = [1, 2].map(() => new Agent({ keepAlive: true, maxSockets: 1 }));
    onTestFinished(() => [stranger, known].forEach((agent) => agent?.destroy()));
    const ask = (agent: Agent | undefined, path: string) => gate.ask(path, { agent });
    for (let asked = 0; asked < burst + 200; asked++) await ask(stranger, `/${asked}`);
    await ask(known, ALLOWED);
    for (let asked = 0; asked < 50; asked++) await ask(known, '/known');
    await gate.proxy.log.waitFor((line) => line['http.path'] === '/known');
    [stranger, known].forEach((agent) => agent?.destroy());
    await gate.endsWithNothingLeaked();
    const linesOf = (pattern: RegExp): number =>
      gate.proxy.log.lines.filter((line) => pattern.test(String(line['http.path']))).length;
    expect(linesOf(/^\/\d+$/u)).toBeLessThan(burst + 200);
    expect(linesOf(/^\/known$/u)).toBe(50);
    expect(linesOf(new RegExp(`^${ALLOWED}$`, 'u'))).toBe(1);
  });
});

describe('traffic is unharmed by', () => {
  test('a log that is not read: lines are dropped and counted, which is logged when it is read again', async () => {
    const gate = await startGate({ listener: { listen: PLAIN } });
    const { proxy } = gate;
    const dropped = async (): Promise<number> => (await proxy.scrape()).value(DROPPED_LINES);
    const agent = new Agent({ keepAlive: true, maxSockets: 16 });
    onTestFinished(() => agent.destroy());
    const headers = { 'x-request-id': 'r'.repeat(255) };
    const call = async (path = ALLOWED): Promise<void> => {
      expect(await gate.ask(path, { agent, headers })).toMatchObject({ status: 200 });
    };
    proxy.leaveLogUnread();
    // Each has a long line, until the pipe and the queue of the program are full.
    const path = `${ALLOWED}/${'a'.repeat(1000)}`;
    while ((await dropped()) === 0) await Promise.all(Array.from({ length: 200 }, () => call(path)));
    await call();
    proxy.readLogAgain();
    // Each call ends with a line: the first that finds room tells how many before it did not.
    for (let total = await dropped(); missingLines(proxy) < total; total = await dropped()) await call();
    expect(missingLines(proxy)).toBe(await dropped());
    agent.destroy();
    await gate.endsWithNothingLeaked();
  });

  test('a log whose reader has exited', async () => {
    const { proxy, call } = await startWithCalls();
    proxy.closeLog();
    for (let index = 0; index < 5; index++) await call();
    expect((await proxy.scrape()).value(CLOSED, { reason: 'finished' })).toBeGreaterThan(0);
    await proxy.endsWithNothingLeaked();
  });

  test('a full disk under the log', async () => {
    const backend = await RawBackend.start();
    // The port must be known without the log: it is a unix socket here.
    const path = `${await temporaryDirectory()}/gitaly.socket`;
    const proxy = await ProxyProcess.spawn({
      configuration: { listeners: [{ listen: `unix:${path}`, forward: backend.url }] },
      logFile: '/dev/full',
    });
    const dial = async (): Promise<Socket> => {
      for (;;) {
        const client = connect({ path, allowHalfOpen: true });
        const [outcome] = await Promise.race([
          once(client, 'connect').then(() => ['connected']),
          once(client, 'error').then(() => ['refused']),
        ]).catch(() => ['refused']);
        if (outcome === 'connected') return client;
      }
    };
    const client = await dial();
    onTestFinished(() => void client.destroy());
    client.write(BACKCHANNEL_PREFACE);
    const upstream = await backend.accept();
    expect(await upstream.receive(BACKCHANNEL_PREFACE.length)).toEqual(BACKCHANNEL_PREFACE);
    client.end();
    upstream.socket.end();
    await readToEnd(client);
    proxy.signal('SIGTERM');
    expect(await proxy.exited).toBe(0);
  });
});
