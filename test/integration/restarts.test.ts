import { expect, test } from 'vitest';

import { REPEATS } from '../../src/commands/demo/demo-service.js';
import { startGrpcBackend } from '../support/backends.js';
import { GrpcClient } from '../support/grpc-client.js';
import { Load } from '../support/load.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';

const RESTARTS = 10;
const CALLS_BETWEEN = 50;

test('ten restarts behind a port held by old and new in turn fail no call of grpc-js clients', async () => {
  const forward = await startGrpcBackend();
  const setup = await startSetup({ listener: { forward } });
  const { ca, configuration } = setup;
  const address = await setup.proxy.address(TLS_LISTENER);
  const clients = Array.from(
    { length: 3 },
    () => new GrpcClient(address, { ca: ca.caPem }, { waitForReady: true }),
  );
  const [short, long] = [Buffer.alloc(100, 'x'), Buffer.alloc(1_000_000, 'y')];
  const load = new Load(
    clients.flatMap((client) => [
      ...Array.from({ length: 4 }, () => () => client.echo(short)),
      async () => expect(await client.repeat(long)).toHaveLength(REPEATS),
    ]),
  );
  let running = setup.proxy;
  for (let restart = 0; restart < RESTARTS; restart++) {
    await load.more(CALLS_BETWEEN);
    const old = running;
    old.signal('SIGTERM');
    await old.log.waitForEvent('draining');
    running = await ProxyProcess.start({
      configuration: { ...configuration, listeners: [{ listen: `tls://${address.host}`, forward }] },
    });
    // Nothing had to be cut, though the clients never ceased to call.
    expect(await old.exited).toBe(0);
  }
  await load.more(CALLS_BETWEEN);
  await load.stop();
  for (const client of clients) client.close();
  running.signal('SIGTERM');
  expect(await running.exited).toBe(0);
});
