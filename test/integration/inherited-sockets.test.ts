import { existsSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { HEALTH_SERVING, REPEATS } from '../../src/commands/demo/demo-service.js';
import { Authority } from '../support/authority.js';
import { RawBackend, startGrpcBackend } from '../support/backends.js';
import { tcpClient, unixClient } from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import { holdSocket } from '../support/held-socket.js';
import { Load } from '../support/load.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { ServiceManager } from '../support/service-manager.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

const RESTARTS = 4;
const CALLS_BETWEEN = 50;
/** Each restart starts a program, and lets calls of megabytes finish. */
const RESTARTS_MS = 90_000;

describe('inherited sockets', () => {
  test('of every kind are served, the other listeners are bound, and what waited in one is not lost', async () => {
    const backend = await RawBackend.start();
    const path = join(await temporaryDirectory(), 'gitaly.socket');
    const ipv4 = await holdSocket({ host: '127.0.0.1', port: 0 });
    const ipv6 = await holdSocket({ host: '::1', port: 0 });
    const named = await holdSocket({ host: 'localhost', port: 0 });
    const unix = await holdSocket({ path });
    const admin = await holdSocket({ host: '127.0.0.1', port: 0 });
    const listens = [
      `tcp://127.0.0.1:${ipv4.port}`,
      `tcp://[::1]:${ipv6.port}`,
      `tcp://localhost:${named.port}`,
      `unix:${path}`,
    ];
    const free = 'tcp://127.0.0.1:0';
    const early = await tcpClient(ipv4.port);
    const proxy = await ProxyProcess.start({
      configuration: {
        listeners: [free, ...listens].map((listen) => ({ listen, forward: backend.url })),
        prometheus_listen_addr: `127.0.0.1:${admin.port}`,
      },
      inherits: [admin, unix, named, ipv6, ipv4].map(({ fd }) => fd),
    });
    const clients = [
      early,
      await tcpClient(ipv6.port, '::1'),
      await tcpClient(named.port, 'localhost'),
      await unixClient(path),
      await tcpClient(await proxy.port(free)),
    ];
    for (const client of clients) (await connected(client, backend)).socket.destroy();
    for (const client of clients) client.destroy();
    const inherited = proxy.log.lines.filter((line) => line['inherited'] === true);
    expect(inherited.map(({ listener }) => listener)).toEqual([...listens, 'prometheus_listen_addr']);
    await proxy.endsWithNothingLeaked();
    // It is not ours to remove: what connects now waits for the next process.
    expect(existsSync(path)).toBe(true);
    (await unixClient(path)).destroy();
    (await tcpClient(admin.port)).destroy();
  });

  test('on all addresses are those of [::], and of an empty host', async () => {
    const [listener, admin] = [
      await holdSocket({ host: '::', port: 0 }),
      await holdSocket({ host: '::', port: 0 }),
    ];
    const proxy = await ProxyProcess.start({
      configuration: {
        listeners: [{ listen: `tcp://[::]:${listener.port}`, forward: 'tcp://127.0.0.1:1' }],
        prometheus_listen_addr: `:${admin.port}`,
      },
      inherits: [listener.fd, admin.fd],
    });
    expect(proxy.log.lines.filter((line) => line['inherited'] === true)).toHaveLength(2);
    proxy.signal('SIGTERM');
    expect(await proxy.exited).toBe(0);
  });

  test('that no listener wants: a line for each, exit 2', async () => {
    const path = join(await temporaryDirectory(), 'other.socket');
    const wanted = await holdSocket({ host: '127.0.0.1', port: 0 });
    const other = await holdSocket({ host: '127.0.0.1', port: 0 });
    const unix = await holdSocket({ path });
    const file = openSync('/dev/null', 'r');
    const proxy = await ProxyProcess.spawn({
      configuration: {
        listeners: [{ listen: `tcp://127.0.0.1:${wanted.port}`, forward: 'tcp://127.0.0.1:1' }],
      },
      inherits: [other.fd, wanted.fd, unix.fd, file],
      env: { LISTEN_FDNAMES: 'one.socket:two.socket:three:four' },
    });
    expect(await proxy.exited).toBe(2);
    const advice = 'remove it from the socket unit, or add a listener with it';
    const unclaimed = (fd: number, name: string, address: string): string =>
      `gitaly-tls-proxy: descriptor ${fd} from systemd (${name}) listens on ${address}, but no listener has this address: ${advice}\n`;
    expect(proxy.stderr.text).toBe(
      unclaimed(3, 'one.socket', `127.0.0.1:${other.port}`) +
        unclaimed(5, 'three', `unix:${path}`) +
        'gitaly-tls-proxy: descriptor 6 from systemd (four) is not a listening stream socket: the socket unit must have ListenStream= and must not have Accept=yes\n',
    );
  });

  test('keep their listener: a reload that removes it is refused and changes nothing', async () => {
    const backend = await RawBackend.start();
    const held = await holdSocket({ host: '127.0.0.1', port: 0 });
    const proxy = await ProxyProcess.start({
      configuration: { listeners: [{ listen: `tcp://127.0.0.1:${held.port}`, forward: backend.url }] },
      inherits: [held.fd],
    });
    await proxy.configure({ listeners: [{ listen: 'tcp://127.0.0.1:0', forward: backend.url }] });
    proxy.signal('SIGHUP');
    const line = await proxy.log.waitForEvent('reload_failed');
    expect(line['error']).toContain(`listens on 127.0.0.1:${held.port}, but no listener has this address`);
    const client = await tcpClient(held.port);
    (await connected(client, backend)).socket.destroy();
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('of another process are left alone', async () => {
    const held = await holdSocket({ host: '127.0.0.1', port: 0 });
    const proxy = await ProxyProcess.start({
      configuration: { listeners: [{ listen: 'tcp://127.0.0.1:0', forward: 'tcp://127.0.0.1:1' }] },
      env: { LISTEN_PID: '1', LISTEN_FDS: '1' },
    });
    expect(held.port).not.toBe(await proxy.port('tcp://127.0.0.1:0'));
    await proxy.endsWithNothingLeaked();
  });

  test('and the environment variables of systemd are not passed to workers', async () => {
    const manager = await ServiceManager.start();
    const held = await holdSocket({ host: '127.0.0.1', port: 0 });
    const listen = `tcp://127.0.0.1:${held.port}`;
    const proxy = await ProxyProcess.start({
      configuration: { workers: 2, listeners: [{ listen, forward: 'tcp://127.0.0.1:1' }] },
      inherits: [held.fd],
      env: { ...manager.env, WATCHDOG_USEC: '60000000', LISTEN_FDNAMES: 'one' },
    });
    // systemd-notify is a child too, and may end while it is looked at.
    const environment = (pid: number): string => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'utf8');
      } catch {
        return '';
      }
    };
    await manager.waitFor('READY=1');
    const sockets = (pid: number): string[] =>
      readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    const inode = readlinkSync(`/proc/self/fd/${held.fd}`);
    expect(sockets(proxy.pid)).toContain(inode);
    const children = readFileSync(`/proc/${proxy.pid}/task/${proxy.pid}/children`, 'utf8').trim().split(' ');
    const workers = children.map(Number).filter((pid) => environment(pid).includes('NODE_UNIQUE_ID='));
    expect(workers).toHaveLength(2);
    for (const worker of workers) {
      expect(environment(worker)).not.toMatch(/LISTEN_|NOTIFY_|WATCHDOG_/);
      expect(sockets(worker)).not.toContain(inode);
    }
    proxy.signal('SIGTERM');
    expect(await proxy.exited).toBe(0);
  });
});

