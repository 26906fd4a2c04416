import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import { Server, ServerCredentials, type sendUnaryData } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';

import { HEALTH_SERVING, healthService } from '../../src/commands/demo/demo-service.js';
import { Authority } from '../support/authority.js';
import { RawBackend, refusingBackend } from '../support/backends.js';
import { blackHole } from '../support/black-hole.js';
import { checkSteps, namedTo, runCheck } from '../support/check-command.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { TLS_LISTENER } from '../support/setup.js';
import { StandInGitaly, type StandInOptions } from '../support/stand-in-gitaly.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const TOKEN = 'a secret of Gitaly';

async function tokenFile(content = `${TOKEN}\n`, mode = 0o600): Promise<string> {
  const path = join(await temporaryDirectory(), 'token');
  await writeFile(path, content, { mode });
  return path;
}

/** A Gitaly behind TLS, and what `check` needs to trust it. */
async function startBehindTls(options: StandInOptions = {}) {
  const ca = await Authority.create(await temporaryDirectory());
  const { certificatePem, keyPem } = await ca.server({ notAfter: new Date(Date.now() + 90 * 86_400_000) });
  const gitaly = await StandInGitaly.start({ tls: { cert: certificatePem, key: keyPem }, ...options });
  return { ca, gitaly };
}

describe('each step is told as Praefect tells its checks', () => {
  test('a Gitaly behind TLS passes all of them, and the exit code is 0', async () => {
    const { ca, gitaly } = await startBehindTls({ token: TOKEN });
    const { exitCode, output } = await runCheck([
      gitaly.url,
      '--ca',
      ca.caPath,
      '--token-file',
      await tokenFile(),
    ]);
    expect(output.split('\n').filter((line) => line.startsWith('Checking '))).toEqual([
      'Checking name resolution ... Passed',
      'Checking connection ... Passed',
      'Checking TLS version and cipher ... Passed',
      'Checking ALPN ... Passed',
      'Checking certificate chain ... Passed',
      'Checking certificate names (SAN) ... Passed',
      'Checking certificate expiry ... Passed',
      'Checking client certificate ... Passed',
      'Checking gRPC health over HTTP/2 ... Passed',
      'Checking gRPC health over the backchannel ... Passed',
      'Checking Gitaly version and storages ... Passed',
    ]);
    expect(output).toContain('\n  TLSv1.3, TLS_AES_');
    expect(output).toContain('\n  Gitaly 15.11.13, git 2.39.2, storages: default (readable, writeable)\n');
    expect(exitCode).toBe(0);
  });

  test('a failure has its cause and its fix, dependent steps are Skipped with the reason, and the exit code is 1', async () => {
    const url = await refusingBackend();
    const { exitCode, output } = await runCheck([url]);
    const address = url.replace('tcp://', '');
    expect(output).toBe(
      [
        url,
        'Checking connection ... Failed',
        `  connect ECONNREFUSED ${address}. Fix: nothing listens there: check that Gitaly, or the proxy in front of it, runs and has this address`,
        'Checking gRPC health over HTTP/2 ... Skipped',
        '  because connection did not pass',
        'Checking gRPC health over the backchannel ... Skipped',
        '  because connection did not pass',
        'Checking Gitaly version and storages ... Skipped',
        '  because connection did not pass',
        '',
      ].join('\n'),
    );
    expect(exitCode).toBe(1);
  });

  test('--json says the same for programs', async () => {
    const { ca, gitaly } = await startBehindTls();
    const { exitCode, checked, step } = await checkSteps([gitaly.url, '--ca', ca.caPath]);
    expect(exitCode).toBe(0);
    expect(checked).toMatchObject({
      passed: true,
      targets: [{ address: gitaly.url, role: 'address', passed: true }],
    });
    expect(step('tls')).toMatchObject({ result: 'passed', version: 'TLSv1.3' });
    expect(step('client_certificate')).toMatchObject({ result: 'passed', asked_for: false, given: false });
    expect(step('server_info')).toMatchObject({
      server_version: '15.11.13',
      git_version: '2.39.2',
      storages: [{ name: 'default', readable: true, writeable: true }],
    });
  });
});

