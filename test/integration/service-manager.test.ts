import { describe, expect, test } from 'vitest';

import { startGrpcBackend } from '../support/backends.js';
import { tlsClient } from '../support/clients.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { ServiceManager } from '../support/service-manager.js';
import { startSetup, startWithCalls } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

/** A program that stops to work when it is told to, and never ends by itself. */
const HANG = `import { writeSync } from 'node:fs';
process.on('SIGUSR2', () => {
  writeSync(2, 'hangs\\n');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
});`;

/** The clock of MONOTONIC_USEC. */
const monotonicUsec = (): bigint => process.hrtime.bigint() / 1000n;

describe('systemd is notified', () => {
  test('that the proxy is ready once it serves, and that it stops', async () => {
    const manager = await ServiceManager.start();
    const setup = await startSetup({ env: manager.env, more: { graceful_restart_timeout: '90s' } });
    const ready = await manager.waitFor('READY=1');
    expect(ready).toEqual({
      assignments: { READY: '1', STATUS: 'serving: 1 listeners, 0 connections' },
      sender: setup.proxy.pid,
    });
    const client = await tlsClient(setup.port, { ca: setup.ca.caPem });
    const upstream = await connected(client, setup.backend);
    setup.proxy.signal('SIGTERM');
    // A unit whose TimeoutStopSec is shorter than the drain must not cut it.
    expect((await manager.waitFor('STOPPING=1')).assignments).toEqual({
      STOPPING: '1',
      EXTEND_TIMEOUT_USEC: String(100_000_000),
      STATUS: 'draining: 1 listeners, 1 connections',
    });
    client.end();
    upstream.socket.end();
    expect(await setup.proxy.exited).toBe(0);
    expect(manager.told.map(({ assignments }) => Object.keys(assignments)[0])).toEqual(['READY', 'STOPPING']);
  });

  test('of a reload from its beginning, with the time, to its end, well or not', async () => {
    const manager = await ServiceManager.start();
    const { proxy, configuration } = await startSetup({ env: manager.env });
    await manager.waitFor('READY=1');

    const before = monotonicUsec();
    proxy.signal('SIGHUP');
    const reloading = await manager.waitFor('RELOADING=1', 1);
    const at = BigInt(reloading.assignments['MONOTONIC_USEC'] ?? '');
    expect(at).toBeGreaterThanOrEqual(before);
    expect(at).toBeLessThanOrEqual(monotonicUsec());
    const done = await manager.waitFor('READY=1', 2);
    expect(done.assignments['STATUS']).toBe('serving: 1 listeners, 0 connections');

    await proxy.configure({ ...configuration, listeners: [] });
    proxy.signal('SIGHUP');
    await manager.waitFor('RELOADING=1', 3);
    const failed = await manager.waitFor('READY=1', 4);
    expect(failed.assignments['STATUS']).toBe(
      'serving: 1 listeners, 0 connections; the last reload failed, see the log',
    );
    await proxy.endsWithNothingLeaked();
  });

  test('again and again that its event loop turns, if it is this process that is watched', async () => {
    const manager = await ServiceManager.start();
    const { proxy } = await startSetup({ env: { ...manager.env, WATCHDOG_USEC: '200000' } });
    for (let times = 0; times < 3; times++) await manager.waitFor('WATCHDOG=1', manager.told.length);
    await proxy.endsWithNothingLeaked();
  });

  test('nothing once its event loop hangs', async () => {
    const manager = await ServiceManager.start();
    const { proxy } = await startSetup({
      env: { ...manager.env, WATCHDOG_USEC: '200000' },
      nodeArgs: ['--import', `data:text/javascript,${encodeURIComponent(HANG)}`],
    });
    await manager.waitFor('WATCHDOG=1');
    proxy.signal('SIGUSR2');
    await proxy.stderr.waitForText('hangs');
    const told = manager.told.length;
    // While another process' watchdog is told ten times, this one's is told what was under way, and no more.
    const other = await ServiceManager.start();
    const beside = await startSetup({ env: { ...other.env, WATCHDOG_USEC: '200000' } });
    for (let times = 0; times < 10; times++) await other.waitFor('WATCHDOG=1', other.told.length);
    expect(manager.told.length - told).toBeLessThanOrEqual(1);
    await beside.proxy.endsWithNothingLeaked();
    proxy.signal('SIGKILL');
    await proxy.exited;
  });

  test('nothing for a watchdog that watches another process', async () => {
    const manager = await ServiceManager.start();
    const { proxy } = await startSetup({
      env: { ...manager.env, WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' },
    });
    await manager.waitFor('READY=1');
    proxy.signal('SIGHUP');
    await manager.waitFor('READY=1', 2);
    expect(manager.told.some(({ assignments }) => 'WATCHDOG' in assignments)).toBe(false);
    await proxy.endsWithNothingLeaked();
  });

  test('by the primary process alone, where there are workers', async () => {
    const manager = await ServiceManager.start();
    const { proxy } = await startSetup({
      env: { ...manager.env, WATCHDOG_USEC: '200000' },
      more: { workers: 2 },
    });
    await manager.waitFor('WATCHDOG=1');
    proxy.signal('SIGTERM');
    expect(await proxy.exited).toBe(0);
    expect(new Set(manager.told.map(({ sender }) => sender))).toEqual(new Set([proxy.pid]));
  });
});

test('where systemd-notify is missing, the proxy serves, and warns once', async () => {
  const path = await temporaryDirectory();
  const forward = await startGrpcBackend();
  const proxy = await ProxyProcess.start({
    configuration: { listeners: [{ listen: 'tcp://127.0.0.1:0', forward }] },
    env: { NOTIFY_SOCKET: '/nowhere', PATH: path, WATCHDOG_USEC: '100000' },
  });
  const line = await proxy.log.waitForEvent('sd_notify_failed');
  expect(line).toMatchObject({ level: 'warning', error: expect.stringContaining('ENOENT') as unknown });
  proxy.signal('SIGHUP');
  await proxy.log.waitForEvent('reloaded');
  await proxy.endsWithNothingLeaked();
  expect(proxy.log.lines.filter(({ level }) => level === 'warning')).toHaveLength(1);
});

test('without a service manager no notification is sent', async () => {
  const manager = await ServiceManager.start();
  const { proxy, call } = await startWithCalls();
  await call();
  await proxy.endsWithNothingLeaked();
  expect(manager.told).toEqual([]);
});