describe.each([{ workers: 1 }, { workers: 2 }])(
  'with workers: $workers, while clients call all the time,',
  (more) => {
    interface Service {
      readonly start: () => Promise<ProxyProcess>;
      readonly load: Load;
    }

    async function startService(): Promise<Service> {
      const forward = await startGrpcBackend();
      const ca = await Authority.create(await temporaryDirectory());
      const server = await ca.server();
      const held = await holdSocket({ host: '127.0.0.1', port: 0 });
      const admin = await holdSocket({ host: '127.0.0.1', port: 0 });
      const address = new URL(`tls://127.0.0.1:${held.port}`);
      const configuration = {
        ...more,
        tls: { certificate_path: server.certificatePath, key_path: server.keyPath },
        listeners: [{ listen: `tls://127.0.0.1:${held.port}`, forward }],
        prometheus_listen_addr: `127.0.0.1:${admin.port}`,
      };
      const start = (): Promise<ProxyProcess> =>
        ProxyProcess.start({ configuration, inherits: [held.fd, admin.fd] });
      // None of them waits for somebody to listen: a single refused connection fails a call.
      const clients = Array.from({ length: 3 }, () => new GrpcClient(address, { ca: ca.caPem }));
      const [short, long] = [Buffer.alloc(100, 'x'), Buffer.alloc(1_000_000, 'y')];
      const newcomer = async (): Promise<void> => {
        const client = new GrpcClient(address, { ca: ca.caPem });
        expect(await client.health()).toEqual(HEALTH_SERVING);
        client.close();
      };
      const scraper = async (): Promise<void> => void (await tcpClient(admin.port)).destroy();
      const load = new Load([
        newcomer,
        scraper,
        ...clients.flatMap((client) => [
          () => client.echo(short),
          () => client.echo(short),
          async () => expect(await client.repeat(long)).toHaveLength(REPEATS),
        ]),
      ]);
      return { start, load };
    }

    test(
      'upgrades fail no call and refuse no connection: the old process drains, the new one accepts',
      { timeout: RESTARTS_MS },
      async () => {
        const { start, load } = await startService();
        let running = await start();
        for (let upgrade = 0; upgrade < RESTARTS; upgrade++) {
          await load.more(CALLS_BETWEEN);
          const old = running;
          running = await start();
          await load.more(CALLS_BETWEEN);
          old.signal('SIGTERM');
          expect(await old.exited).toBe(0);
        }
        await load.more(CALLS_BETWEEN);
        await load.stop();
        running.signal('SIGTERM');
        expect(await running.exited).toBe(0);
      },
    );

    test(
      'restarts fail no call and refuse no connection: what connects in between waits',
      { timeout: RESTARTS_MS },
      async () => {
        const { start, load } = await startService();
        let running = await start();
        for (let restart = 0; restart < RESTARTS; restart++) {
          await load.more(CALLS_BETWEEN);
          running.signal('SIGTERM');
          expect(await running.exited).toBe(0);
          running = await start();
        }
        await load.more(CALLS_BETWEEN);
        await load.stop();
        running.signal('SIGTERM');
        expect(await running.exited).toBe(0);
      },
    );
  },
);
