import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';

import { Authority } from '../support/authority.js';
import { refusingBackend } from '../support/backends.js';
import { checkSteps, runCheck, type Checked } from '../support/check-command.js';
import { opensslServer, requiringClients } from '../support/openssl-server.js';
import { startSetup } from '../support/setup.js';
import { StandInGitaly } from '../support/stand-in-gitaly.js';
import { HttpBackend } from '../support/http-backend.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

/** A port that was free a moment ago: `--through` reads it from the file, where 0 says nothing. */
async function freePort(): Promise<number> {
  return Number(new URL(await refusingBackend()).port);
}

function results({ targets }: Checked): [string, string, boolean][] {
  return targets.map(({ role, address, passed }) => [role, address, passed]);
}

test('--through checks every listener and every forward of a configuration', async () => {
  const directory = await temporaryDirectory();
  const ca = await Authority.create(directory);
  const [server, client] = [await ca.server(), await ca.client()];
  const plain = await StandInGitaly.start();
  const behindTls = await StandInGitaly.start({ tls: { cert: server.certificatePem, key: server.keyPem } });
  const down = await refusingBackend();
  const [tls, tcp, other] = [await freePort(), await freePort(), await freePort()];
  const socket = join(directory, 'gitaly.socket');
  const proxy = await ProxyProcess.start({
    configuration: {
      tls: {
        certificate_path: server.certificatePath,
        key_path: server.keyPath,
        client_auth: 'require',
        client_ca_path: ca.caPath,
      },
      listeners: [
        { listen: `tls://0.0.0.0:${tls}`, forward: plain.url },
        { listen: `tcp://127.0.0.1:${tcp}`, forward: plain.url },
        { listen: `unix:${socket}`, forward: behindTls.url, upstream_tls: { ca_path: ca.caPath } },
        { listen: `tcp://127.0.0.1:${other}`, forward: down },
      ],
    },
  });
  const args = ['--through', proxy.configurationPath, '--ca', ca.caPath];
  const presenting = ['--client-cert', client.certificatePath, '--client-key', client.keyPath];
  const { exitCode, checked } = await checkSteps([...args, ...presenting]);
  expect(results(checked)).toEqual([
    ['listen', `tls://0.0.0.0:${tls}`, true],
    ['forward', plain.url, true],
    ['listen', `tcp://127.0.0.1:${tcp}`, true],
    ['listen', `unix:${socket}`, true],
    ['forward', behindTls.url, true],
    ['listen', `tcp://127.0.0.1:${other}`, false],
    ['forward', down, false],
  ]);
  expect(exitCode).toBe(1);
  // Without a certificate, the listener that requires one says so.
  const { step } = await checkSteps(args);
  expect(step('client_certificate').detail).toContain('required, and none was given');
  await proxy.endsWithNothingLeaked();
});

test('a listener that wants a PROXY header gets one', async () => {
  const gitaly = await StandInGitaly.start();
  const port = await freePort();
  const listen = `tls://127.0.0.1:${port}`;
  const { proxy, ca } = await startSetup({
    listener: { listen, forward: gitaly.url, proxy_protocol: { accept_from: ['127.0.0.0/8'] } },
  });
  const { exitCode } = await runCheck(['--through', proxy.configurationPath, '--ca', ca.caPath]);
  expect(exitCode).toBe(0);
  await proxy.endsWithNothingLeaked();
});

describe('a listener with forward_by_server_name', () => {
  /** Two Gitalys and the names that lead there; the certificate holds all of them. */
  async function startRouted(more: Readonly<Record<string, string>>) {
    const ca = await Authority.create(await temporaryDirectory());
    const [first, second] = [await StandInGitaly.start(), await StandInGitaly.start()];
    const listen = `tls://127.0.0.1:${await freePort()}`;
    const { certificatePath, keyPath } = await ca.server({
      dns: ['gitaly-a.internal', '*.eu.internal', 'gitaly-c.internal'],
    });
    const routes = { 'gitaly-a.internal': first.url, '*.eu.internal': second.url, ...more };
    const proxy = await ProxyProcess.start({
      configuration: {
        tls: { certificate_path: certificatePath, key_path: keyPath },
        listeners: [{ listen, forward_by_server_name: routes }],
      },
    });
    const args = ['--through', proxy.configurationPath, '--ca', ca.caPath];
    return { proxy, listen, first, second, args };
  }

  test('is checked by each of its names, and each of its upstreams once', async () => {
    const { proxy, listen, first, second, args } = await startRouted({});
    const { exitCode, checked } = await checkSteps(args);
    expect(results(checked)).toEqual([
      ['listen', listen, true],
      ['listen', `${listen} as check.eu.internal`, true],
      ['forward', first.url, true],
      ['forward', second.url, true],
    ]);
    expect(exitCode).toBe(0);
    // Over HTTP/2 and over the backchannel, through the listener and directly.
    for (const { calls } of [first, second])
      expect(calls.filter((path) => path === '/grpc.health.v1.Health/Check')).toHaveLength(4);
    await proxy.endsWithNothingLeaked();
  });

  test('with a default has that checked too, and a name that leads to a Gitaly that is down fails', async () => {
    const down = await refusingBackend();
    const fallback = await StandInGitaly.start();
    const { proxy, listen, first, second, args } = await startRouted({
      '*.eu.internal': down,
      default: fallback.url,
    });
    const { exitCode, checked } = await checkSteps(args);
    expect(results(checked)).toEqual([
      ['listen', listen, true],
      ['listen', `${listen} as check.eu.internal`, false],
      ['listen', `${listen} as gitaly-c.internal`, true],
      ['forward', first.url, true],
      ['forward', down, false],
      ['forward', fallback.url, true],
    ]);
    expect(second.calls).toEqual([]);
    expect(exitCode).toBe(1);
    await proxy.endsWithNothingLeaked();
  });
});

