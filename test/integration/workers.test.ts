import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { ConnectionOptions, TLSSocket } from 'node:tls';

import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { HEALTH_SERVING } from '../../src/commands/demo/demo-service.js';
import { WORKER_LOOP_EXITS, WORKER_RESTART_MS_MIN } from '../../src/limits.js';
import { Authority, type Issued } from '../support/authority.js';
import { startGrpcBackend } from '../support/backends.js';
import { readToEnd, sessionOf, speaking, tcpClient, TLS_VERSIONS, tlsClient } from '../support/clients.js';
import { CredentialFiles } from '../support/credential-files.js';
import { TEST_CLOCK } from '../support/fast-clock.js';
import { GrpcClient } from '../support/grpc-client.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected, MIB, receiveSlowly, send, unrecorded } from '../support/transfer.js';

const OURS = 'gitaly_tls_proxy_';
const TWO = { more: { workers: 2 } };

/** The pids of its workers. */
function workersOf({ pid }: ProxyProcess): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return children.split(' ').filter(Boolean).map(Number);
}

/** How the admin port answers. */
async function ask(proxy: ProxyProcess, path: string): Promise<{ status: number; body: string }> {
  const response = await fetch(`${await proxy.adminUrl()}${path}`, { headers: { connection: 'close' } });
  return { status: response.status, body: await response.text() };
}

interface OpenConnection {
  readonly id: number;
  readonly worker: number;
  readonly peer_address: string;
}

/** What `/-/connections` shows. */
async function openConnections(proxy: ProxyProcess): Promise<readonly OpenConnection[]> {
  const { body } = await ask(proxy, '/-/connections');
  const { connections } = JSON.parse(body) as { readonly connections: readonly OpenConnection[] };
  return connections;
}

/** Two workers in front of a gRPC server, and clients of it, each with a connection of its own. */
async function startWithClients(clients: number) {
  const forward = await startGrpcBackend();
  const setup = await startSetup({ ...TWO, listener: { forward } });
  const address = await setup.proxy.address(TLS_LISTENER);
  const connect = async (): Promise<GrpcClient> => {
    const client = new GrpcClient(address, { ca: setup.ca.caPem });
    expect(await client.health()).toEqual(HEALTH_SERVING);
    return client;
  };
  const connections: GrpcClient[] = [];
  for (let index = 0; index < clients; index++) connections.push(await connect());
  return { ...setup, connect, clients: connections };
}

/** The number of the worker that carries a client's connection. */
async function workerOf(proxy: ProxyProcess, client: { readonly localPort?: number }): Promise<number> {
  const found = (await openConnections(proxy)).find(({ peer_address }) =>
    peer_address.endsWith(`:${client.localPort}`),
  );
  if (!found) throw new Error('the connection is not shown');
  return found.worker;
}

/** Ends a worker as the system's out-of-memory killer does, and waits until the primary process knows. */
async function kill(proxy: ProxyProcess, pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await proxy.log.waitForEvent('worker_exited', { pid });
}

function allServe(proxy: ProxyProcess): Promise<unknown> {
  return proxy.scrapeUntil((scrape) => scrape.value(`${OURS}workers`) === 2);
}

test('`workers: auto` is one process a core', async () => {
  const { proxy } = await startSetup({ more: { workers: 'auto' } });
  const cores = availableParallelism();
  expect((await proxy.scrape()).value(`${OURS}workers`)).toBe(cores);
  expect(workersOf(proxy)).toHaveLength(cores === 1 ? 0 : cores);
  await proxy.endsWithNothingLeaked();
});

