import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';

import { describe, expect, onTestFinished, test } from 'vitest';

import { HEALTH_SERVING } from '../../src/demo/demo-service.js';
import { RawBackend, startGrpcBackend } from '../support/backends.js';
import { BACKCHANNEL_PREFACE, HTTP2_PREFACE, readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import type { LogLine } from '../support/log-lines.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { connected } from '../support/transfer.js';
import { Authority } from '../support/authority.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const TCP_LISTENER = 'tcp://127.0.0.1:0';
const OURS = 'gitaly_tls_proxy_';
const CLOSED = `${OURS}connections_closed_total`;

/** What a scraper gets; `accept` asks for a format. */
async function scrapeAs(proxy: ProxyProcess, accept: string): Promise<{ type: string; body: string }> {
  const response = await fetch(`${await proxy.adminUrl()}/metrics`, {
    headers: { accept, connection: 'close' },
  });
  return { type: response.headers.get('content-type') ?? '', body: await response.text() };
}

describe('/metrics', () => {
  test("GitLab's documented query tells tls from tcp, counted at accept", async () => {
    const documents = await Promise.all(
      ['README.md', 'docs/metrics.md'].map((path) =>
        readFile(new URL(`../../${path}`, import.meta.url), 'utf8'),
      ),
    );
    for (const text of documents) expect(text).toContain('sum(rate(gitaly_connections_total[5m])) by (type)');
    const backend = await RawBackend.start();
    const { ca, proxy, port, configuration } = await startSetup({ listener: { forward: backend.url } });
    await proxy.configure({
      ...configuration,
      listeners: [...configuration.listeners, { listen: 'tcp://127.0.0.2:0', forward: backend.url }],
    });
    proxy.signal('SIGHUP');
    const tcpPort = await proxy.port('tcp://127.0.0.2:0');
    const clients = [
      await tlsClient(port, { ca: ca.caPem }),
      await tlsClient(port, { ca: ca.caPem }),
      await tcpClient(tcpPort, '127.0.0.2'),
    ];
    const scrape = await proxy.scrape();
    const samples = scrape.samples.filter(({ name }) => name === 'gitaly_connections_total');
    expect(Object.fromEntries(samples.map(({ labels, value }) => [JSON.stringify(labels), value]))).toEqual({
      '{"type":"tls"}': 2,
      '{"type":"tcp"}': 1,
    });
    for (const client of clients) client.destroy();
    proxy.signal('SIGTERM');
    expect(await proxy.exited).toBe(0);
  });

  test('holds what docs/metrics.md says, with these labels and no other of ours', async () => {
    const reference = await readFile(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
    const documented = new Map(
      [...reference.matchAll(/^\| `(\w+)` +\| (counter|gauge|histogram) +\| ([^|]*)\|/gm)].map(
        ([, name = '', type = '', labels = '']) => [
          name.startsWith('gitaly_') ? name : `${OURS}${name}`,
          `${type} ${[...labels.matchAll(/`(\w+)`/g)]
            .map(([, label]) => label)
            .filter((label) => !TYPES.has(label ?? ''))
            .sort()
            .join(',')}`,
        ],
      ),
    );
    const clients = await Authority.create(await temporaryDirectory(), 'clients');
    const known = await clients.client();
    const crl = await clients.revocationList([]);
    const { ca, proxy, port, backend } = await startSetup({
      tls: { client_auth: 'optional', client_ca_path: clients.caPath, client_crl_path: crl },
      more: { max_connections: 1 },
    });
    const client = await tlsClient(port, { ca: ca.caPem, cert: known.certificatePem, key: known.keyPem });
    const upstream = await connected(client, backend);
    await readToEnd(await tcpClient(port)); // dropped: max_connections
    client.destroy();
    upstream.socket.destroy();
    await proxy.scrapeUntil((scrape) => scrape.value(CLOSED) === 1);
    await readToEnd((await tcpClient(port)).end('GET / HTTP/1.1\r\n\r\n')); // a handshake that fails
    const refused = await proxy.scrapeUntil((scrape) => scrape.value(CLOSED) === 2);
    expect(refused.value(`${OURS}tls_handshake_failures_total`, { reason: 'not_tls' })).toBe(1);
    proxy.signal('SIGHUP');
    await proxy.log.waitForMessage('reloaded');

    const { body } = await scrapeAs(proxy, 'text/plain');
    const types = new Map(
      [...body.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = '', type = '']) => [name, type]),
    );
    const ours = [...types].filter(([name]) => name.startsWith('gitaly_'));
    expect(ours.map(([name]) => name).sort()).toEqual([...documented.keys()].sort());
    const { samples } = await proxy.scrape();
    for (const [name, type] of ours) {
      const sample = samples.find((one) => one.name === (type === 'histogram' ? `${name}_count` : name));
      // Those that count what has not happened here have no series yet.
      if (!sample) continue;
      expect(`${type} ${Object.keys(sample.labels).sort().join(',')}`, name).toBe(documented.get(name));
    }
    for (const name of ['process_cpu_seconds_total', 'process_open_fds', 'nodejs_eventloop_lag_p99_seconds'])
      expect(types.has(name), name).toBe(true);
    await proxy.endsWithNothingLeaked();
  });

  test('is OpenMetrics for a scraper that asks for it', async () => {
    const { proxy } = await startSetup();
    const openMetrics = await scrapeAs(proxy, 'application/openmetrics-text; version=1.0.0');
    expect(openMetrics.type).toContain('application/openmetrics-text');
    expect(openMetrics.body.endsWith('# EOF\n')).toBe(true);
    const text = await scrapeAs(proxy, 'text/plain');
    expect(text.type).toContain('text/plain');
    expect(text.body).not.toContain('# EOF');
    await proxy.endsWithNothingLeaked();
  });

  test('no client can create a series: hundreds of names in SNI and first bytes leave as many as before', async () => {
    const { ca, proxy, port } = await startSetup();
    const touch = async (name: string): Promise<void> => {
      const client = await tlsClient(port, {
        ca: ca.caPem,
        servername: name,
        checkServerIdentity: () => undefined,
      });
      client.end(`GET /${name} HTTP/1.1\r\n\r\n`);
      await readToEnd(client);
    };
    await touch('first.test');
    await proxy.scrapeUntil((scrape) => scrape.value(CLOSED) === 1);
    const series = async (): Promise<number> =>
      (await proxy.scrape()).samples.filter(({ name }) => name.startsWith('gitaly_')).length;
    const before = await series();
    for (let index = 0; index < 200; index++) await touch(`name-${index}.test`);
    await proxy.scrapeUntil((scrape) => scrape.value(CLOSED) === 201);
    expect(await series()).toBe(before);
    await proxy.endsWithNothingLeaked();
  });
});

