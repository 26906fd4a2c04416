import { once } from 'node:events';
import { connect as connectHttp2, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Server, ServerCredentials, status, type ServiceError } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';

import { HEALTH_SERVING } from '../../src/commands/demo/demo-service.js';
import { Authority } from '../support/authority.js';
import { startBackchannelBridge } from '../support/backchannel.js';
import { startBackendProcess } from '../support/backend-process.js';
import { RawBackend, refusingBackend } from '../support/backends.js';
import { blackHole } from '../support/black-hole.js';
import { BACKCHANNEL_PREFACE, HTTP2_PREFACE, readToEnd, tcpClient } from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import { ProxyProcess, type StartOptions } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { isInstalled, shell } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

const TCP_LISTENER = 'tcp://127.0.0.1:0';
const DIAL_MS = 300;
/** HEADERS of a request without content. */
const REQUEST = Buffer.from('\0\0\u0001\u0001\u0005\0\0\0\u0001\u0083', 'latin1');
/** Below the second for which calls are answered before GOAWAY: an answer this fast did not wait for it. */
const AT_ONCE_MS = 900;
const RESOLVE_NAMES = fileURLToPath(new URL('../support/resolve-names.mjs', import.meta.url));

/** The program sees the name `gitaly.test` with these addresses. */
function namedTo(addresses: readonly string[]): StartOptions {
  return {
    nodeArgs: ['--import', RESOLVE_NAMES],
    env: { RESOLVE_NAMES: JSON.stringify({ 'gitaly.test': addresses }) },
  };
}

/** A plaintext listener that forwards there. */
async function startTcp(forward: string, options: StartOptions = {}) {
  const proxy = await ProxyProcess.start({
    ...options,
    configuration: {
      listeners: [{ listen: TCP_LISTENER, forward }],
      timeouts: { dial: `${DIAL_MS}ms` },
    },
  });
  const client = new GrpcClient(await proxy.address(TCP_LISTENER));
  return { proxy, port: await proxy.port(TCP_LISTENER), client };
}

/** The error that a call ends with, and how long that took. */
async function failure(call: Promise<unknown>): Promise<{ code: number; details: string; tookMs: number }> {
  const startedAtMs = performance.now();
  const error = await call.then(
    () => new Error('the call did not fail'),
    (reason: unknown) => reason,
  );
  if (!isServiceError(error)) throw error;
  return { code: error.code, details: error.details, tookMs: performance.now() - startedAtMs };
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'details' in error;
}

/** A port of 127.0.0.1 that was free a moment ago. */
async function freePort(): Promise<number> {
  return Number(new URL(await refusingBackend()).port);
}

/** An HTTP/2 client without gRPC, over plaintext. */
async function http2Client(port: number): Promise<ClientHttp2Session> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  onTestFinished(() => session.destroy());
  session.on('error', () => undefined);
  await once(session, 'connect');
  return session;
}

/** One call's response headers, which are its trailers too where nothing else follows. */
async function call(session: ClientHttp2Session): Promise<IncomingHttpHeaders> {
  const stream = session.request({ ':method': 'POST', ':path': '/gitaly.ServerService/ServerInfo' });
  const headers = new Promise<IncomingHttpHeaders>((resolve, reject) => {
    stream.once('response', resolve);
    stream.once('error', reject);
  });
  stream.end(Buffer.from([0, 0, 0, 0, 0]));
  const answer = await headers;
  await once(stream.resume(), 'close');
  return answer;
}

