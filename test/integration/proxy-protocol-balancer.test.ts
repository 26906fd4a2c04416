import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { describe, expect, onTestFinished, test } from 'vitest';

import { RawBackend } from '../support/backends.js';
import { BACKCHANNEL_PREFACE, tcpClient } from '../support/clients.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { isInstalled } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const HAPROXY = 'haproxy';
const LISTEN = 'tcp://127.0.0.1:0';
const POLL_MS = 20;

/**
 * Starts HAProxy, whose authors wrote the PROXY protocol: it reads a header on a unix socket, whose path is returned,
 * and writes one of its own to a port of 127.0.0.1. It is killed with the test.
 */
async function startHaproxy(port: number, send: string): Promise<string> {
  const directory = await temporaryDirectory();
  const path = join(directory, 'balancer.socket');
  const configurationPath = join(directory, 'haproxy.cfg');
  await writeFile(
    configurationPath,
    `defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen balancer
  bind unix@${path} accept-proxy
  server next 127.0.0.1:${port} ${send}
`,
  );
  const child = spawn(HAPROXY, ['-db', '-f', configurationPath], { stdio: 'inherit' });
  const exited = once(child, 'exit');
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  // It does not say when it is ready.
  while (!(await isListening(path))) {
    if (child.exitCode !== null) throw new Error('haproxy did not start');
    await delay(POLL_MS);
  }
  return path;
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}

describe.runIf(isInstalled(HAPROXY))('the PROXY protocol with HAProxy between two of these proxies', () => {
  test.each([
    ['v1', 'v1', 'send-proxy'],
    ['v1', 'v2', 'send-proxy-v2'],
    ['v2', 'v1', 'send-proxy'],
    ['v2', 'v2 with a checksum', 'send-proxy-v2 proxy-v2-options crc32c'],
  ])(
    'HAProxy reads the %s header that is sent, its own %s header is read, and every log has the client',
    async (send, _version, option) => {
      const backend = await RawBackend.start();
      const startProxy = (forward: string, proxyProtocol: object): Promise<ProxyProcess> =>
        ProxyProcess.start({
          configuration: { listeners: [{ listen: LISTEN, forward, proxy_protocol: proxyProtocol }] },
        });
      const second = await startProxy(backend.url, { accept_from: ['127.0.0.0/8'] });
      const balancer = await startHaproxy(await second.port(LISTEN), option);
      const first = await startProxy(`unix:${balancer}`, { send });
      const client = await tcpClient(await first.port(LISTEN));
      client.write(BACKCHANNEL_PREFACE);
      const upstream = await backend.accept();
      expect(await upstream.receive(BACKCHANNEL_PREFACE.length)).toEqual(BACKCHANNEL_PREFACE);
      const address = `127.0.0.1:${client.localPort ?? 0}`;
      client.end();
      await upstream.ended;
      upstream.socket.end();
      await once(client.resume(), 'close');
      for (const proxy of [first, second]) {
        expect(await proxy.log.waitForClose('finished')).toMatchObject({ 'peer.address': address });
        await proxy.endsWithNothingLeaked();
      }
    },
  );
});
