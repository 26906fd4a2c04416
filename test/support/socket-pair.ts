import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

import { onTestFinished } from 'vitest';

/** A client's socket and the one that was accepted for it, paused; both end with the test. */
export async function socketPair(): Promise<{ client: Socket; accepted: Socket }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not bound');
  const connection = once(server, 'connection') as Promise<[Socket]>;
  const client = connect({ host: '127.0.0.1', port: address.port });
  const [accepted] = await connection;
  server.close();
  for (const socket of [client, accepted]) {
    socket.on('error', () => undefined);
    onTestFinished(() => void socket.destroy());
  }
  return { client, accepted };
}
