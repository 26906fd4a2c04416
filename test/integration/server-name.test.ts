import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ConnectionOptions, TLSSocket } from 'node:tls';

import { describe, expect, test } from 'vitest';

import { HEALTH_SERVING } from '../../src/commands/demo/demo-service.js';
import { refusingBackend, RawBackend, startGrpcBackend } from '../support/backends.js';
import {
  BACKCHANNEL_PREFACE,
  readToEnd,
  sessionOf,
  speaking,
  tcpClient,
  tlsClient,
  TLS_VERSIONS,
} from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import type { LogLine } from '../support/log-lines.js';
import { CLI, type ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER, type Setup } from '../support/setup.js';
import { isInstalled, shell } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';
import { recordNode } from '../tls/recorded-client-hello.js';

const OURS = 'gitaly_tls_proxy_';
const [A, B] = ['gitaly-a.internal', 'gitaly-b.internal'];
/** All that the tests ask for. */
const NAMES = [A, B, 'one.eu.internal', 'two.one.eu.internal', 'nobody.internal', 'localhost'];

type Upstreams = Readonly<Record<string, string>>;

/** A `tls://` listener that forwards by name, with a certificate for every name that is asked for. */
function start(
  upstreams: Upstreams,
  { more, ...listener }: Readonly<Record<string, unknown>> & { readonly more?: Record<string, unknown> } = {},
): Promise<Setup> {
  return startSetup(async (ca) => {
    const { certificatePath, keyPath } = await ca.server({ dns: NAMES });
    return {
      tls: { certificate_path: certificatePath, key_path: keyPath },
      listener: { forward: undefined, forward_by_server_name: upstreams, ...listener },
      ...(more && { more }),
    };
  });
}

/** Connects by a name (none for ''), and is passed through to that Gitaly; says whether a session was resumed. */
async function reaches(
  { port, ca }: Setup,
  servername: string,
  gitaly: RawBackend,
  options: ConnectionOptions = {},
): Promise<boolean> {
  const client = await tlsClient(port, { ca: ca.caPem, servername, ...options });
  const isResumed = client.isSessionReused();
  const upstream = await connected(client, gitaly);
  upstream.socket.end();
  await readToEnd(client.end());
  return isResumed;
}

async function reload(proxy: ProxyProcess): Promise<void> {
  const reloads = `${OURS}tls_reloads_total`;
  const before = (await proxy.scrape()).value(reloads);
  proxy.signal('SIGHUP');
  await proxy.scrapeUntil((scrape) => scrape.value(reloads) > before);
}

describe.each([1, 2])('SNI picks the Gitaly, with %i worker(s):', (workers) => {
  test('an exact name before a wildcard, a wildcard for one label, default for all others', async () => {
    const [a, exact, wildcard, rest] = await Promise.all([1, 2, 3, 4].map(() => RawBackend.start()));
    if (!a || !exact || !wildcard || !rest) throw new Error('four backends');
    const upstreams = {
      [A]: a.url,
      '*.EU.internal': wildcard.url,
      'One.Eu.Internal.': exact.url,
      default: rest.url,
    };
    const setup = await start(upstreams, { more: { workers } });
    const cases: readonly (readonly [asked: string, RawBackend])[] = [
      [A, a],
      ['GITALY-A.Internal', a],
      ['one.eu.internal', exact],
      ['nine.eu.internal', wildcard],
      ['two.one.eu.internal', rest],
      ['eu.internal', rest],
      ['nobody.internal', rest],
      ['', rest],
    ];
    for (const [asked, gitaly] of cases) {
      const before = gitaly.connections.length;
      // What is asked here is where it goes; that a name is in the certificate is asked by the grpc-js test.
      await reaches(setup, asked, gitaly, { checkServerIdentity: () => undefined });
      expect(gitaly.connections.length, asked).toBe(before + 1);
    }
    const scrape = await setup.proxy.scrapeUntil(
      (one) => one.value(`${OURS}connections_closed_total`) === cases.length,
    );
    const dialled = (upstream: RawBackend): number =>
      scrape.value(`${OURS}upstream_connect_seconds_count`, {
        listener: TLS_LISTENER,
        upstream: upstream.url,
      });
    expect([a, exact, wildcard, rest].map(dialled)).toEqual([2, 1, 1, 4]);
    await setup.proxy.endsWithNothingLeaked();
  });

  test('a name that SIGHUP adds is served, one that it removes is refused, open connections are kept', async () => {
    const [a, b] = [await RawBackend.start(), await RawBackend.start()];
    const setup = await start({ [A]: a.url }, { inspect: false, more: { workers } });
    const { proxy, port, ca, configuration } = setup;
    const dial = (servername: string): Promise<TLSSocket> => tlsClient(port, { ca: ca.caPem, servername });
    await expect(dial(B)).rejects.toThrow();
    const old = await dial(A);
    const oldUpstream = await connected(old, a);

    const [listener] = configuration.listeners;
    await proxy.configure({
      ...configuration,
      listeners: [{ ...listener, forward_by_server_name: { [B]: b.url } }],
    });
    await reload(proxy);
    const fresh = await dial(B);
    const freshUpstream = await connected(fresh, b);
    await expect(dial(A)).rejects.toThrow();
    const received = oldUpstream.received.length;
    old.write('still here');
    await oldUpstream.receive(received + 10);

    for (const client of [old, fresh]) client.destroy();
    for (const { socket } of [oldUpstream, freshUpstream]) socket.destroy();
    // A Gitaly that is gone from the configuration is not told of as up or down.
    const scrape = await proxy.scrapeUntil(
      (one) => one.value(`${OURS}upstream_up`, { upstream: b.url }) === 1,
    );
    expect(
      scrape.samples.filter(
        ({ name, labels }) => name.endsWith('upstream_up') && labels['upstream'] === a.url,
      ),
    ).toEqual([]);
    await proxy.endsWithNothingLeaked();
  });
});