describe('addresses', () => {
  test('all addresses of a name are checked, each by itself', async () => {
    const gitaly = await StandInGitaly.start({ host: '127.0.0.2' });
    const url = `dns:gitaly.test:${gitaly.port}`;
    const { exitCode, checked } = await checkSteps([url], namedTo(['127.0.0.1', '127.0.0.2']));
    const [target] = checked.targets;
    expect(target?.steps).toMatchObject([
      { name: 'resolve', result: 'passed', addresses: ['127.0.0.1', '127.0.0.2'] },
    ]);
    expect(target?.endpoints.map(({ address, passed }) => [address, passed])).toEqual([
      [`127.0.0.1:${gitaly.port}`, false],
      [`127.0.0.2:${gitaly.port}`, true],
    ]);
    expect(exitCode).toBe(1);
  });

  test('they are checked at the same time: one that answers nothing holds no other up', async () => {
    const hole = await blackHole();
    const { port } = new URL(hole);
    const gitaly = await StandInGitaly.start({ host: '127.0.0.2', port: Number(port) });
    const { checked } = await checkSteps(
      [`tcp://gitaly.test:${port}`, '--timeout', '500ms'],
      namedTo(['127.0.0.1', '127.0.0.2']),
    );
    const [silent, other] = checked.targets[0]?.endpoints ?? [];
    expect(silent?.steps[0]).toMatchObject({
      result: 'failed',
      reason: 'timeout',
      detail: 'no connection within 500 ms',
    });
    expect(other?.passed).toBe(true);
    expect(gitaly.calls).toContain('/grpc.health.v1.Health/Check');
  });

  test('a name that does not resolve', async () => {
    const { step } = await checkSteps(['tls://gitaly.test:9999'], namedTo([]));
    expect(step('resolve')).toMatchObject({
      result: 'failed',
      detail: 'gitaly.test does not resolve (ENOTFOUND)',
    });
  });

  test('a unix socket, and one that is not there', async () => {
    const path = join(await temporaryDirectory(), 'gitaly.socket');
    await StandInGitaly.start({ path });
    expect((await runCheck([`unix:${path}`])).exitCode).toBe(0);
    const { step } = await checkSteps([`unix:${path}.not`]);
    expect(step('connect')).toMatchObject({ result: 'failed', reason: 'no_socket' });
  });

  test('several addresses are checked in one go', async () => {
    const [one, other] = [await StandInGitaly.start(), await StandInGitaly.start({ health: 2 })];
    const { exitCode, checked } = await checkSteps([one.url, other.url]);
    expect(checked.targets.map(({ passed }) => passed)).toEqual([true, false]);
    expect(exitCode).toBe(1);
  });
});

