import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';

import { WORKER_ARGUMENT } from '../../src/serving/workers/worker-messages.js';
import { argumentsOf, handles, listeningPorts } from '../support/process-facts.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';

/** Whichever port the debugger would take: another program may have the usual one. */
const ANY_DEBUGGER_PORT = ['--inspect-port=0'];

/**
 * Sends SIGUSR1 repeatedly, from the first moment at which Node handles it. `argument` is one of the process: between fork and
 * exec it still has the arguments and the handlers of its parent, and the signal would end it.
 */
async function signalWhile(pid: number, argument: string, isWanted: () => boolean): Promise<void> {
  while (isWanted()) {
    if (argumentsOf(pid).includes(argument) && handles(pid, 'SIGUSR1')) process.kill(pid, 'SIGUSR1');
    await delay(2);
  }
}

describe('SIGUSR1 opens no debugger', () => {
  test.each([
    ['serve', undefined],
    ['demo', ['demo']],
  ] as const)('of %s, however early it comes', async (_name, args) => {
    const proxy = await ProxyProcess.spawn({
      configuration: { listeners: [{ listen: 'tcp://127.0.0.1:0', forward: 'tcp://127.0.0.1:9' }] },
      nodeArgs: ANY_DEBUGGER_PORT,
      ...(args && { args }),
    });
    const isReady = (): boolean =>
      args ? proxy.log.text.includes('Ctrl-C ends') : proxy.log.text.includes('"event":"ready"');
    await signalWhile(proxy.pid, args ? 'demo' : 'serve', () => !isReady());
    const configured = new Set(
      [...proxy.log.text.matchAll(/listen"?: ?"[a-z]+:\/\/127\.0\.0\.1:(\d+)/gu)].map(([, port]) =>
        Number(port),
      ),
    );
    const backend = /tcp:\/\/127\.0\.0\.1:(\d+)/gu;
    for (const [, port] of proxy.log.text.matchAll(backend)) configured.add(Number(port));
    expect(configured.size).toBeGreaterThan(1);
    expect(listeningPorts(proxy.pid).filter((port) => !configured.has(port))).toEqual([]);
    proxy.signal('SIGTERM');
    expect(await proxy.exited).toBe(0);
  });

  test('of a worker, however early it comes', async () => {
    const { proxy } = await startSetup({ more: { workers: 2 } });
    const [first = 0, second = 0] = proxy.children();
    process.kill(second, 'SIGUSR1');
    process.kill(first, 'SIGKILL');
    const started = (): number | undefined => proxy.children().find((pid) => pid !== first && pid !== second);
    while (started() === undefined) await delay(2);
    const third = started() ?? 0;
    let isServing = false;
    const serving = proxy
      .scrapeUntil((scrape) => scrape.value('gitaly_tls_proxy_workers') === 2)
      .then(() => (isServing = true));
    await signalWhile(third, WORKER_ARGUMENT, () => !isServing);
    await serving;
    expect([second, third].map(listeningPorts)).toEqual([[], []]);
    await proxy.endsWithNothingLeaked();
  });
});

test('SIGUSR1 reloads as SIGHUP does, SIGUSR2 is ignored and logged, SIGQUIT drains', async () => {
  const { proxy } = await startSetup({ more: { workers: 2 } });
  proxy.signal('SIGUSR1');
  await proxy.log.waitForEvent('reloaded');
  proxy.signal('SIGUSR2');
  for (const pid of proxy.children())
    for (const signal of ['SIGUSR2', 'SIGQUIT'] as const) process.kill(pid, signal);
  const line = await proxy.log.waitForEvent('signal_ignored');
  expect(line).toMatchObject({ level: 'warning', signal: 'SIGUSR2', error: expect.any(String) as unknown });
  expect((await proxy.scrape()).value('gitaly_tls_proxy_worker_exits_total')).toBe(0);
  proxy.signal('SIGQUIT');
  expect(await proxy.exited).toBe(0);
});

describe('the environment changes nothing silently', () => {
  const configuration = { listeners: [{ listen: 'tcp://127.0.0.1:0', forward: 'tcp://127.0.0.1:9' }] };

  test.each([
    ['NODE_OPTIONS', '--tls-min-v1.0 --max-old-space-size=512', 2, 'NODE_OPTIONS contains --tls-min-v1.0,'],
    ['NODE_OPTIONS', '--inspect=127.0.0.1:0', 2, 'NODE_OPTIONS contains --inspect=127.0.0.1:0,'],
    ['NODE_UNIQUE_ID', '1', 2, 'NODE_UNIQUE_ID is set in the environment'],
  ])('%s=%s: it does not start', async (name, value, code, message) => {
    const proxy = await ProxyProcess.spawn({ configuration, env: { [name]: value } });
    expect(await proxy.exited).toBe(code);
    expect(proxy.stderr.text).toContain(message);
    expect(proxy.log.text).toBe('');
  });

  test('NODE_TLS_REJECT_UNAUTHORIZED and SSLKEYLOGFILE are ignored, which is logged, and no worker has them', async () => {
    const env = {
      NODE_TLS_REJECT_UNAUTHORIZED: '0',
      SSLKEYLOGFILE: '/dev/null',
      NODE_OPTIONS: '--no-warnings',
    };
    const { proxy } = await startSetup({ env, more: { workers: 2 } });
    for (const variable of ['NODE_TLS_REJECT_UNAUTHORIZED', 'SSLKEYLOGFILE']) {
      const line = await proxy.log.waitForEvent('environment_warning', { variable });
      expect(line).toMatchObject({ level: 'warning', error: expect.stringContaining('ignored') as unknown });
    }
    const names = readFileSync(`/proc/${proxy.children()[0] ?? 0}/environ`, 'utf8')
      .split('\0')
      .map((entry) => entry.split('=')[0]);
    expect(names.filter((name) => name !== undefined && name in env)).toEqual(['NODE_OPTIONS']);
    await proxy.endsWithNothingLeaked();
  });
});
