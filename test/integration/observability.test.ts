import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';

import { describe, expect, onTestFinished, test } from 'vitest';

import { RawBackend } from '../support/backends.js';
import { readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, startWithCalls, TLS_LISTENER } from '../support/setup.js';
import { connected } from '../support/transfer.js';
import { Authority } from '../support/authority.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const LOSE_LISTENER = fileURLToPath(new URL('../support/lose-listener.mjs', import.meta.url));
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
  test("GitLab's documented query distinguishes tls from tcp, counted at accept", async () => {
    const documents = await Promise.all(
      ['docs/migrate.md', 'docs/metrics.md'].map((path) =>
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

  test('contains exactly the metrics and labels of docs/metrics.md', async () => {
    const reference = await readFile(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
    const documented = new Map(
      [...reference.matchAll(/^\| `(\w+)` +\| (counter|gauge|histogram) +\| ([^|]*)\|/gm)].map(
        ([, name = '', type = '', labels = '']) => [
          /^(gitaly|grpc)_/.test(name) ? name : `${OURS}${name}`,
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
    await proxy.log.waitForEvent('reloaded');

    const { body } = await scrapeAs(proxy, 'text/plain');
    const types = new Map(
      [...body.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = '', type = '']) => [name, type]),
    );
    const ours = [...types].filter(([name]) => /^(gitaly|grpc)_/.test(name));
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
  /** The status and the body of a path of the admin port. */
  async function ask(
    proxy: ProxyProcess,
    path: string,
    method = 'GET',
  ): Promise<{ status: number; body: string }> {
    const response = await fetch(`${await proxy.adminUrl()}${path}`, {
      method,
      headers: { connection: 'close' },
    });
    return { status: response.status, body: await response.text() };
  }

  test('/-/liveness and /-/readiness answer 200 while all is well, other paths 404, other methods 405', async () => {
    const { proxy } = await startSetup();
    expect(await ask(proxy, '/-/liveness')).toEqual({ status: 200, body: 'alive\n' });
    expect(await ask(proxy, '/-/readiness')).toEqual({ status: 200, body: 'ready\n' });
    expect(await ask(proxy, '/-/readiness', 'HEAD')).toEqual({ status: 200, body: '' });
    expect(await ask(proxy, '/nothing')).toMatchObject({ status: 404 });
    expect(await ask(proxy, '/-/readiness', 'POST')).toMatchObject({ status: 405 });
    await proxy.endsWithNothingLeaked();
  });

  test('a listener that is not bound any more fails readiness, by its name, and not liveness', async () => {
    const { proxy } = await startSetup({ nodeArgs: ['--import', LOSE_LISTENER] });
    proxy.signal('SIGUSR2');
    let readiness = await ask(proxy, '/-/readiness');
    while (readiness.status === 200) readiness = await ask(proxy, '/-/readiness');
    expect(readiness).toEqual({ status: 503, body: `not listening on ${TLS_LISTENER}\n` });
    expect(await ask(proxy, '/-/liveness')).toMatchObject({ status: 200 });
    await proxy.endsWithNothingLeaked();
  });
});

describe('traffic is unharmed by', () => {
  test('scrapers that do not read, and five that scrape without a pause', async () => {
    const { proxy, call } = await startWithCalls();
    const { hostname, port } = new URL(await proxy.adminUrl());
    const slow = Array.from({ length: 10 }, () => connect({ host: hostname, port: Number(port) }));
    onTestFinished(() => slow.forEach((scraper) => scraper.destroy()));
    for (const scraper of slow) {
      await once(scraper, 'connect');
      scraper.pause();
      scraper.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(50));
    }
    const scrapes = Array.from({ length: 5 }, async () => {
      for (let index = 0; index < 20; index++) expect((await proxy.scrape()).samples).not.toEqual([]);
    });
    for (let index = 0; index < 10; index++) await call();
    await Promise.all(scrapes);
    for (const scraper of slow) scraper.destroy();
    await proxy.endsWithNothingLeaked();
  });
});

/** Values of the label `type`, which the reference lists beside it. */
const TYPES = new Set(['tls', 'tcp', 'unix']);