describe('Gitaly cannot be reached: calls end at once with UNAVAILABLE and name the address and the reason', () => {
  test.each([
    ['refuses', 'refused', () => refusingBackend(), 'ECONNREFUSED'],
    [
      'has no socket',
      'no_socket',
      async () => `unix:${join(await temporaryDirectory(), 'gitaly.socket')}`,
      'ENOENT',
    ],
    [
      'has a name that does not resolve',
      'name_not_found',
      () => Promise.resolve('tcp://gitaly.test:8075'),
      'does not resolve',
    ],
    ['answers no packet', 'timeout', blackHole, `no connection within ${DIAL_MS} ms (timeouts.dial)`],
  ])('an upstream that %s', async (_what, reason, upstream, words) => {
    const forward = await upstream();
    const { proxy, client } = await startTcp(forward, namedTo([]));
    const { code, details, tookMs } = await failure(client.health());
    client.close();
    expect(code).toBe(status.UNAVAILABLE);
    expect(details).toContain(`Gitaly at ${forward} cannot be reached: `);
    expect(details).toContain(words);
    expect(tookMs).toBeLessThan(AT_ONCE_MS + (reason === 'timeout' ? DIAL_MS : 0));
    const line = await proxy.log.waitForClose('upstream_unreachable');
    expect(line).toMatchObject({
      level: 'error',
      upstream: forward,
      protocol: 'http2',
      'bytes.to_client': 0,
    });
    expect(line['close.detail']).toContain(words);
    const scrape = await proxy.scrape();
    expect(scrape.value('gitaly_tls_proxy_upstream_connect_failures_total', { reason })).toBe(1);
    await proxy.endsWithNothingLeaked();
  });

  test('an upstream that accepts and sends nothing', async () => {
    const silent = await RawBackend.start();
    const { proxy, client } = await startTcp(silent.url);
    const { code, details, tookMs } = await failure(client.health());
    expect(code).toBe(status.UNAVAILABLE);
    expect(details).toBe(
      `Gitaly at ${silent.url} cannot be reached: it accepted the connection and sent nothing for ${DIAL_MS} ms (timeouts.dial)`,
    );
    expect(tookMs).toBeLessThan(AT_ONCE_MS + DIAL_MS);
    client.close();
    const upstream = await silent.accept();
    expect(await upstream.ended).toBe('reset');
    await proxy.log.waitForClose('upstream_unreachable');
    const scrape = await proxy.scrape();
    expect(scrape.value('gitaly_tls_proxy_upstream_connect_failures_total', { reason: 'silent' })).toBe(1);
    expect(scrape.value('gitaly_tls_proxy_upstream_up')).toBe(0);
    await proxy.endsWithNothingLeaked();
  });

  test.each([
    ['closes', 'closed', /it closed the connection at once$/],
    ['resets', 'reset', /ECONNRESET|EPIPE/],
  ] as const)('an upstream that accepts and %s', async (_what, reason, words) => {
    const backend = await RawBackend.start();
    const { proxy, client } = await startTcp(backend.url);
    const call = failure(client.health());
    const upstream = await backend.accept();
    await upstream.receive(1);
    if (reason === 'closed') upstream.socket.end();
    else upstream.reset();
    const { code, details } = await call;
    client.close();
    expect(code).toBe(status.UNAVAILABLE);
    expect(details).toMatch(words);
    await proxy.log.waitForClose('upstream_unreachable');
    const scrape = await proxy.scrape();
    expect(scrape.value('gitaly_tls_proxy_upstream_connect_failures_total', { reason })).toBe(1);
    await proxy.endsWithNothingLeaked();
  });

  test.each(['refuses', 'closes', 'resets'])(
    'a client that has ended its side is answered at once: an upstream that %s',
    async (how) => {
      const backend = await RawBackend.start();
      const { proxy, port } = await startTcp(backend.url);
      if (how === 'refuses') backend.stop();
      const client = await tcpClient(port);
      const ending = readToEnd(client);
      const startedAtMs = performance.now();
      client.end(Buffer.concat([HTTP2_PREFACE, REQUEST]));
      if (how !== 'refuses') {
        const upstream = await backend.accept();
        expect(await upstream.ended).toBe('end');
        if (how === 'closes') upstream.socket.end();
        else upstream.reset();
      }
      const { kind, received } = await ending;
      expect(kind).toBe('end');
      expect(String(received)).toContain('Gitaly at tcp:');
      expect(performance.now() - startedAtMs).toBeLessThan(AT_ONCE_MS);
      await proxy.log.waitForClose('upstream_unreachable');
      await proxy.endsWithNothingLeaked();
    },
  );

  test('the time to connect does not include the time until the first byte of upstream', async () => {
    const backend = await RawBackend.start();
    const { proxy, port } = await startTcp(backend.url);
    const client = await tcpClient(port);
    client.write(HTTP2_PREFACE);
    const upstream = await backend.accept();
    const acceptedAtMs = performance.now();
    // Below `timeouts.dial`, and far above what a connection over loopback takes.
    while (performance.now() - acceptedAtMs < DIAL_MS / 2) await proxy.scrape();
    const silentSeconds = (performance.now() - acceptedAtMs) / 1000;
    upstream.socket.write(HTTP2_PREFACE.subarray(-9));
    await once(client, 'data');
    const scrape = await proxy.scrape();
    expect(scrape.value('gitaly_tls_proxy_upstream_connect_seconds_count')).toBe(1);
    expect(scrape.value('gitaly_tls_proxy_upstream_connect_seconds_sum')).toBeLessThan(silentSeconds);
    upstream.socket.destroy();
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('a backchannel, whose upstream need not send first, is left alone', async () => {
    const silent = await RawBackend.start();
    const { proxy, port } = await startTcp(silent.url);
    const client = await tcpClient(port);
    client.write(BACKCHANNEL_PREFACE);
    const upstream = await silent.accept();
    await upstream.receive(BACKCHANNEL_PREFACE.length);
    // Longer than timeouts.dial, by the time that it takes another connection to be given up.
    const other = await tcpClient(port);
    other.write(HTTP2_PREFACE);
    await proxy.log.waitForClose('upstream_unreachable');
    upstream.socket.write('late');
    expect(await once(client, 'data')).toEqual([Buffer.from('late')]);
    client.destroy();
    upstream.socket.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('a TLS upstream that accepts and sends nothing', async () => {
    const silent = await RawBackend.start();
    const forward = silent.url.replace('tcp:', 'tls:');
    const { proxy, client } = await startTcp(forward);
    const { code, details, tookMs } = await failure(client.health());
    expect(code).toBe(status.UNAVAILABLE);
    expect(details).toContain(`Gitaly at ${forward} cannot be reached: no connection within ${DIAL_MS} ms`);
    expect(tookMs).toBeLessThan(AT_ONCE_MS + DIAL_MS);
    client.close();
    await proxy.endsWithNothingLeaked();
  });

  test('through TLS', async () => {
    const forward = await refusingBackend();
    const { ca, proxy } = await startSetup({ listener: { forward } });
    const client = new GrpcClient(await proxy.address(TLS_LISTENER), { ca: ca.caPem });
    const { code, details } = await failure(client.health());
    expect(code).toBe(status.UNAVAILABLE);
    expect(details).toContain(forward);
    await proxy.endsWithNothingLeaked();
  });

  test("Node's http2: every call of the short while is answered, then comes GOAWAY without an error", async () => {
    const forward = await refusingBackend();
    const { proxy, port } = await startTcp(forward);
    const session = await http2Client(port);
    const goaway = once(session, 'goaway');
    const closed = once(session, 'close');
    for (const answers of [await Promise.all([call(session), call(session)]), [await call(session)]]) {
      for (const answer of answers) {
        expect(answer).toMatchObject({
          ':status': 200,
          'content-type': 'application/grpc',
          'grpc-status': '14',
        });
        expect(answer['grpc-message']).toContain(forward);
      }
    }
    expect((await goaway).slice(0, 2)).toEqual([0, 5]);
    await closed;
    await proxy.endsWithNothingLeaked();
  });

  test.skipIf(!isInstalled('curl'))('curl', async () => {
    const forward = await refusingBackend();
    const { ca, proxy, port } = await startSetup({ listener: { forward } });
    const plain = await startTcp(forward);
    for (const command of [
      `curl -sS -i --http2-prior-knowledge --data-binary x http://127.0.0.1:${plain.port}/a/b`,
      `curl -sS -i --http2 --cacert ${ca.caPath} --data-binary x https://localhost:${port}/a/b`,
    ]) {
      const { exitCode, output } = await shell(command, { no_proxy: '*' });
      expect(output).toMatch(/^HTTP\/2 200/);
      expect(output).toMatch(/^grpc-status: 14\r$/m);
      expect(output).toContain(`Gitaly at ${forward} cannot be reached: connect ECONNREFUSED`);
      expect(exitCode).toBe(0);
    }
    await plain.proxy.endsWithNothingLeaked();
    await proxy.endsWithNothingLeaked();
  });

  test.skipIf(!isInstalled('h2load'))('h2load: 200 calls, 20 at a time', async () => {
    const { proxy, port } = await startTcp(await refusingBackend());
    const { output } = await shell(`h2load -n 200 -c 2 -m 10 http://127.0.0.1:${port}/a/b`);
    expect(output).toContain(
      '200 total, 200 started, 200 done, 200 succeeded, 0 failed, 0 errored, 0 timeout',
    );
    await proxy.endsWithNothingLeaked();
  });

  test('within the backchannel, with the message that HTTP/2 clients get', async () => {
    const forward = await refusingBackend();
    const { proxy, port } = await startTcp(forward);
    const reverse = new Server();
    onTestFinished(() => reverse.forceShutdown());
    const bridge = await startBackchannelBridge(
      () => tcpClient(port),
      reverse.createConnectionInjector(ServerCredentials.createInsecure()),
    );
    const client = new GrpcClient(new URL(`tcp://127.0.0.1:${bridge}`));
    const { code, details, tookMs } = await failure(client.health());
    client.close();
    expect(code).toBe(status.UNAVAILABLE);
    expect(details).toMatch(/^Gitaly at tcp:\S+ cannot be reached: connect ECONNREFUSED/);
    expect(tookMs).toBeLessThan(AT_ONCE_MS);
    expect(await proxy.log.waitForClose('upstream_unreachable')).toMatchObject({ protocol: 'backchannel' });
    await proxy.endsWithNothingLeaked();
  });

  test('an upstream that answers no packet is waited for without spinning', async () => {
    const cpuSeconds = async (proxy: ProxyProcess): Promise<number> =>
      (await proxy.scrape()).value('process_cpu_seconds_total');
    const { proxy, port } = await startTcp(await blackHole());
    // The first one pays for all that is compiled on the way.
    for (const clients of [1, 10]) {
      const before = await cpuSeconds(proxy);
      const endings = Array.from({ length: clients }, async () => {
        const client = await tcpClient(port);
        client.write(BACKCHANNEL_PREFACE);
        return readToEnd(client);
      });
      await Promise.all(endings);
      // A loop that spins takes the whole of the 300 ms.
      if (clients > 1) expect(await cpuSeconds(proxy)).toBeLessThan(before + (DIAL_MS / 1000) * 0.7);
    }
    await proxy.endsWithNothingLeaked();
  });

  test('a client that leaves while upstream is dialled leaves nothing behind', async () => {
    const { proxy, port } = await startTcp(await blackHole());
    const client = await tcpClient(port);
    client.write(HTTP2_PREFACE);
    await proxy.scrapeUntil((scrape) => scrape.value('gitaly_tls_proxy_connections_total') === 1);
    client.destroy();
    await proxy.log.waitForClose('upstream_unreachable');
    await proxy.endsWithNothingLeaked();
  });
});

describe('several addresses of a name are tried in turn', () => {
  test.each([
    ['the first refuses', ['127.0.0.2', '127.0.0.1']],
    ['the first is of the other family', ['::1', '127.0.0.1']],
    ['only the last of many listens', ['127.0.0.2', '127.0.0.3', '::1', '127.0.0.1']],
  ])('%s: the connection goes to the one that listens', async (_name, addresses) => {
    const backend = await RawBackend.start();
    const { proxy, port } = await startTcp(
      `dns:gitaly.test:${new URL(backend.url).port}`,
      namedTo(addresses),
    );
    const client = await tcpClient(port);
    client.write(BACKCHANNEL_PREFACE);
    const upstream = await backend.accept();
    expect(await upstream.receive(BACKCHANNEL_PREFACE.length)).toEqual(BACKCHANNEL_PREFACE);
    const scrape = await proxy.scrape();
    expect(scrape.value('gitaly_tls_proxy_upstream_up')).toBe(1);
    expect(scrape.value('gitaly_tls_proxy_upstream_connect_failures_total')).toBe(0);
    client.destroy();
    upstream.socket.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('of a TLS upstream too, whose certificate holds the name', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const { certificatePem: cert, keyPem: key } = await ca.server({ dns: ['gitaly.test'], ip: [] });
    const backend = await RawBackend.startTls({ cert, key });
    const proxy = await ProxyProcess.start({
      ...namedTo(['127.0.0.2', '::1', '127.0.0.1']),
      configuration: {
        listeners: [
          {
            listen: TCP_LISTENER,
            forward: backend.tlsUrl('gitaly.test'),
            upstream_tls: { ca_path: ca.caPath },
          },
        ],
      },
    });
    const client = await tcpClient(await proxy.port(TCP_LISTENER));
    const upstream = await connected(client, backend);
    client.destroy();
    upstream.socket.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('an address that answers no packet does not hold up the one that does', async () => {
    const hole = new URL(await blackHole());
    // The same port of another address, which listens.
    const server = createServer((socket) => void socket.pipe(socket));
    onTestFinished(() => void server.close());
    server.listen({ host: '127.0.0.2', port: Number(hole.port) });
    await once(server, 'listening');
    const { proxy, port } = await startTcp(
      `dns:gitaly.test:${hole.port}`,
      namedTo(['127.0.0.1', '127.0.0.2']),
    );
    // timeouts.dial is 300 ms here, and the second attempt starts 250 ms after the first.
    const client = await tcpClient(port);
    client.write(BACKCHANNEL_PREFACE);
    expect(await once(client, 'data')).toEqual([BACKCHANNEL_PREFACE]);
    client.end();
    await once(client, 'close');
    await proxy.endsWithNothingLeaked();
  });

  test('where all fail, the message names each', async () => {
    const port = await freePort();
    const { proxy, client } = await startTcp(
      `tcp://gitaly.test:${port}`,
      namedTo(['127.0.0.2', '127.0.0.3']),
    );
    const { code, details } = await failure(client.health());
    expect(code).toBe(status.UNAVAILABLE);
    expect(details).toContain(`connect ECONNREFUSED 127.0.0.2:${port}`);
    expect(details).toContain(`connect ECONNREFUSED 127.0.0.3:${port}`);
    await proxy.endsWithNothingLeaked();
  });
});

describe('an upstream that comes and goes', () => {
  test('it comes back: a new client is served at once, one from before as soon as it has had GOAWAY', async () => {
    const port = await freePort();
    const { proxy, client } = await startTcp(`tcp://127.0.0.1:${port}`);
    expect((await failure(client.health())).code).toBe(status.UNAVAILABLE);
    expect((await proxy.scrape()).value('gitaly_tls_proxy_upstream_up')).toBe(0);
    await startBackendProcess(port);
    const newClient = new GrpcClient(await proxy.address(TCP_LISTENER));
    expect(await newClient.health()).toEqual(HEALTH_SERVING);
    expect((await proxy.scrape()).value('gitaly_tls_proxy_upstream_up')).toBe(1);
    await proxy.log.waitForClose('upstream_unreachable');
    expect(await client.health()).toEqual(HEALTH_SERVING);
    const scrape = await proxy.scrape();
    expect(
      scrape.samples.filter(({ name }) => name === 'gitaly_tls_proxy_upstream_connect_seconds_count'),
    ).toMatchObject([{ value: 2 }]);
    for (const one of [client, newClient]) one.close();
    await proxy.endsWithNothingLeaked();
  });

  test('it is killed in mid-stream: the client sees UNAVAILABLE at once', async () => {
    const backend = await startBackendProcess();
    const { ca, proxy } = await startSetup({ listener: { forward: backend.url } });
    const client = new GrpcClient(await proxy.address(TLS_LISTENER), { ca: ca.caPem });
    const stream = await client.repeatUnread(Buffer.alloc(3 * 1024 * 1024));
    await backend.kill();
    const { code, tookMs } = await failure(stream.rest());
    expect(code).toBe(status.UNAVAILABLE);
    expect(tookMs).toBeLessThan(AT_ONCE_MS);
    const next = await failure(client.health());
    expect(next.code).toBe(status.UNAVAILABLE);
    expect(next.details).toContain(`Gitaly at ${backend.url} cannot be reached`);
    await proxy.endsWithNothingLeaked();
  });
});