describe('a wildcard', () => {
  /** Checks a listener with these names of its certificate and these routes. */
  async function checkRoutes(names: readonly string[], routes: readonly string[]) {
    const ca = await Authority.create(await temporaryDirectory());
    const { certificatePath, keyPath } = await ca.server({ dns: [...names], ip: [] });
    const gitalys = await Promise.all(routes.map(() => StandInGitaly.start()));
    const listen = `tls://127.0.0.1:${await freePort()}`;
    const proxy = await ProxyProcess.start({
      configuration: {
        tls: { certificate_path: certificatePath, key_path: keyPath },
        listeners: [
          {
            listen,
            forward_by_server_name: Object.fromEntries(
              routes.map((name, index) => [name, gitalys[index]?.url]),
            ),
          },
        ],
      },
    });
    const { exitCode, checked } = await checkSteps(['--through', proxy.configurationPath, '--ca', ca.caPath]);
    await proxy.endsWithNothingLeaked();
    const listened = results(checked).filter(([role]) => role === 'listen');
    return { exitCode, names: listened.map(([, address]) => address.split(' as ')[1]), gitalys };
  }

  test('is checked by a name that the certificate holds', async () => {
    const { exitCode, names } = await checkRoutes(
      ['gitaly-a.internal', 'gitaly-b.eu.internal'],
      ['gitaly-a.internal', '*.eu.internal'],
    );
    expect(names).toEqual([undefined, 'gitaly-b.eu.internal']);
    expect(exitCode).toBe(0);
  });

  test('is checked by a name that no other route takes', async () => {
    const { exitCode, names, gitalys } = await checkRoutes(
      ['*.eu.internal'],
      ['check.eu.internal', '*.eu.internal'],
    );
    expect(names).toEqual([undefined, 'check-2.eu.internal']);
    expect(gitalys.map(({ calls }) => calls.length > 0)).toEqual([true, true]);
    expect(exitCode).toBe(0);
  });
});

test('a certificate of upstream_tls that is refused is called by its setting', async () => {
  const directory = await temporaryDirectory();
  const [ca, stranger] = [
    await Authority.create(directory),
    await Authority.create(await temporaryDirectory(), 'stranger'),
  ];
  const port = await opensslServer(await ca.server(), requiringClients(ca, '-tls1_3'));
  const client = await stranger.client();
  const checkForward = async (more: object) => {
    const file = join(directory, 'gitaly-tls-proxy.yaml');
    const upstream = { listen: 'tcp://127.0.0.1:0', forward: `tls://localhost:${port}` };
    const upstreamTls = { upstream_tls: { ca_path: ca.caPath, ...more } };
    await writeFile(file, stringify({ listeners: [{ ...upstream, ...upstreamTls }] }));
    const { checked } = await checkSteps(['--through', file]);
    return checked.targets[1]?.endpoints[0]?.steps.find(({ name }) => name === 'client_certificate');
  };
  expect((await checkForward({}))?.cure).toMatch(/^set certificate_path and key_path in upstream_tls/);
  const pair = { certificate_path: client.certificatePath, key_path: client.keyPath };
  expect((await checkForward(pair))?.detail).toContain('that of upstream_tls.certificate_path is refused');
});

test('of an HTTP pair the connection and TLS are checked', async () => {
  const backend = await HttpBackend.start();
  const port = await freePort();
  const { proxy, ca } = await startSetup({
    listener: { listen: `https://127.0.0.1:${port}`, forward: backend.url },
  });
  const { exitCode, checked } = await checkSteps(['--through', proxy.configurationPath, '--ca', ca.caPath]);
  expect(checked.targets.map(({ endpoints }) => endpoints[0]?.steps.map(({ name }) => name))).toEqual([
    ['connect', 'tls', 'alpn', 'chain', 'san', 'expiry', 'client_certificate'],
    ['connect'],
  ]);
  expect(exitCode).toBe(0);
  await proxy.endsWithNothingLeaked();
});

test('a listener whose port is not known is Skipped', async () => {
  const gitaly = await StandInGitaly.start();
  const file = join(await temporaryDirectory(), 'gitaly-tls-proxy.yaml');
  await writeFile(file, stringify({ listeners: [{ listen: 'tcp://127.0.0.1:0', forward: gitaly.url }] }));
  const { exitCode, output } = await runCheck(['--through', file]);
  expect(output).toContain('listen tcp://127.0.0.1:0\nChecking connection ... Skipped\n');
  expect(output).toContain(`forward ${gitaly.url}\nChecking connection ... Passed\n`);
  expect(exitCode).toBe(0);
});

test('a configuration that is wrong is exit code 2, with the line', async () => {
  const file = join(await temporaryDirectory(), 'gitaly-tls-proxy.yaml');
  await writeFile(file, 'listeners:\n  - listen: tcp://127.0.0.1:1\n    forward: nowhere\n');
  const { exitCode, output } = await runCheck(['--through', file]);
  expect(output).toMatch(/:3: listeners\[0\]\.forward/);
  expect(exitCode).toBe(2);
});