describe('health', () => {
  test('over the backchannel Gitaly may call back, and is answered', async () => {
    const gitaly = await StandInGitaly.start();
    const { step } = await checkSteps([gitaly.url]);
    expect(step('health_backchannel')).toMatchObject({ result: 'passed', detail: 'SERVING' });
    const reverse = Buffer.concat(gitaly.reverse);
    expect(reverse.includes('pong')).toBe(true);
    // SETTINGS of HTTP/2, as a server begins.
    expect(reverse.includes(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]))).toBe(true);
  });

  test('what does not know the backchannel passes over HTTP/2, and fails over the backchannel', async () => {
    const gitaly = await StandInGitaly.start({ backchannel: false });
    const { step } = await checkSteps([gitaly.url]);
    expect(step('health_http2').result).toBe('passed');
    expect(step('health_backchannel')).toMatchObject({ result: 'failed' });
    expect(step('health_backchannel').cure).toContain('must pass TCP');
  });

  test('a backchannel that fails beside a Gitaly that is down has the cause of HTTP/2', async () => {
    // A tunnel that does not know the backchannel, in front of a Gitaly that is down.
    const server = createHttp2Server((_request, response) => {
      response.writeHead(200, {
        'content-type': 'application/grpc',
        'grpc-status': '14',
        'grpc-message': 'down',
      });
      response.end();
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const { step } = await checkSteps([`tcp://127.0.0.1:${port}`]);
    expect(step('health_http2').detail).toBe('Unavailable: down');
    expect(step('health_backchannel').cure).toBe(step('health_http2').cure);
  });

  test('a Gitaly that does not serve', async () => {
    const gitaly = await StandInGitaly.start({ health: 2 });
    const { step } = await checkSteps([gitaly.url]);
    expect(step('health_http2')).toMatchObject({ result: 'failed', detail: 'NOT_SERVING' });
    expect(step('health_backchannel')).toMatchObject({ result: 'failed', detail: 'NOT_SERVING' });
  });

  test('a gRPC server that is no Gitaly', async () => {
    const server = new Server();
    server.addService(healthService, {
      check: (_call: unknown, done: sendUnaryData<Buffer>) => done(null, HEALTH_SERVING),
    });
    onTestFinished(() => server.forceShutdown());
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
        if (error) reject(error);
        else resolve(bound);
      });
    });
    const { step } = await checkSteps([`tcp://127.0.0.1:${port}`]);
    expect(step('health_http2').result).toBe('passed');
    expect(step('server_info').detail).toMatch(/^Unimplemented/);
    expect(step('server_info').cure).toBe('the server speaks gRPC but is not Gitaly');
  });

  test.each([401, 403, 404, 503])('a web server of HTTP/2 that answers %i', async (status) => {
    const server = createHttp2Server((_request, response) => {
      response.writeHead(status);
      response.end();
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    onTestFinished(() => void server.close());
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('not bound');
    const { step, exitCode } = await checkSteps([`tcp://127.0.0.1:${address.port}`]);
    expect(exitCode).toBe(1);
    expect(step('health_http2').result).toBe('failed');
    expect(step('health_http2').detail).toContain(`HTTP status ${status}`);
    expect(step('health_http2').cure).toBe('a web server answers, not Gitaly: is it the right port?');
  });

  test('one that takes connections and says nothing', async () => {
    const backend = await RawBackend.start();
    const { step } = await checkSteps([backend.url, '--timeout', '300ms']);
    expect(step('connect').result).toBe('passed');
    expect(step('health_http2')).toMatchObject({ result: 'failed', detail: 'no answer within 300 ms' });
  });

  test('a proxy whose Gitaly is down says so itself', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const { certificatePath, keyPath } = await ca.server();
    const forward = await refusingBackend();
    const proxy = await ProxyProcess.start({
      configuration: {
        tls: { certificate_path: certificatePath, key_path: keyPath },
        listeners: [{ listen: TLS_LISTENER, forward }],
      },
    });
    const port = await proxy.port(TLS_LISTENER);
    const { step } = await checkSteps([`tls://localhost:${port}`, '--ca', ca.caPath]);
    expect(step('chain').result).toBe('passed');
    expect(step('health_http2').detail).toContain(`Unavailable: Gitaly at ${forward} cannot be reached`);
    expect(step('health_http2').cure).toContain('cannot reach Gitaly');
    expect(step('health_backchannel')).toMatchObject({ result: 'failed' });
    expect(step('health_backchannel').cure).toContain('cannot reach Gitaly');
    await proxy.endsWithNothingLeaked();
  });

  test('through the proxy all steps pass, and the proxy carries no connection afterwards', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const { certificatePath, keyPath } = await ca.server();
    const gitaly = await StandInGitaly.start({ token: TOKEN });
    const proxy = await ProxyProcess.start({
      configuration: {
        tls: { certificate_path: certificatePath, key_path: keyPath },
        listeners: [{ listen: TLS_LISTENER, forward: gitaly.url }],
      },
    });
    const port = await proxy.port(TLS_LISTENER);
    const args = [`tls://localhost:${port}`, '--ca', ca.caPath, '--token-file', await tokenFile()];
    const { exitCode, checked } = await checkSteps(args);
    expect(checked.targets[0]?.endpoints[0]?.steps.map(({ result }) => result)).toEqual(
      Array(10).fill('passed'),
    );
    expect(exitCode).toBe(0);
    await proxy.endsWithNothingLeaked();
  });
});

