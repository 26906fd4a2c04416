import { status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';

import { refusingBackend, startGrpcBackend } from '../support/backends.js';
import { GrpcClient } from '../support/grpc-client.js';
import { ProxyProcess } from '../support/proxy-process.js';

const LISTEN = 'tcp://127.0.0.1:0';

test('Gitaly cannot be reached: calls end with UNAVAILABLE and a message that names address and reason', async () => {
  const forward = await refusingBackend();
  const proxy = await ProxyProcess.start({ configuration: { listeners: [{ listen: LISTEN, forward }] } });
  const client = new GrpcClient(await proxy.address(LISTEN));
  const failure = client.health();
  await expect(failure).rejects.toMatchObject({ code: status.UNAVAILABLE });
  await expect(failure).rejects.toThrow(forward);
  await expect(failure).rejects.toThrow('ECONNREFUSED');
  client.close();
  await proxy.endsWithNothingLeaked();
});

test('a Gitaly that can be reached answers', async () => {
  const forward = await startGrpcBackend();
  const proxy = await ProxyProcess.start({ configuration: { listeners: [{ listen: LISTEN, forward }] } });
  const client = new GrpcClient(await proxy.address(LISTEN));
  expect(await client.echo(Buffer.from('hello'))).toEqual(Buffer.from('hello'));
  client.close();
  await proxy.endsWithNothingLeaked();
});
