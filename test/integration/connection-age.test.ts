import { once } from 'node:events';
import type { Socket } from 'node:net';

import { expect, test } from 'vitest';

import { REPEATS } from '../../src/commands/demo/demo-service.js';
import {
  frame,
  goAwayFrame,
  MAX_STREAM_ID,
  pingFrame,
  settingsFrame,
} from '../../src/inspect/http2/encode.js';
import { ErrorCode, Flag, FrameType } from '../../src/inspect/http2/http2-frame.js';
import { startGrpcBackend, type BackendConnection } from '../support/backends.js';
import { HTTP2_PREFACE, readToEnd, tlsClient } from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import { startSetup, TLS_LISTENER, type Setup } from '../support/setup.js';
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

/** `:method: GET`. */
const request = (streamId: number): Buffer =>
  frame(FrameType.headers, Flag.endHeaders, streamId, Buffer.of(0x82));

/** A client that answers no PING, and has sent `first` behind its preface. */
async function ignorant(
  { port, ca, backend }: Setup,
  first: Buffer,
): Promise<{ client: Socket; upstream: BackendConnection; receive: (bytes: Buffer) => Promise<void> }> {
  const client = await tlsClient(port, { ca: ca.caPem });
  const arrived = backend.accept();
  let received = Buffer.alloc(0);
  client.on('data', (bytes: Buffer) => (received = Buffer.concat([received, bytes])));
  client.write(Buffer.concat([HTTP2_PREFACE, first]));
  const upstream = await arrived;
  upstream.socket.write(settingsFrame('settings'));
  const receive = async (bytes: Buffer): Promise<void> => {
    while (!received.includes(bytes)) await once(client, 'data');
  };
  return { client, upstream, receive };
}

const ANNOUNCED = goAwayFrame(MAX_STREAM_ID, ErrorCode.none);

test('a client that ignores the PING after GOAWAY begins no calls in the second half of max_connection_age_grace', async () => {
  const setup = await startSetup({ more: { ...AGE, max_connection_age_grace: '3s' } });
  const { client, upstream, receive } = await ignorant(setup, request(1));
  await receive(ANNOUNCED);
  const early = request(3);
  client.write(early);
  let sent = HTTP2_PREFACE.length + request(1).length + early.length;
  await upstream.receive(sent);
  // At the deadline a second GOAWAY names the last stream that has reached upstream.
  await receive(goAwayFrame(3, ErrorCode.none));
  const ping = pingFrame(Buffer.from('whatever'), 'ping');
  client.write(Buffer.concat([request(5), ping]));
  sent += ping.length;
  const reached = await upstream.receive(sent);
  expect(reached.subarray(sent - ping.length).equals(ping)).toBe(true);
  expect(await setup.proxy.log.waitForClose('max_connection_age')).toMatchObject({
    'close.initiator': 'proxy',
  });
  await upstream.ended;
  expect(upstream.received.length).toBe(sent);
  client.destroy();
  await setup.proxy.endsWithNothingLeaked();
});

test('a connection whose calls cannot be followed gets GOAWAY at its age, and ends when its client leaves', async () => {
  const setup = await startSetup({ more: AGE });
  // Of a stream that has not begun.
  const { client, upstream, receive } = await ignorant(setup, frame(FrameType.data, 0, 0, Buffer.of(1)));
  await setup.proxy.log.waitForEvent('inspection_lost');
  client.write(request(1));
  await receive(ANNOUNCED);
  const answer = frame(FrameType.headers, Flag.endHeaders | Flag.endStream, 1, Buffer.of(0x88));
  upstream.socket.write(answer);
  await receive(answer);
  client.end();
  await once(upstream.socket, 'end');
  upstream.socket.end();
  expect(await setup.proxy.log.waitForClose('finished')).toMatchObject({ 'close.initiator': 'client' });
  client.destroy();
  await setup.proxy.endsWithNothingLeaked();
});
