import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import type { EventId } from '../../src/telemetry/events.js';
import { Authority } from '../support/authority.js';
import { RawBackend, refusingBackend } from '../support/backends.js';
import { tcpClient } from '../support/clients.js';
import { HttpBackend } from '../support/http-backend.js';
import { ProxyProcess, type StartOptions } from '../support/proxy-process.js';
import { StandInGitaly } from '../support/stand-in-gitaly.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const LISTENER = 'tcp://127.0.0.1:0';
const UP = 'gitaly_tls_proxy_upstream_up';
const OFTEN = '100ms';
/** So seldom that a test sees the first check alone. */
const SELDOM = '1h';

const DOWN = 'upstream_down';
const UP_AGAIN = 'upstream_up';

function startChecking(
  forward: string,
  more: Readonly<Record<string, unknown>> = {},
  { listener, ...options }: StartOptions & { listener?: Readonly<Record<string, unknown>> } = {},
): Promise<ProxyProcess> {
  return ProxyProcess.start({
    ...options,
    configuration: {
      listeners: [{ listen: LISTENER, forward, ...listener }],
      health_check_interval: OFTEN,
      ...more,
    },
  });
}

/** Waits until the gauge has a value at all, and this one. */
async function awaitUp(proxy: ProxyProcess, value: 0 | 1): Promise<void> {
  await proxy.scrapeUntil(({ samples }) =>
    samples.some((sample) => sample.name === UP && sample.value === value),
  );
}

async function readiness(proxy: ProxyProcess): Promise<{ status: number; text: string }> {
  const response = await fetch(`${await proxy.adminUrl()}/-/readiness`, { headers: { connection: 'close' } });
  return { status: response.status, text: await response.text() };
}

async function awaitReadiness(proxy: ProxyProcess, status: number): Promise<string> {
  for (;;) {
    const answer = await readiness(proxy);
    if (answer.status === status) return answer.text;
  }
}

function lines(proxy: ProxyProcess, event: EventId): number {
  return proxy.log.text.split('\n').filter((line) => line.includes(`"event":"${event}"`)).length;
}