describe('the token', () => {
  test('without one, a Gitaly that wants it passes in health, and the step that needs it is Skipped', async () => {
    const gitaly = await StandInGitaly.start({ token: TOKEN });
    const { exitCode, step } = await checkSteps([gitaly.url]);
    expect(step('health_http2')).toMatchObject({
      result: 'passed',
      detail: 'reachable, authentication required (Unauthenticated: authentication required)',
    });
    expect(step('server_info')).toMatchObject({ result: 'skipped' });
    expect(step('server_info').detail).toContain('--token-file');
    expect(exitCode).toBe(0);
  });

  test('a wrong token is refused, whatever its time', async () => {
    const gitaly = await StandInGitaly.start({ token: 'another' });
    const { exitCode, step } = await checkSteps([gitaly.url, '--token-file', await tokenFile()]);
    for (const health of ['health_http2', 'health_backchannel'])
      expect(step(health)).toMatchObject({
        result: 'failed',
        detail: 'the token is refused (PermissionDenied: permission denied)',
      });
    expect(step('server_info')).toMatchObject({ result: 'failed', token: 'wrong' });
    expect(step('server_info').detail).toContain('PermissionDenied: permission denied');
    expect(exitCode).toBe(1);
  });

  test.each([
    ['ahead of', 45],
    ['ahead of', 600],
    ['behind', -95],
    ['behind', -7215],
  ])(
    "a right token that is refused reports that the server's clock is %s this one by %i s",
    async (side, seconds) => {
      const gitaly = await StandInGitaly.start({ token: TOKEN, clockAheadMs: seconds * 1000 });
      const { step } = await checkSteps([gitaly.url, '--token-file', await tokenFile()]);
      const { result, detail, cure, clock_difference_seconds: difference } = step('server_info');
      expect(result).toBe('failed');
      expect(detail).toContain(`s ${side} this one`);
      expect(Math.abs(Number(difference) - seconds)).toBeLessThanOrEqual(3);
      expect(cure).toContain('NTP');
    },
  );

  test('health is asked for with it, over HTTP/2 and over the backchannel', async () => {
    const { ca, gitaly } = await startBehindTls({ token: TOKEN });
    const args = [gitaly.url, '--ca', ca.caPath, '--token-file', await tokenFile()];
    const { exitCode, step } = await checkSteps(args);
    expect(step('health_http2').detail).toBe('SERVING');
    expect(step('health_backchannel').detail).toBe('SERVING');
    expect(exitCode).toBe(0);
  });

  test('it does not stand in any output, and is not sent', async () => {
    const gitaly = await StandInGitaly.start({ token: 'another' });
    const { output } = await runCheck([gitaly.url, '--token-file', await tokenFile()]);
    expect(output).not.toContain(TOKEN);
    expect(gitaly.authorizations.every((value) => value === undefined || !value.includes(TOKEN))).toBe(true);
    expect(gitaly.authorizations.some((value) => value?.startsWith('Bearer v2.'))).toBe(true);
  });

  test('in a file that others can read: a warning on standard error, and all goes on', async () => {
    const gitaly = await StandInGitaly.start({ token: TOKEN });
    const path = await tokenFile(TOKEN, 0o644);
    const { exitCode, output } = await runCheck([gitaly.url, '--token-file', path]);
    expect(output).toContain(`--token-file: ${path}: readable by others; chmod 600 it`);
    expect(output).not.toContain(TOKEN);
    expect(exitCode).toBe(0);
  });

  test('nothing made of it goes to a server whose certificate does not hold', async () => {
    const { gitaly } = await startBehindTls({ token: TOKEN });
    const stranger = await Authority.create(await temporaryDirectory(), 'stranger');
    const { step } = await checkSteps([
      gitaly.url,
      '--ca',
      stranger.caPath,
      '--token-file',
      await tokenFile(),
    ]);
    expect(step('chain').result).toBe('failed');
    expect(step('server_info')).toMatchObject({
      result: 'skipped',
      detail: 'because certificate chain did not pass',
    });
    expect(gitaly.calls.length).toBeGreaterThan(0);
    expect(gitaly.authorizations.every((value) => value === undefined)).toBe(true);
  });

  test('a storage that cannot be written fails', async () => {
    const gitaly = await StandInGitaly.start({ writeable: false });
    const { step } = await checkSteps([gitaly.url]);
    expect(step('server_info').result).toBe('failed');
    expect(step('server_info').detail).toContain('default (readable, NOT WRITEABLE)');
  });
});

describe('usage', () => {
  test.each([
    [[], 'check needs an ADDRESS'],
    [['gitaly-a:9999'], 'expected an address with its scheme'],
    [['https://gitlab.example.com'], 'check supports the addresses of Gitaly'],
    [['tcp://127.0.0.1:1', '--client-cert', 'a.pem'], '--client-cert needs --client-key'],
    [['tcp://127.0.0.1:1', '--timeout', '5'], 'a duration needs a unit'],
    [['tcp://127.0.0.1:1', '--ca', '/not/there.pem'], '--ca: no such file: /not/there.pem'],
    [['tcp://127.0.0.1:1', '--token-file', '/not/there'], '/not/there: no such file'],
    [['--through', '/not/there.yaml'], 'the configuration file cannot be read'],
  ])('%j is exit code 2', async (args, words) => {
    const { exitCode, output } = await runCheck(args);
    expect(output).toContain(words);
    expect(exitCode).toBe(2);
  });
});
