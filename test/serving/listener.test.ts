import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { expect, test } from 'vitest';

import type { Address } from '../../src/config/model.js';
import { Listener } from '../../src/serving/listener.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

/** Connects as soon as the path exists: tries in each turn of the event loop. */
async function connectAtOnce(path: string): Promise<Socket> {
  for (;;) {
    const client = connect(path);
    const isConnected = await Promise.race([
      once(client, 'connect').then(() => true),
      once(client, 'close').then(() => false),
    ]).catch(() => false);
    if (isConnected) return client;
  }
}

test('a client that connects the moment a unix socket gets its name is passed on when the listener is opened', async () => {
  const directory = await temporaryDirectory();
  for (let round = 0; round < 30; round++) {
    const path = `${directory}/${round}.socket`;
    const address: Address = { scheme: 'unix', path, url: `unix:${path}` };
    const [client, listener] = await Promise.all([connectAtOnce(path), Listener.bind(address)]);
    const passed = await new Promise<Socket>((resolve) => listener.open(({ raw }) => resolve(raw)));
    expect(passed.destroyed).toBe(false);
    passed.destroy();
    client.destroy();
    listener.close();
  }
});