describe('upstream_up', () => {
  test('shows the result of a health check before the first client', async () => {
    const gitaly = await StandInGitaly.start();
    const proxy = await startChecking(gitaly.url);
    await awaitUp(proxy, 1);
    expect(new Set(gitaly.calls)).toEqual(new Set(['/grpc.health.v1.Health/Check']));
    const scrape = await proxy.scrape();
    for (const name of [
      'gitaly_connections_total',
      'gitaly_tls_proxy_connections_total',
      'grpc_server_started_total',
    ])
      expect(scrape.value(name)).toBe(0);
    await proxy.endsWithNothingLeaked();
  });

  test('is absent where no health check is asked for and no client has come', async () => {
    const gitaly = await StandInGitaly.start();
    const proxy = await ProxyProcess.start({
      configuration: { listeners: [{ listen: LISTENER, forward: gitaly.url }] },
    });
    expect((await proxy.scrape()).samples.filter(({ name }) => name === UP)).toEqual([]);
    expect(gitaly.calls).toEqual([]);
    await proxy.endsWithNothingLeaked();
  });

  test('follows a Gitaly that goes and comes back; each change is logged once, the first with the reason', async () => {
    const gitaly = await StandInGitaly.start();
    const { port } = gitaly;
    const proxy = await startChecking(gitaly.url);
    await awaitUp(proxy, 1);
    gitaly.stop();
    const line = await proxy.log.waitForEvent(DOWN);
    expect(line).toMatchObject({ level: 'error', listener: LISTENER, upstream: `tcp://127.0.0.1:${port}` });
    await awaitUp(proxy, 0);
    await gitaly.startAgain(port);
    await proxy.log.waitForEvent(UP_AGAIN);
    await awaitUp(proxy, 1);
    const { length } = gitaly.calls;
    await proxy.scrapeUntil(() => gitaly.calls.length > length + 2);
    expect([lines(proxy, DOWN), lines(proxy, UP_AGAIN)]).toEqual([1, 1]);
    await proxy.endsWithNothingLeaked();
  });

  test('is 0 for a Gitaly that answers and does not serve', async () => {
    const gitaly = await StandInGitaly.start({ health: 2 });
    const proxy = await startChecking(gitaly.url);
    await awaitUp(proxy, 0);
    expect(await proxy.log.waitForEvent(DOWN)).toMatchObject({
      reason: 'not_serving',
      error: 'NOT_SERVING',
    });
    await proxy.endsWithNothingLeaked();
  });

  test('is 0 for a web server, whatever its status', async () => {
    const server = createServer((_request, response) => {
      response.writeHead(403);
      response.end();
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const proxy = await startChecking(`tcp://127.0.0.1:${port}`);
    await awaitUp(proxy, 0);
    const { reason, error } = await proxy.log.waitForEvent(DOWN);
    expect(reason).toBe('not_grpc');
    expect(error).toContain('HTTP status 403');
    await proxy.endsWithNothingLeaked();
  });

  test('is 0 for a Gitaly whose certificate does not hold', async () => {
    const [ca, stranger] = [
      await Authority.create(await temporaryDirectory()),
      await Authority.create(await temporaryDirectory(), 'stranger'),
    ];
    const { certificatePem, keyPem } = await stranger.server();
    const gitaly = await StandInGitaly.start({ tls: { cert: certificatePem, key: keyPem } });
    const proxy = await startChecking(gitaly.url, {}, { listener: { upstream_tls: { ca_path: ca.caPath } } });
    expect(await proxy.log.waitForEvent(DOWN)).toMatchObject({ reason: 'certificate_unknown_authority' });
    expect(gitaly.calls).toEqual([]);
    await proxy.endsWithNothingLeaked();
  });

  test('has one series for each upstream of forward_by_server_name, however many names lead there', async () => {
    const { certificatePath, keyPath } = await (await Authority.create(await temporaryDirectory())).server();
    const [gitaly, down] = [await StandInGitaly.start(), await refusingBackend()];
    const listen = 'tls://127.0.0.1:0';
    const proxy = await ProxyProcess.start({
      configuration: {
        tls: { certificate_path: certificatePath, key_path: keyPath },
        listeners: [
          {
            listen,
            forward_by_server_name: { localhost: gitaly.url, '*.localhost': gitaly.url, default: down },
          },
        ],
        health_check_interval: OFTEN,
      },
    });
    const ofUpstreams = ({ name }: { name: string }): boolean => name === UP;
    await proxy.scrapeUntil(({ samples }) => samples.filter(ofUpstreams).length >= 2);
    const scrape = await proxy.scrape();
    expect(scrape.samples.filter(ofUpstreams)).toHaveLength(2);
    expect(scrape.value(UP, { listener: listen, upstream: gitaly.url })).toBe(1);
    expect(scrape.value(UP, { listener: listen, upstream: down })).toBe(0);
    await proxy.endsWithNothingLeaked();
  });

  test('of an HTTP upstream shows whether it can be connected to', async () => {
    const backend = await HttpBackend.start();
    const proxy = await ProxyProcess.start({
      configuration: {
        listeners: [{ listen: 'http://127.0.0.1:0', forward: backend.url }],
        health_check_interval: OFTEN,
      },
    });
    await awaitUp(proxy, 1);
    await proxy.endsWithNothingLeaked();
  });

  test('a load balancer before Gitaly gets a PROXY header that names no client', async () => {
    const backend = await RawBackend.start();
    const proxy = await startChecking(
      backend.url,
      { health_check_interval: SELDOM },
      { listener: { proxy_protocol: { send: 'v2' } } },
    );
    const connection = await backend.accept();
    const header = await connection.receive(16);
    // Version 2, LOCAL: "the connection was established on purpose by the proxy without being relayed".
    expect(header.readUInt8(12)).toBe(0x20);
    connection.reset();
    await proxy.endsWithNothingLeaked();
  });
});

describe('the token', () => {
  async function tokenPath(token: string, mode = 0o600): Promise<string> {
    const path = join(await temporaryDirectory(), 'token');
    await writeFile(path, `${token}\n`, { mode });
    return path;
  }

  test('none is sent unless configured, and a Gitaly that wants one is up', async () => {
    const gitaly = await StandInGitaly.start({ token: 'secret' });
    const proxy = await startChecking(gitaly.url);
    await awaitUp(proxy, 1);
    expect(gitaly.authorizations.every((value) => value === undefined)).toBe(true);
    await proxy.endsWithNothingLeaked();
  });

  test('that is configured signs each check, and is in no log', async () => {
    const gitaly = await StandInGitaly.start({ token: 'secret-of-gitaly' });
    const path = await tokenPath('secret-of-gitaly');
    const proxy = await startChecking(gitaly.url, { health_check_token_path: path });
    await awaitUp(proxy, 1);
    expect(gitaly.authorizations[0]).toMatch(/^Bearer v2\.[0-9a-f]{64}\.\d+$/);
    await proxy.endsWithNothingLeaked();
    expect(proxy.log.text).not.toContain('secret-of-gitaly');
  });

  test('in a file that others can read is used, with a warning', async () => {
    const gitaly = await StandInGitaly.start({ token: 'secret' });
    const path = await tokenPath('secret', 0o644);
    const proxy = await startChecking(gitaly.url, { health_check_token_path: path });
    await awaitUp(proxy, 1);
    await proxy.endsWithNothingLeaked();
    expect(proxy.log.text).toContain(`${path}: readable by others; chmod 600 it`);
  });

  test('a token that Gitaly refuses is logged once, and Gitaly counts as up', async () => {
    const gitaly = await StandInGitaly.start({ token: 'secret' });
    const proxy = await startChecking(gitaly.url, { health_check_token_path: await tokenPath('another') });
    await awaitUp(proxy, 1);
    await proxy.scrapeUntil(() => gitaly.calls.length > 3);
    expect(lines(proxy, 'upstream_warning')).toBe(1);
    await proxy.endsWithNothingLeaked();
  });
});

describe('readiness', () => {
  test('does not depend on upstreams by default', async () => {
    const proxy = await startChecking(await refusingBackend());
    await awaitUp(proxy, 0);
    expect((await readiness(proxy)).status).toBe(200);
    await proxy.endsWithNothingLeaked();
  });

  test('with readiness_requires_upstream fails while no upstream is up, with the reason', async () => {
    const gitaly = await StandInGitaly.start();
    const { port } = gitaly;
    const proxy = await startChecking(gitaly.url, { readiness_requires_upstream: true });
    await awaitReadiness(proxy, 200);
    gitaly.stop();
    expect(await awaitReadiness(proxy, 503)).toContain(
      `the upstream tcp://127.0.0.1:${port} of ${LISTENER} is down`,
    );
    await gitaly.startAgain(port);
    await awaitReadiness(proxy, 200);
    await proxy.endsWithNothingLeaked();
  });

  test('one Gitaly that is down does not take the proxy away from the others', async () => {
    const gitaly = await StandInGitaly.start();
    const listeners = [
      { listen: LISTENER, forward: gitaly.url },
      { listen: 'tcp://127.0.0.2:0', forward: await refusingBackend() },
    ];
    const proxy = await startChecking(gitaly.url, { listeners, readiness_requires_upstream: true });
    await proxy.scrapeUntil(({ samples }) => samples.filter(({ name }) => name === UP).length === 2);
    const scrape = await proxy.scrape();
    expect(scrape.value(UP, { listener: LISTENER })).toBe(1);
    expect(scrape.value(UP, { listener: 'tcp://127.0.0.2:0' })).toBe(0);
    expect((await readiness(proxy)).status).toBe(200);
    await proxy.endsWithNothingLeaked();
  });
});

describe('checks', () => {
  test('are made once, however many workers there are', async () => {
    const gitaly = await StandInGitaly.start();
    const proxy = await startChecking(gitaly.url, { health_check_interval: SELDOM, workers: 2 });
    await awaitUp(proxy, 1);
    expect(gitaly.calls).toEqual(['/grpc.health.v1.Health/Check']);
    await proxy.endsWithNothingLeaked();
  });

  test('of one upstream never overlap', async () => {
    const backend = await RawBackend.start();
    const proxy = await startChecking(backend.url, { timeouts: { dial: '1s' } });
    const { ended } = await backend.accept();
    await ended;
    // The next one may be there before the end of the first is seen; by their interval there would be ten.
    expect(backend.connections.length).toBeLessThanOrEqual(2);
    expect(await proxy.log.waitForEvent(DOWN)).toMatchObject({
      reason: 'no_answer',
      error: 'no answer within 1000 ms',
    });
    await proxy.endsWithNothingLeaked();
  });

  test('end with the drain', async () => {
    const gitaly = await StandInGitaly.start();
    const proxy = await startChecking(gitaly.url, { graceful_restart_timeout: '1s' });
    await awaitUp(proxy, 1);
    const client = await tcpClient(await proxy.port(LISTENER));
    client.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u0004\0\0\0\0\0');
    await proxy.log.waitForEvent('ready');
    proxy.signal('SIGTERM');
    await proxy.log.waitForEvent('draining');
    const { length } = gitaly.calls;
    await proxy.exited;
    // One may have been on its way.
    expect(gitaly.calls.length).toBeLessThanOrEqual(length + 1);
  });

  test('health checks follow a reload: removed upstreams have no series, new ones are checked', async () => {
    const [one, other] = [await StandInGitaly.start(), await StandInGitaly.start({ health: 2 })];
    const second = { listen: 'tcp://127.0.0.2:0', forward: one.url };
    const common = { health_check_interval: OFTEN };
    const first = { listen: LISTENER, forward: one.url };
    const proxy = await startChecking(one.url, { listeners: [first, second] });
    await proxy.scrapeUntil((scrape) => scrape.value(UP) === 2);

    await proxy.configure({ ...common, listeners: [{ listen: LISTENER, forward: other.url }] });
    proxy.signal('SIGHUP');
    await awaitUp(proxy, 0);
    const { samples } = await proxy.scrape();
    expect(samples.filter(({ name }) => name === UP).map(({ labels }) => labels['listener'])).toEqual([
      LISTENER,
    ]);

    await proxy.configure({ listeners: [{ listen: LISTENER, forward: other.url }] });
    proxy.signal('SIGHUP');
    await proxy.scrapeUntil((scrape) => scrape.samples.every(({ name }) => name !== UP));
    await proxy.endsWithNothingLeaked();
  });

  test.each([
    [{ readiness_requires_upstream: true }, 'readiness_requires_upstream: needs health checks'],
    [{ health_check_token_path: 'token' }, 'health_check_token_path: needs health checks'],
    [{ health_check_interval: '1ms' }, 'health_check_interval: must be at least 100ms'],
    [{ health_check_interval: '1s', health_check_token_path: '/not/there' }, '/not/there: no such file'],
  ])('that are configured by halves are exit code 2: %j', async (settings, words) => {
    const proxy = await ProxyProcess.spawn({
      configuration: { listeners: [{ listen: LISTENER, forward: 'tcp://127.0.0.1:1' }], ...settings },
    });
    expect(await proxy.exited).toBe(2);
    expect(proxy.stderr.text).toContain(words);
  });
});