describe('two workers', () => {
  test('have one set of metrics: the counts of both are summed, and those of a killed worker are kept', async () => {
    const { proxy, clients, connect } = await startWithClients(4);
    const counted = async (name: string): Promise<number> => (await proxy.scrape()).value(name);
    expect(new Set((await openConnections(proxy)).map(({ worker }) => worker))).toEqual(new Set([1, 2]));
    expect(await counted('grpc_server_handled_total')).toBe(4);
    expect(await counted('gitaly_connections_total')).toBe(4);
    expect(await counted(`${OURS}connections_active`)).toBe(4);
    expect(await counted(`${OURS}build_info`)).toBe(1);
    expect(await counted(`${OURS}tls_last_reload_successful`)).toBe(1);

    const [victim = 0] = workersOf(proxy);
    await kill(proxy, victim);
    const after = await proxy.scrapeUntil((scrape) => scrape.value(`${OURS}workers`) === 2);
    expect(after.value('grpc_server_handled_total')).toBe(4);
    expect(after.value('gitaly_connections_total')).toBe(4);
    expect(after.value(`${OURS}connections_active`)).toBe(2);
    expect(after.value(`${OURS}worker_exits_total`)).toBe(1);

    clients.push(await connect(), await connect());
    expect(await counted('grpc_server_handled_total')).toBe(6);
    expect(await counted('gitaly_connections_total')).toBe(6);
    for (const client of clients) client.close();
    await proxy.endsWithNothingLeaked();
  });

  test('a worker that is killed loses its own connections and is replaced, those of the other are not affected', async () => {
    const { proxy, ca, port, backend } = await startSetup(TWO);
    const clients = [await tlsClient(port, { ca: ca.caPem }), await tlsClient(port, { ca: ca.caPem })];
    const upstreams = [];
    for (const client of clients) upstreams.push(await connected(client, backend));
    const [victim = 0] = workersOf(proxy);
    const endings = clients.map((client) => readToEnd(client));
    await kill(proxy, victim);
    const line = await proxy.log.waitForEvent('worker_exited', { pid: victim });
    expect(line).toMatchObject({ level: 'error', connections: 1, error: 'SIGKILL' });
    // Workers are numbered from 1, and the first client went to the first.
    const lost = Number(line['worker']) - 1;
    await endings[lost];
    await expect(upstreams[lost]?.ended).resolves.toBeDefined();
    const kept = 1 - lost;
    const upstream = upstreams[kept];
    const before = upstream?.received.length ?? 0;
    clients[kept]?.write('still here');
    expect((await upstream?.receive(before + 10))?.subarray(before).toString()).toBe('still here');

    await allServe(proxy);
    expect(workersOf(proxy)).toHaveLength(2);
    const another = await tlsClient(port, { ca: ca.caPem });
    expect(await workerOf(proxy, another)).toBe(lost + 1);
    another.destroy();
    upstream?.socket.end();
    await endings[kept];
    clients[kept]?.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('a client may resume its TLS session at either, until the CA of the listener changes', async () => {
    const directory = await temporaryDirectory();
    const trusted = join(directory, 'trusted.pem');
    const authority = await Authority.create(directory, 'clients');
    await writeFile(trusted, authority.caPem);
    const { proxy, ca, port } = await startSetup({
      ...TWO,
      tls: { client_auth: 'optional', client_ca_path: trusted },
    });
    for (const version of TLS_VERSIONS) {
      const options = { ca: ca.caPem, ...speaking(version) };
      const first = await tlsClient(port, options);
      const session = await sessionOf(first);
      const second = await tlsClient(port, { ...options, session });
      expect(second.isSessionReused()).toBe(true);
      expect(await workerOf(proxy, second)).not.toBe(await workerOf(proxy, first));
      const successes = (await proxy.scrape()).value(`${OURS}tls_reloads_total`, { result: 'success' });
      const others = await Authority.create(directory, `others-${version}`);
      await writeFile(`${trusted}.new`, `${authority.caPem}\n${others.caPem}`);
      await rename(`${trusted}.new`, trusted);
      await proxy.scrapeUntil(
        (scrape) => scrape.value(`${OURS}tls_reloads_total`, { result: 'success' }) > successes,
      );
      const fresh = [
        await tlsClient(port, { ...options, session }),
        await tlsClient(port, { ...options, session }),
      ];
      expect(await workerOf(proxy, fresh[0] ?? {})).not.toBe(await workerOf(proxy, fresh[1] ?? {}));
      expect(fresh.map((client) => client.isSessionReused())).toEqual([false, false]);
      for (const client of [first, second, ...fresh]) client.destroy();
      await proxy.scrapeUntil((scrape) => scrape.value(`${OURS}connections_active`) === 0);
    }
    await proxy.endsWithNothingLeaked();
  });

  test('a worker that is started later resumes the sessions of the others, and none that has expired', async () => {
    const directory = await temporaryDirectory();
    const authority = await Authority.create(directory, 'clients');
    const unused = await Authority.create(await temporaryDirectory(), 'unused');
    const end = Date.now() + 5000;
    // The workers come to know this date from the client alone, and that of the CRL from the start.
    const between = await authority.intermediate('between', { notAfter: new Date(end) });
    const lists = [
      await authority.revocationList([]),
      await unused.revocationList([], { nextUpdate: new Date(end + 1000) }),
      await between.revocationList([]),
    ];
    const client_crl_path = join(directory, 'all.crl');
    const texts = await Promise.all(lists.map((path) => readFile(path, 'utf8')));
    await writeFile(client_crl_path, texts.join('\n'));
    const { proxy, ca, port } = await startSetup({
      ...TWO,
      tls: { client_auth: 'require', client_ca_path: authority.caPath, client_crl_path },
    });
    const presenting = ({ certificatePem, keyPem }: Issued) => ({ cert: certificatePem, key: keyPem });
    const sessionFrom = async (issued: ConnectionOptions): Promise<Buffer> => {
      const client = await tlsClient(port, { ca: ca.caPem, ...issued });
      const session = await sessionOf(client);
      client.destroy();
      await proxy.scrapeUntil((scrape) => scrape.value(`${OURS}connections_active`) === 0);
      return session;
    };
    const [chained, direct] = [presenting(await between.client()), presenting(await authority.client())];
    const ended = await sessionFrom(chained);
    await proxy.log.waitForEvent('certificate_expired');
    const current = await sessionFrom(direct);
    const [victim = 0] = workersOf(proxy);
    await kill(proxy, victim);
    await allServe(proxy);
    for (const [session, isResumed] of [
      [current, true],
      [ended, false],
    ] as const) {
      const options = { ca: ca.caPem, ...direct, session };
      const clients = [await tlsClient(port, options), await tlsClient(port, options)];
      expect(clients.map((client) => client.isSessionReused())).toEqual([isResumed, isResumed]);
      const workers = await Promise.all(clients.map((client) => workerOf(proxy, client)));
      expect(new Set(workers).size).toBe(2);
      for (const client of clients) client.destroy();
      await proxy.scrapeUntil((scrape) => scrape.value(`${OURS}connections_active`) === 0);
    }
    await proxy.endsWithNothingLeaked();
  });

  test('both serve a renewed certificate from the same moment on, and neither serves one that does not load', async () => {
    let files: CredentialFiles | undefined;
    const { proxy, ca, port } = await startSetup(async (authority) => {
      files = await CredentialFiles.create(await temporaryDirectory(), await authority.server());
      return { ...TWO, tls: { certificate_path: files.certificatePath, key_path: files.keyPath } };
    });
    const served = async (): Promise<string[]> => {
      const clients = [await tlsClient(port, { ca: ca.caPem }), await tlsClient(port, { ca: ca.caPem })];
      const serials = clients.map((client) => client.getPeerCertificate().serialNumber.toLowerCase());
      const workers = await Promise.all(clients.map((client) => workerOf(proxy, client)));
      expect(new Set(workers).size).toBe(2);
      await Promise.all(clients.map((client) => readToEnd(client.end())));
      await proxy.scrapeUntil((scrape) => scrape.value(`${OURS}connections_active`) === 0);
      return serials;
    };
    const renewed = await ca.server();
    await files?.renew(renewed);
    await proxy.scrapeUntil((scrape) => scrape.value(`${OURS}tls_reloads_total`, { result: 'success' }) > 0);
    expect(await served()).toEqual([renewed.serialNumber, renewed.serialNumber]);

    await writeFile(files?.certificatePath ?? '', 'no certificate');
    await proxy.scrapeUntil((scrape) => scrape.value(`${OURS}tls_reloads_total`, { result: 'failure' }) > 0);
    expect(await served()).toEqual([renewed.serialNumber, renewed.serialNumber]);
    await proxy.endsWithNothingLeaked();
  });

  test('a reload that one worker cannot prepare within its deadline is applied in neither, and in both once it can', async () => {
    const { proxy, ca, port, configuration } = await startSetup(TWO);
    const [hung = 0] = workersOf(proxy);
    process.kill(hung, 'SIGSTOP');
    onTestFinished(() => void tryKill(hung, 'SIGCONT'));
    await proxy.configure({ ...configuration, max_connections: 1 });
    proxy.signal('SIGHUP');
    const line = await proxy.log.waitForEvent('reload_failed');
    expect(line['error']).toMatch(/^worker 1 exited or hung/);

    // Both are admitted while the worker is stopped: the reload is retried, and may take effect as soon as it runs again.
    const connecting = [tlsClient(port, { ca: ca.caPem }), tlsClient(port, { ca: ca.caPem })];
    await proxy.scrapeUntil((scrape) => scrape.value(`${OURS}connections_active`) === 2);
    process.kill(hung, 'SIGCONT');
    const clients = await Promise.all(connecting);
    expect(clients.map(({ authorized }) => authorized)).toEqual([true, true]);

    await proxy.log.waitForEvent('reloaded');
    for (const client of clients) client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('drain both: open calls finish, and the exit code is 0', async () => {
    const { proxy, clients } = await startWithClients(4);
    const rests = [];
    for (const client of clients) rests.push((await client.repeatUnread(Buffer.alloc(300_000, 'x'))).rest);
    proxy.signal('SIGTERM');
    await proxy.log.waitForEvent('draining');
    for (const rest of rests) expect(await rest()).toBeGreaterThan(2);
    for (const client of clients) client.close();
    expect(await proxy.exited).toBe(0);
  });

  test('calls that are open at graceful_restart_timeout are aborted in both, and the exit code is 1', async () => {
    const forward = await startGrpcBackend();
    const { proxy, ca } = await startSetup({
      listener: { forward },
      more: { workers: 2, graceful_restart_timeout: '100ms' },
    });
    const address = await proxy.address(TLS_LISTENER);
    const rests = [];
    for (let index = 0; index < 4; index++) {
      const client = new GrpcClient(address, { ca: ca.caPem });
      rests.push((await client.repeatUnread(Buffer.alloc(1_000_000, 'x'))).rest);
    }
    proxy.signal('SIGTERM');
    expect(await proxy.exited).toBe(1);
    for (const rest of rests) await expect(rest()).rejects.toThrow();
    const cut = proxy.log.lines.filter((line) => line['close.reason'] === 'drain_timeout');
    expect(cut).toHaveLength(4);
  });

  test('/-/connections and /-/rpcs show what is open in both', async () => {
    const { proxy, clients } = await startWithClients(3);
    const rests = [];
    for (const client of clients) rests.push((await client.repeatUnread(Buffer.alloc(300_000, 'x'))).rest);
    const connections = await openConnections(proxy);
    expect(new Set(connections.map(({ id }) => id)).size).toBe(3);
    expect(new Set(connections.map(({ worker }) => worker))).toEqual(new Set([1, 2]));
    const rpcs: unknown = JSON.parse((await ask(proxy, '/-/rpcs?state=open')).body);
    expect(rpcs).toMatchObject({ open: 3, shown: 3 });
    expect(JSON.parse((await ask(proxy, '/-/rpcs?state=open&limit=1')).body)).toMatchObject({
      open: 3,
      shown: 1,
    });
    for (const rest of rests) await rest();
    for (const client of clients) client.close();
    await proxy.endsWithNothingLeaked();
  });

  test('`max_connections` is the listener’s, however many workers carry them', async () => {
    const { proxy, ca, port } = await startSetup((authority) => ({
      tls: { client_auth: 'require', client_ca_path: authority.caPath },
      more: { workers: 2, max_connections: 3, max_unauthenticated_connections: 3 },
    }));
    // A client with a certificate keeps its place.
    const { certificatePem, keyPem } = await ca.client();
    const verified = { ca: ca.caPem, cert: certificatePem, key: keyPem };
    const clients: TLSSocket[] = [];
    for (let index = 0; index < 3; index++) clients.push(await tlsClient(port, verified));
    await expect(tlsClient(port, { ca: ca.caPem })).rejects.toThrow(/ECONNRESET|before secure/);
    const scrape = await proxy.scrape();
    expect(scrape.value(`${OURS}connections_dropped_total`, { reason: 'max_connections' })).toBe(1);
    expect(scrape.value(`${OURS}connections_active`)).toBe(3);
    for (const client of clients) client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('each connection is counted and logged once, also one whose client leaves on the way to its worker', async () => {
    const { proxy, port } = await startSetup({ more: { workers: 2, logging: { level: 'debug' } } });
    const CLIENTS = 300;
    await Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        const client = await tcpClient(port);
        client.resetAndDestroy();
        await once(client, 'close');
      }),
    );
    await proxy.scrapeUntil((scrape) => scrape.value(`${OURS}connections_closed_total`) === CLIENTS);
    expect((await proxy.scrape()).value('gitaly_connections_total')).toBe(CLIENTS);
    await proxy.endsWithNothingLeaked();
    expect(proxy.log.lines.filter((line) => 'duration_ms' in line)).toHaveLength(CLIENTS);
  });

  test('carry all traffic: the primary process does not read a byte of it', async () => {
    const { proxy, ca, port, backend } = await startSetup(TWO);
    const readBytes = (): number =>
      Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${proxy.pid}/io`, 'utf8'))?.[1]);
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    const before = readBytes();
    const received = receiveSlowly(unrecorded(upstream));
    const sent = await send(client, 32 * MIB);
    expect(await received).toBe(sent);
    expect(readBytes() - before).toBeLessThan(MIB);
    upstream.socket.end();
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('a crash loop of one worker makes readiness fail with the reason, and the other still serves', async () => {
    const { proxy, ca, port } = await startSetup({ ...TWO, ...TEST_CLOCK });
    expect(await ask(proxy, '/-/readiness')).toEqual({ status: 200, body: 'ready\n' });
    const [, healthy = 0] = workersOf(proxy);
    for (let exits = 0; exits < WORKER_LOOP_EXITS; exits++) {
      await allServe(proxy);
      const victim = workersOf(proxy).find((pid) => pid !== healthy) ?? 0;
      await kill(proxy, victim);
      const client = await tlsClient(port, { ca: ca.caPem });
      expect(client.authorized).toBe(true);
      client.destroy();
      // The next start waits twice as long as the last one.
      await proxy.advanceClock(WORKER_RESTART_MS_MIN * 2 ** exits);
    }
    const { status, body } = await ask(proxy, '/-/readiness');
    expect(status).toBe(503);
    expect(body).toMatch(
      new RegExp(`^worker 1 keeps exiting, ${WORKER_LOOP_EXITS} times within 60 s, last exit: SIGKILL\n$`),
    );
    expect((await ask(proxy, '/-/liveness')).status).toBe(200);
    await allServe(proxy);
    await proxy.endsWithNothingLeaked();
  });

  test(
    'a worker that hangs is killed and replaced, with the reason logged',
    { timeout: 90_000 },
    async () => {
      const { proxy, ca, port } = await startSetup(TWO);
      const [hung = 0] = workersOf(proxy);
      process.kill(hung, 'SIGSTOP');
      onTestFinished(() => void tryKill(hung, 'SIGKILL'));
      const line = await proxy.log.waitForEvent('worker_exited', { pid: hung });
      expect(line['error']).toBe('its event loop hung: it was killed after 20 s without a report');
      await allServe(proxy);
      const clients = [await tlsClient(port, { ca: ca.caPem }), await tlsClient(port, { ca: ca.caPem })];
      expect(clients.map(({ authorized }) => authorized)).toEqual([true, true]);
      for (const client of clients) client.destroy();
      await proxy.endsWithNothingLeaked();
    },
  );

  test('both end when the primary process is killed', async () => {
    const { proxy } = await startSetup(TWO);
    const workers = workersOf(proxy);
    expect(workers).toHaveLength(2);
    proxy.signal('SIGKILL');
    await proxy.ended;
    await vi.waitFor(() => expect(workers.filter((pid) => tryKill(pid, 0))).toEqual([]), {
      timeout: 20_000,
      interval: 20,
    });
  });

  test('a client that connects while neither worker serves waits for the next one', async () => {
    const { proxy, ca, port } = await startSetup(TWO);
    const workers = workersOf(proxy);
    for (const pid of workers) process.kill(pid, 'SIGKILL');
    for (const pid of workers) await proxy.log.waitForEvent('worker_exited', { pid });
    const client = await tlsClient(port, { ca: ca.caPem });
    expect(client.authorized).toBe(true);
    client.destroy();
    await allServe(proxy);
    await proxy.endsWithNothingLeaked();
  });

  test('a reload that changes the number of workers is refused, with the reason logged', async () => {
    const { proxy, configuration } = await startSetup(TWO);
    await proxy.configure({ ...configuration, workers: 3 });
    proxy.signal('SIGHUP');
    const line = await proxy.log.waitForEvent('reload_failed');
    expect(line['error']).toMatch(
      /workers: cannot change while the proxy is running \(currently 2\): restart the proxy/,
    );
    await proxy.endsWithNothingLeaked();
  });
});

/** Whether there is such a process still, and it could be sent the signal. */
function tryKill(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}
