import { once } from 'node:events';
import { createServer, connect } from 'node:net';

import { expect, onTestFinished, test } from 'vitest';

import { BackchannelStream } from '../../src/gitaly-client/backchannel-stream.js';

test('a server that closes is reported the same, whether its end or a failed write is seen first', async () => {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  onTestFinished(() => void server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not bound');
  const brokenPipe = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
  for (const end of ['error', 'end'] as const) {
    const socket = connect(address.port, '127.0.0.1');
    const stream = new BackchannelStream(socket);
    const failure = new Promise((resolve) => stream.once('error', resolve));
    if (end === 'error') socket.destroy(brokenPipe);
    else socket.emit('end');
    expect(await failure).toMatchObject({
      message: 'the connection was closed during the backchannel session',
    });
  }
});