test('calls of grpc-js to two names run beside each other, each at its own Gitaly', async () => {
  const [a, b] = [await startGrpcBackend(), await startGrpcBackend()];
  const setup = await start({ [A]: a, [B]: b }, { more: { workers: 2 } });
  const address = await setup.proxy.address(TLS_LISTENER);
  const clients = [A, B, A, B].map(
    (serverName) => new GrpcClient(address, { ca: setup.ca.caPem }, { serverName }),
  );
  for (const answer of await Promise.all(clients.map((client) => client.health())))
    expect(answer).toEqual(HEALTH_SERVING);
  for (const client of clients) client.close();
  const scrape = await setup.proxy.scrapeUntil((one) => one.value(`${OURS}connections_closed_total`) === 4);
  for (const upstream of [a, b]) {
    expect(scrape.value(`${OURS}upstream_connect_seconds_count`, { upstream })).toBe(2);
    expect(scrape.value(`${OURS}upstream_up`, { listener: TLS_LISTENER, upstream })).toBe(1);
  }
  await setup.proxy.endsWithNothingLeaked();
});

describe('without default, a client that asks for another name or for none', () => {
  test('gets the alert unrecognized_name before a certificate; no Gitaly is dialled, and the log has the fix', async () => {
    const gitaly = await RawBackend.start();
    const { proxy, port, ca } = await start({ [A]: gitaly.url, '*.eu.internal': gitaly.url });
    const asked = ['nobody.internal', 'two.one.eu.internal', 'eu.internal', ''];
    for (const version of TLS_VERSIONS)
      for (const servername of asked) {
        await expect(
          tlsClient(port, { ca: ca.caPem, servername, ...speaking(version) }),
        ).rejects.toMatchObject({ code: expect.stringContaining('UNRECOGNIZED_NAME') as string });
      }
    for (const name of asked) {
      const line = await proxy.log.waitFor(
        (one) => one['close.reason'] === 'handshake_failed' && (one['server_name'] ?? '') === name,
      );
      const said = name === '' ? 'no name' : JSON.stringify(name);
      expect(line).toMatchObject({
        level: 'warning',
        listener: TLS_LISTENER,
        'close.initiator': 'proxy',
        'close.detail': `unrecognized_name: the client asks for ${said}`,
      });
      expect(line['close.advice']).toContain('`default`');
      // It went nowhere.
      expect(line).not.toHaveProperty('upstream');
    }
    const scrape = await proxy.scrape();
    const failures = `${OURS}tls_handshake_failures_total`;
    expect(scrape.value(failures, { reason: 'unrecognized_name' })).toBe(2 * asked.length);
    expect(scrape.value(failures)).toBe(2 * asked.length);
    expect(gitaly.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test.runIf(isInstalled('openssl') && isInstalled('curl'))(
    'gets an error of openssl and of curl that names the reason',
    async () => {
      const gitaly = await RawBackend.start();
      const { proxy, port, ca } = await start({ [A]: gitaly.url });
      for (const version of ['-tls1_2', '-tls1_3']) {
        const to = `-connect 127.0.0.1:${port} -servername nobody.internal -alpn h2 ${version}`;
        const { exitCode, output } = await shell(`openssl s_client ${to} </dev/null`);
        expect(exitCode).toBe(1);
        expect(output).toMatch(/unrecognized name.*SSL alert number 112/su);
        expect(output).toContain('no peer certificate available');
      }
      const name = `--connect-to nobody.internal:443:127.0.0.1:${port} https://nobody.internal/`;
      const { output } = await shell(`curl -sS --http2 --max-time 20 --cacert ${ca.caPath} ${name}`);
      expect(output).toContain('unrecognized name');
      const good = `-connect 127.0.0.1:${port} -servername ${A} -alpn h2 -CAfile ${ca.caPath}`;
      const { output: accepted } = await shell(`openssl s_client ${good} -verify_return_error </dev/null`);
      expect(accepted).toContain('Verify return code: 0 (ok)');
      await proxy.endsWithNothingLeaked();
    },
  );

  test('makes no series and no long or broken line, whatever the names are', async () => {
    const gitaly = await RawBackend.start();
    const { proxy, port, ca } = await start({ [A]: gitaly.url });
    const series = async (): Promise<number> =>
      (await proxy.scrape()).samples.filter(({ name }) => name.startsWith(OURS)).length;
    const ask = async (servername: string): Promise<void> => {
      await expect(tlsClient(port, { ca: ca.caPem, servername })).rejects.toThrow();
    };
    await ask('first.internal');
    await proxy.log.waitForClose('handshake_failed');
    const before = await series();
    const odd = [`${'x'.repeat(5000)}.internal`, '"},{\n\u001B[31m', `${A}.evil`, '10.0.0.1', '*.internal'];
    for (const name of odd) await ask(name);
    const ends = (): LogLine[] =>
      proxy.log.lines.filter((line) => line['close.reason'] === 'handshake_failed');
    await proxy.log.waitFor(() => ends().length === odd.length + 1);
    expect(await series()).toBe(before);
    for (const line of ends()) expect(JSON.stringify(line).length).toBeLessThan(1500);
    expect(proxy.log.text).not.toContain('\u001B');
    expect(gitaly.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test('is refused before a certificate, too, with a ClientHello that cannot be read: of 40 kB, or behind an empty record', async () => {
    const gitaly = await RawBackend.start();
    const { proxy, port } = await start({ [A]: gitaly.url });
    const long = Array.from({ length: 160 }, (_, index) => `${index}`.padEnd(240, 'x'));
    const [plain, above] = [
      await recordNode({ servername: B }),
      await recordNode({ servername: B, ALPNProtocols: long }),
    ];
    const refused = {
      'longer than 32768 bytes': { bytes: above, alert: 47 },
      'an empty record': { bytes: Buffer.concat([Buffer.from([22, 3, 1, 0, 0]), plain]), alert: 10 },
      'fields do not fit': { bytes: Buffer.from('160301000601000002030300', 'hex'), alert: 50 },
    };
    for (const [detail, { bytes, alert }] of Object.entries(refused)) {
      const client = await tcpClient(port);
      client.write(bytes);
      // Nothing but the alert.
      expect((await readToEnd(client)).received.toString('hex'), detail).toBe(
        Buffer.from([21, 3, 3, 0, 2, 2, alert]).toString('hex'),
      );
      await proxy.log.waitFor((line) => String(line['close.detail']).includes(detail));
    }
    const reason = { reason: 'client_hello' };
    expect((await proxy.scrape()).value(`${OURS}tls_handshake_failures_total`, reason)).toBe(3);
    expect(gitaly.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });
});

test('a session that is resumed with another server name is routed by the new name', async () => {
  const [a, b] = [await RawBackend.start(), await RawBackend.start()];
  const setup = await start({ [A]: a.url, [B]: b.url });
  const { proxy, port, ca } = setup;
  for (const [round, version] of TLS_VERSIONS.entries()) {
    const first = await tlsClient(port, { ca: ca.caPem, servername: A, ...speaking(version) });
    const session = await sessionOf(first);
    const upstream = await connected(first, a);
    upstream.socket.end();
    await readToEnd(first.end());

    // The same name first, so that it is sure that the session can be resumed.
    expect(await reaches(setup, A, a, { session, ...speaking(version) })).toBe(true);
    await reaches(setup, B, b, { session, ...speaking(version) });
    expect([a.connections.length, b.connections.length]).toEqual([2 * (round + 1), round + 1]);
    await expect(
      tlsClient(port, { ca: ca.caPem, servername: 'nobody.internal', session, ...speaking(version) }),
    ).rejects.toMatchObject({ code: expect.stringContaining('UNRECOGNIZED_NAME') as string });
  }
  await proxy.endsWithNothingLeaked();
});

test('a client is asked for its certificate whatever the name', async () => {
  const [a, b] = [await RawBackend.start(), await RawBackend.start()];
  const setup = await startSetup(async (ca) => {
    const { certificatePath, keyPath } = await ca.server({ dns: NAMES });
    return {
      tls: {
        certificate_path: certificatePath,
        key_path: keyPath,
        client_auth: 'require',
        client_ca_path: ca.caPath,
      },
      listener: { forward: undefined, forward_by_server_name: { [A]: a.url, [B]: b.url } },
    };
  });
  const { certificatePem, keyPem } = await setup.ca.client();
  for (const servername of [A, B]) {
    const client = await tlsClient(setup.port, { ca: setup.ca.caPem, servername });
    client.write(BACKCHANNEL_PREFACE);
    // The proxy answers its calls; neither Gitaly hears of it.
    await readToEnd(client);
  }
  expect([...a.connections, ...b.connections]).toHaveLength(0);
  await reaches(setup, B, b, { cert: certificatePem, key: keyPem });
  expect(a.connections).toHaveLength(0);
  await setup.proxy.endsWithNothingLeaked();
});

test('each upstream may be tcp://, unix: or tls://, whose own host its certificate must hold', async () => {
  const path = join(await temporaryDirectory(), 'gitaly.socket');
  const gitalys: RawBackend[] = [await RawBackend.start(), await RawBackend.start(path)];
  const setup = await startSetup(async (ca) => {
    const served = await ca.server({ dns: NAMES });
    const issued = await ca.server({ dns: ['localhost'], ip: [] });
    const secure = await RawBackend.startTls({ cert: issued.certificatePem, key: issued.keyPem });
    gitalys.push(secure);
    return {
      tls: { certificate_path: served.certificatePath, key_path: served.keyPath },
      listener: {
        forward: undefined,
        forward_by_server_name: {
          [A]: gitalys[0]?.url,
          [B]: gitalys[1]?.url,
          'one.eu.internal': secure.tlsUrl('localhost'),
          'nobody.internal': secure.tlsUrl('127.0.0.1'),
        },
        upstream_tls: { ca_path: ca.caPath },
      },
    };
  });
  for (const [index, name] of [A, B, 'one.eu.internal'].entries()) {
    const gitaly = gitalys[index];
    if (gitaly) await reaches(setup, name, gitaly);
  }
  const client = await tlsClient(setup.port, { ca: setup.ca.caPem, servername: 'nobody.internal' });
  client.write(BACKCHANNEL_PREFACE);
  await readToEnd(client);
  const line = await setup.proxy.log.waitForClose('upstream_unreachable');
  expect(line['close.detail']).toContain('not valid for 127.0.0.1');
  expect(gitalys.map(({ connections }) => connections.length)).toEqual([1, 1, 1]);
  await setup.proxy.endsWithNothingLeaked();
});

test('a Gitaly that is down is named, and the others are served', async () => {
  const [down, up] = [await refusingBackend(), await startGrpcBackend()];
  const { proxy, ca } = await start({ [A]: down, [B]: up });
  const address = await proxy.address(TLS_LISTENER);
  const to = (serverName: string): GrpcClient => new GrpcClient(address, { ca: ca.caPem }, { serverName });
  const [lost, served] = [to(A), to(B)];
  await expect(lost.health()).rejects.toMatchObject({
    code: 14,
    details: expect.stringContaining(`Gitaly at ${down} cannot be reached`) as string,
  });
  expect(await served.health()).toEqual(HEALTH_SERVING);
  const line = await proxy.log.waitForClose('upstream_unreachable');
  expect(line).toMatchObject({ upstream: down, server_name: A });
  const scrape = await proxy.scrape();
  expect(
    scrape.value(`${OURS}upstream_connect_failures_total`, { upstream: down, reason: 'refused' }),
  ).toBeGreaterThan(0);
  expect(scrape.value(`${OURS}upstream_connect_failures_total`, { upstream: up })).toBe(0);
  expect(scrape.value(`${OURS}upstream_up`, { upstream: down })).toBe(0);
  expect(scrape.value(`${OURS}upstream_up`, { upstream: up })).toBe(1);
  lost.close();
  served.close();
  await proxy.endsWithNothingLeaked();
});

test('the page of open connections and the log lines of connections and calls name the Gitaly', async () => {
  const [a, b] = [await startGrpcBackend(), await startGrpcBackend()];
  const { proxy, ca } = await start({ [A]: a, default: b }, { more: { logging: { rpc: 'all' } } });
  const address = await proxy.address(TLS_LISTENER);
  const client = new GrpcClient(address, { ca: ca.caPem }, { serverName: A });
  const { rest } = await client.repeatUnread(Buffer.alloc(300_000, 'x'));
  const response = await fetch(`${await proxy.adminUrl()}/-/connections`, {
    headers: { connection: 'close' },
  });
  expect(await response.json()).toMatchObject({
    connections: [{ listener: TLS_LISTENER, upstream: a, server_name: A }],
  });
  await rest();
  client.close();
  const call = await proxy.log.waitForEvent('call_finished', { 'grpc.method': 'Repeat' });
  expect(call).toMatchObject({ listener: TLS_LISTENER, upstream: a });
  expect(await proxy.log.waitForEvent('connection_closed')).toMatchObject({
    upstream: a,
    server_name: A,
  });
  expect(await proxy.log.waitForEvent('listening')).toMatchObject({ forward: `${A}=${a} default=${b}` });
  await proxy.endsWithNothingLeaked();
});

test('the name counts behind a PROXY header too', async () => {
  const [a, b] = [await RawBackend.start(), await RawBackend.start()];
  const setup = await start(
    { [A]: a.url, [B]: b.url },
    { proxy_protocol: { accept_from: ['127.0.0.0/8'], send: 'v1' } },
  );
  const raw = await tcpClient(setup.port);
  raw.write('PROXY TCP4 192.0.2.7 192.0.2.1 40001 9999\r\n');
  const client = await tlsClient(setup.port, { socket: raw, ca: setup.ca.caPem, servername: B });
  client.write(BACKCHANNEL_PREFACE);
  const upstream = await b.accept();
  const header = /^PROXY TCP4 192\.0\.2\.7 .*\r\nbackchannel/su;
  while (!header.test(upstream.received.toString('latin1'))) await once(upstream.socket, 'data');
  upstream.socket.end();
  await readToEnd(client.end());
  expect(await setup.proxy.log.waitForClose('finished')).toMatchObject({
    'peer.address': '192.0.2.7:40001',
    upstream: b.url,
  });
  expect(a.connections).toHaveLength(0);
  await setup.proxy.endsWithNothingLeaked();
});

test('a drain is of the calls at every Gitaly', async () => {
  const { proxy, ca } = await start({ [A]: await startGrpcBackend(), [B]: await startGrpcBackend() });
  const address = await proxy.address(TLS_LISTENER);
  const rests = await Promise.all(
    [A, B].map(async (serverName) => {
      const client = new GrpcClient(address, { ca: ca.caPem }, { serverName });
      return client.repeatUnread(Buffer.alloc(300_000, 'x'));
    }),
  );
  proxy.signal('SIGTERM');
  await proxy.log.waitForEvent('draining');
  await Promise.all(rests.map(({ rest }) => rest()));
  expect(await proxy.exited).toBe(0);
});

test('configuration validate warns of a name that no certificate holds, with its line', async () => {
  const gitaly = await RawBackend.start();
  const { proxy } = await start({
    [A]: gitaly.url,
    '*.eu.internal': gitaly.url,
    '*.us.internal': gitaly.url,
    'c.internal': gitaly.url,
  });
  const { configurationPath } = proxy;
  const { exitCode, output } = await shell(
    `${process.execPath} ${CLI} configuration validate ${configurationPath}`,
  );
  expect(exitCode).toBe(0);
  const lines = readFileSync(configurationPath, 'utf8').split('\n');
  const warned = ['c.internal', '*.us.internal'].map((name) => ({
    name,
    line: 1 + lines.findIndex((line) => line.includes(name)),
  }));
  for (const { name, line } of warned)
    expect(output).toMatch(
      new RegExp(
        `:${line}: warning: .*no certificate of this listener has this name.*"${name.replace(/[.*]/gu, '\\$&')}"`,
      ),
    );
  expect(output.trim().split('\n')).toHaveLength(warned.length);
  await proxy.endsWithNothingLeaked();
});
