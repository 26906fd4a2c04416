import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { type Duplex, pipeline } from 'node:stream';

import type { ConnectionInjector } from '@grpc/grpc-js';
import { onTestFinished } from 'vitest';

import { YamuxSession } from '../../src/commands/demo/yamux-session.js';
import { BACKCHANNEL_MAGIC } from '../../src/inspect/backchannel/magic.js';

/**
 * Lets a plain gRPC client use the backchannel: each connection that it makes to the port returned, on
 * 127.0.0.1, is carried on the first yamux stream of a connection that `connect` makes. Streams that the server
 * opens towards the client, for calls in the other direction, are given to `reverse`. It ends with the test.
 */
export async function startBackchannelBridge(
  connect: () => Promise<Socket>,
  reverse: ConnectionInjector,
): Promise<number> {
  const bridge = createServer({ pauseOnConnect: true, noDelay: true }, (plain) => {
    onTestFinished(() => void plain.destroy());
    connect().then(
      (connection) => {
        connection.setNoDelay(true).write(BACKCHANNEL_MAGIC);
        const session = new YamuxSession(connection, 'client', (stream) => reverse.injectConnection(stream));
        const stream = session.open();
        carry(plain, stream);
        stream.once('close', () => session.end());
        plain.resume();
      },
      () => plain.destroy(),
    );
  });
  bridge.listen(0, '127.0.0.1');
  await once(bridge, 'listening');
  onTestFinished(() => void bridge.close());
  const address = bridge.address();
  if (address === null || typeof address === 'string') throw new Error('the bridge has no port');
  return address.port;
}

/** Moves the bytes of both; however one of them ends, so does the other. */
function carry(plain: Duplex, stream: Duplex): void {
  // Each side learns of the other's end by its own stream, so errors need no handling here.
  pipeline(plain, stream, () => undefined);
  pipeline(stream, plain, () => undefined);
}
