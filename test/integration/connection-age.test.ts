import { once } from 'node:events';

import { expect, test } from 'vitest';

import { REPEATS } from '../../src/demo/demo-service.js';
import { startGrpcBackend } from '../support/backends.js';
import { readToEnd, tlsClient } from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { connected } from '../support/transfer.js';

const AGE = { max_connection_age: '300ms' };

test('max_connection_age: a gRPC client is moved to a new connection again and again, and no call fails', async () => {
  const { ca, proxy } = await startSetup({ listener: { forward: await startGrpcBackend() }, more: AGE });
  const client = new GrpcClient(await proxy.address(TLS_LISTENER), { ca: ca.caPem });
  const message = Buffer.from('x');
  const moved = (): number =>
    proxy.log.lines.filter(({ 'close.reason': reason }) => reason === 'finished').length;
  while (moved() < 5) expect(await client.echo(message)).toEqual(message);
  client.close();
  await proxy.endsWithNothingLeaked();
});

test('a call that runs longer than max_connection_age finishes', async () => {
  const { ca, proxy } = await startSetup({ listener: { forward: await startGrpcBackend() }, more: AGE });
  const client = new GrpcClient(await proxy.address(TLS_LISTENER), { ca: ca.caPem });
  const { rest } = await client.repeatUnread(Buffer.alloc(100_000, 'x'));
  // Another connection that is as young and idle goes first: by then the age has passed for both.
  const other = new GrpcClient(await proxy.address(TLS_LISTENER), { ca: ca.caPem });
  await other.health();
  await proxy.log.waitFor(({ 'close.reason': reason }) => reason === 'finished' || reason === 'drained');
  expect(await rest()).toBe(REPEATS);
  client.close();
  other.close();
  await proxy.endsWithNothingLeaked();
});

test('max_connection_age_grace: what has not ended by then is cut', async () => {
  const { ca, proxy } = await startSetup({
    listener: { forward: await startGrpcBackend() },
    more: { ...AGE, max_connection_age_grace: '200ms' },
  });
  const client = new GrpcClient(await proxy.address(TLS_LISTENER), { ca: ca.caPem });
  const { rest } = await client.repeatUnread(Buffer.alloc(1_000_000, 'x'));
  const line = await proxy.log.waitForClose('max_connection_age');
  expect(line).toMatchObject({ 'close.initiator': 'proxy', protocol: 'http2' });
  await expect(rest()).rejects.toThrow();
  client.close();
  await proxy.endsWithNothingLeaked();
});

test('an idle backchannel is ended at its age, cleanly on both sides', async () => {
  const { ca, backend, proxy, port } = await startSetup({ more: AGE });
  const client = await tlsClient(port, { ca: ca.caPem });
  const upstream = await connected(client, backend);
  const ended = upstream.ended;
  client.once('end', () => client.end());
  void once(upstream.socket, 'end').then(() => upstream.socket.end());
  expect((await readToEnd(client)).kind).toBe('end');
  expect(await ended).toBe('end');
  expect(await proxy.log.waitForClose('drained')).toMatchObject({ 'close.detail': 'max_connection_age' });
  await proxy.endsWithNothingLeaked();
});
