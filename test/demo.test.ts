import { once } from 'node:events';
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { watch } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import { DEMO_PORTS } from '../src/commands/demo/demo-configuration.js';
import { HEALTH_SERVING, REPEATS } from '../src/commands/demo/demo-service.js';
import { GrpcClient } from './support/grpc-client.js';
import { ProxyProcess } from './support/proxy-process.js';
import { isInstalled, shell } from './support/shell.js';
import { temporaryDirectory } from './support/temporary-directory.js';

/** A web proxy that does not answer: what happens on loopback must not ask it. */
const WEB_PROXY = { http_proxy: 'http://127.0.0.1:1', https_proxy: 'http://127.0.0.1:1', no_proxy: '' };

/** Starts the demo, with the temporary directory to itself; that one has a name which a shell must quote. */
async function spawnDemo() {
  const directory = join(await temporaryDirectory(), "the operator's files");
  await mkdir(directory);
  const demo = await ProxyProcess.spawn({ args: ['demo'], env: { TMPDIR: directory, ...WEB_PROXY } });
  return { demo, directory };
}

/** The demo when it has printed all, and what that was. */
async function startDemo() {
  const { demo, directory } = await spawnDemo();
  const printed = await demo.log.waitForText('Ctrl-C ends the demo');
  const commands = /in another terminal:\n((?: {2}.+\n)+)/.exec(printed)?.[1]?.trim().split('\n') ?? [];
  const place = (what: string): URL =>
    new URL(new RegExp(`^ {2}${what} +(\\S+)`, 'm').exec(printed)?.[1] ?? '');
  return { demo, directory, printed, commands: commands.map((command) => command.trim()), place };
}

async function endsAndLeavesNothing(
  demo: ProxyProcess,
  directory: string,
  signal: NodeJS.Signals,
): Promise<void> {
  demo.signal(signal);
  expect(await demo.exited).toBe(0);
  expect(await readdir(directory)).toEqual([]);
}

describe('the demo', () => {
  test('makes a health call through its own TLS listener and prints four commands', async () => {
    const { demo, directory, printed, commands } = await startDemo();
    expect(printed).toMatch(/Health check through tls:\/\/127\.0\.0\.1:\d+ \.\.\. passed/);
    expect(commands).toHaveLength(4);
    await endsAndLeavesNothing(demo, directory, 'SIGINT');
  });

  test.for<[program: string, index: number, wanted: RegExp[]]>([
    ['openssl', 1, [/^ALPN protocol: h2$/m, /Verify return code: 0 \(ok\)/]],
    ['curl', 2, [/^# TYPE gitaly_connections_total counter$/m, /^gitaly_tls_proxy_build_info/m]],
    ['curl', 3, [/^gitaly_connections_total\{[^}]*type="tls"[^}]*\} [1-9]/m]],
  ])('the printed command with %s (%i) works as printed', async ([program, index, wanted], { skip }) => {
    skip(!isInstalled(program), `${program} is not installed`);
    const { demo, directory, commands } = await startDemo();
    expect(commands[index]).toMatch(new RegExp(`^${program} `));
    const { exitCode, output } = await shell(commands[index] ?? '', WEB_PROXY);
    for (const pattern of wanted) expect(output).toMatch(pattern);
    expect(exitCode).toBe(0);
    await endsAndLeavesNothing(demo, directory, 'SIGINT');
  });

  test('the printed command with check passes every step, over the backchannel too', async () => {
    const { demo, directory, commands } = await startDemo();
    const { exitCode, output } = await shell(commands[0] ?? '', WEB_PROXY);
    expect(output).toContain('Checking gRPC health over the backchannel ... Passed');
    expect(output).toContain('Checking Gitaly version and storages ... Passed\n  Gitaly demo');
    expect(output).not.toMatch(/Failed|Skipped/);
    expect(exitCode).toBe(0);
    await endsAndLeavesNothing(demo, directory, 'SIGINT');
  });

  test('serves a unary call and streams through both listeners, with its client certificate too', async () => {
    const { demo, directory, place } = await startDemo();
    const files = join(directory, (await readdir(directory))[0] ?? '');
    const pem = (name: string) => readFile(join(files, name), 'utf8');
    const tls = { ca: await pem('ca.pem') };
    const mutual = { ...tls, certificate: await pem('client.pem'), key: await pem('client-key.pem') };
    const clients = [
      new GrpcClient(place('TLS listener'), tls),
      new GrpcClient(place('TLS listener'), mutual),
      new GrpcClient(place('plaintext listener')),
    ];
    const message = Buffer.from('Gitaly');
    for (const client of clients) {
      expect(await client.health()).toEqual(HEALTH_SERVING);
      expect(await client.echo(message)).toEqual(message);
      expect(await client.repeat(message)).toEqual(Array.from({ length: REPEATS }, () => message));
      expect(await client.count([message, message, message])).toBe(3 * message.length);
      client.close();
    }
    await endsAndLeavesNothing(demo, directory, 'SIGTERM');
  });

  test('its directory and its keys are for its user alone', async () => {
    const { demo, directory } = await startDemo();
    const files = join(directory, (await readdir(directory))[0] ?? '');
    const mode = async (path: string) => (await stat(path)).mode & 0o777;
    expect(await mode(files)).toBe(0o700);
    expect(await mode(join(files, 'key.pem'))).toBe(0o600);
    expect(await mode(join(files, 'client-key.pem'))).toBe(0o600);
    await endsAndLeavesNothing(demo, directory, 'SIGINT');
  });

  test('uses free ports if the usual ones are in use, and prints them', async () => {
    for (const port of Object.values(DEMO_PORTS)) await take(port);
    const { demo, directory, printed, place } = await startDemo();
    for (const port of Object.values(DEMO_PORTS)) expect(printed).toContain(`(port ${port} is in use)`);
    const answer = await fetch(place('metrics'), { headers: { connection: 'close' } });
    expect(answer.status).toBe(200);
    await endsAndLeavesNothing(demo, directory, 'SIGINT');
  });

  test('leaves nothing behind when Ctrl-C comes before it has started', async () => {
    const { demo, directory } = await spawnDemo();
    const watcher = watch(directory);
    onTestFinished(() => watcher.close());
    // The first thing in the directory is the demo's own.
    await once(watcher, 'change');
    await endsAndLeavesNothing(demo, directory, 'SIGINT');
  });

  test('leaves nothing behind when its terminal is closed', async () => {
    const { demo, directory } = await startDemo();
    await endsAndLeavesNothing(demo, directory, 'SIGHUP');
  });
});

/** Listens on a port, unless somebody does already. */
async function take(port: number): Promise<void> {
  const server = createServer();
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
    onTestFinished(() => void server.close());
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error;
  }
}