describe('health', () => {
  test('/-/liveness and /-/readiness answer 200 while all is well, other paths 404', async () => {
    const { proxy } = await startSetup();
    const url = await proxy.adminUrl();
    for (const [path, status] of [
      ['/-/liveness', 200],
      ['/-/readiness', 200],
      ['/nothing', 404],
    ] as const) {
      const response = await fetch(`${url}${path}`, { headers: { connection: 'close' } });
      await response.text();
      expect(response.status, path).toBe(status);
    }
    await proxy.endsWithNothingLeaked();
  });
});

/** The lines of connections. */
function connectionLines(proxy: ProxyProcess): LogLine[] {
  return proxy.log.lines.filter((line) => 'close.reason' in line);
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

  test("says nothing at info of a load balancer's probes, in TCP and in TLS, but counts them", async () => {
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
        listeners: [{ listen: TCP_LISTENER, forward: 'tcp://127.0.0.1:1' }],
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

describe('traffic is unharmed by', () => {
  /** A proxy in front of a gRPC server, and calls through it on fresh connections. */
  async function startWithCalls(options: { logFile?: string } = {}) {
    const forward = await startGrpcBackend();
    const setup = await startSetup({ listener: { forward }, ...options });
    const address = await setup.proxy.address(TLS_LISTENER);
    const call = async (): Promise<void> => {
      const client = new GrpcClient(address, { ca: setup.ca.caPem });
      expect(await client.health()).toEqual(HEALTH_SERVING);
      client.close();
    };
    return { ...setup, call };
  }

  test('a log that nobody reads: lines are dropped and counted, and come again when somebody does', async () => {
    const { proxy, port, call } = await startWithCalls();
    const dropped = async (): Promise<number> =>
      (await proxy.scrape()).value(`${OURS}log_lines_dropped_total`);
    proxy.leaveLogUnread();
    // Each is refused with a long line of its own, until the pipe and what the program keeps are full.
    const hello = clientHello(Buffer.alloc(255, 0x80));
    while ((await dropped()) === 0) {
      await Promise.all(
        Array.from({ length: 200 }, async () => {
          const stranger = await tcpClient(port);
          stranger.end(hello);
          await readToEnd(stranger);
        }),
      );
    }
    await call();
    proxy.readLogAgain();
    await call();
    await proxy.log.waitForClose('finished');
    await proxy.endsWithNothingLeaked();
  });

  test('a log whose reader has gone', async () => {
    const { proxy, call } = await startWithCalls();
    proxy.closeLog();
    for (let index = 0; index < 5; index++) await call();
    expect((await proxy.scrape()).value(CLOSED, { reason: 'finished' })).toBeGreaterThan(0);
    await proxy.endsWithNothingLeaked();
  });

  test('scrapers that do not read, and a hundred scrapes a time', async () => {
    const { proxy, call } = await startWithCalls();
    const { hostname, port } = new URL(await proxy.adminUrl());
    const slow = Array.from({ length: 10 }, () => connect({ host: hostname, port: Number(port) }));
    onTestFinished(() => slow.forEach((scraper) => scraper.destroy()));
    for (const scraper of slow) {
      await once(scraper, 'connect');
      scraper.pause();
      scraper.write('GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(50));
    }
    const scrapes = Array.from({ length: 100 }, () => proxy.scrape());
    for (let index = 0; index < 10; index++) await call();
    expect((await Promise.all(scrapes)).every(({ samples }) => samples.length > 0)).toBe(true);
    for (const scraper of slow) scraper.destroy();
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
    client.write(HTTP2_PREFACE);
    const upstream = await backend.accept();
    expect(await upstream.receive(HTTP2_PREFACE.length)).toEqual(HTTP2_PREFACE);
    client.end();
    upstream.socket.end();
    await readToEnd(client);
    proxy.signal('SIGTERM');
    expect(await proxy.exited).toBe(0);
  });
});

/** A ClientHello (RFC 8446 section 4.1.2) with a server name and no ALPN, in one record. */
function clientHello(serverName: Buffer): Buffer {
  const vector = (lengthBytes: number, ...parts: readonly Buffer[]): Buffer => {
    const body = Buffer.concat(parts);
    const length = Buffer.alloc(lengthBytes);
    length.writeUIntBE(body.length, 0, lengthBytes);
    return Buffer.concat([length, body]);
  };
  const serverNames = vector(2, vector(2, Buffer.from([0]), vector(2, serverName)));
  const hello = Buffer.concat([
    Buffer.from([3, 3]),
    Buffer.alloc(32),
    vector(1),
    vector(2, Buffer.from([0x13, 0x01])),
    vector(1, Buffer.from([0])),
    vector(2, Buffer.from([0, 0]), serverNames),
  ]);
  return Buffer.concat([Buffer.from([22, 3, 1]), vector(2, Buffer.from([1]), vector(3, hello))]);
}

/** Values of the label `type`, which the reference lists beside it. */
const TYPES = new Set(['tls', 'tcp', 'unix']);
