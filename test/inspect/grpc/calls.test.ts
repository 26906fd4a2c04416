import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  status,
  type ServerWritableStream,
  type ServiceError,
} from '@grpc/grpc-js';
import { expect, onTestFinished, test } from 'vitest';

import { DemoBackend } from '../../../src/commands/demo/demo-backend.js';
import { demoService, HEALTH_REQUEST, healthService } from '../../../src/commands/demo/demo-service.js';
import type { CallEnd, GrpcCall } from '../../../src/inspect/grpc/call.js';
import { FollowedConnection } from '../../../src/inspect/grpc/followed-connection.js';
import type { Sender } from '../../../src/inspect/sender.js';

/** A server that answers each call of `repeat` with one message and then leaves it open. */
async function holdingBackend(): Promise<{ port: number; stop: () => void }> {
  const server = new Server();
  server.addService(
    { repeat: demoService.repeat },
    { repeat: (call: ServerWritableStream<Buffer, Buffer>) => void call.write(call.request) },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { port, stop: () => server.forceShutdown() };
}

/** A gRPC server behind a tap that inspects what passes, and a client of it. */
async function startTapped(starting: Promise<{ port: number; stop: () => void }> = DemoBackend.start(0)) {
  const backend = await starting;
  const started: GrpcCall[] = [];
  const ended: { call: GrpcCall; end: CallEnd }[] = [];
  const lost: GrpcCall[] = [];
  const connections: FollowedConnection[] = [];
  const failures: unknown[] = [];
  const sockets: Socket[] = [];
  const tap = createServer((client) => {
    const connection = new FollowedConnection(
      { protocol: 'http2', direction: 'to_upstream' },
      {
        started: (call) => {
          started.push(call);
          return {
            moved: () => undefined,
            ended: (end) => ended.push({ call, end }),
            lost: () => lost.push(call),
          };
        },
      },
    );
    connections.push(connection);
    const upstream = connect(backend.port, '127.0.0.1');
    sockets.push(client, upstream);
    const pass = (from: Socket, to: Socket, sender: Sender): void => {
      from.on('data', (chunk: Buffer) => {
        const failure = connection.read(sender, chunk, 0, chunk.length, performance.now());
        if (failure) failures.push(failure);
        to.write(chunk);
      });
      from.on('error', () => undefined);
      from.on('close', () => {
        connection.end('connection', performance.now());
        to.destroy();
      });
    };
    pass(client, upstream, 'client');
    pass(upstream, client, 'server');
  });
  tap.listen(0, '127.0.0.1');
  await once(tap, 'listening');
  const address = tap.address();
  const client = new Client(
    `127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`,
    credentials.createInsecure(),
    { 'grpc.use_local_subchannel_pool': 1, 'grpc.enable_http_proxy': 0, 'grpc.enable_retries': 0 },
  );
  onTestFinished(() => {
    client.close();
    for (const socket of sockets) socket.destroy();
    tap.close();
    backend.stop();
  });
  const unary = (
    path: string,
    message: Buffer,
    metadata = new Metadata(),
    deadline?: Date,
  ): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const { requestSerialize, responseDeserialize } = demoService.echo;
      const options = deadline ? { deadline } : {};
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        message,
        metadata,
        options,
        (error, answer) => {
          if (error) reject(error);
          else resolve(answer ?? Buffer.alloc(0));
        },
      );
    });
  return { client, unary, started, ended, lost, connections, failures, sockets };
}

const ECHO = demoService.echo.path;

test('unary calls: who called what, how many messages and bytes each way, how they ended', async () => {
  const { unary, started, ended } = await startTapped();
  const metadata = new Metadata();
  metadata.set('client_name', 'gitlab-sidekiq');
  metadata.set('x-gitlab-correlation-id', '01ABC');
  metadata.set('authorization', 'Bearer v2.secret.secret');
  await unary(ECHO, Buffer.alloc(100_000, 'x'), metadata);
  await unary(healthService.check.path, HEALTH_REQUEST);
  expect(started.map(({ start }) => start.path)).toEqual([ECHO, healthService.check.path]);
  expect(started[0]?.start).toMatchObject({ clientName: 'gitlab-sidekiq', correlationId: '01ABC' });
  expect(JSON.stringify(started[0]?.start)).not.toContain('secret');
  expect(ended.map(({ end }) => [end.code, end.by])).toEqual([
    ['OK', 'server'],
    ['OK', 'server'],
  ]);
  const { client, server } = started[0]?.messages ?? {};
  expect([client?.messages, client?.payloadBytes]).toEqual([1, 100_000]);
  expect([server?.messages, server?.payloadBytes]).toEqual([1, 100_000]);
});

test('streams: messages of each side are counted', async () => {
  const { client, started, ended } = await startTapped();
  const { path, requestSerialize, responseDeserialize } = demoService.repeat;
  const down = client.makeServerStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    Buffer.alloc(50_000),
  );
  down.resume();
  await once(down, 'end');
  await new Promise<void>((resolve, reject) => {
    const { count } = demoService;
    const up = client.makeClientStreamRequest(
      count.path,
      count.requestSerialize,
      count.responseDeserialize,
      (error) => (error ? reject(error) : resolve()),
    );
    for (let index = 0; index < 7; index++) up.write(Buffer.alloc(30_000));
    up.end();
  });
  expect(started.map(({ messages }) => [messages.client.messages, messages.server.messages])).toEqual([
    [1, 10],
    [7, 1],
  ]);
  expect(started[0]?.messages.server.payloadBytes).toBe(500_000);
  expect(started[1]?.messages.client.payloadBytes).toBe(210_000);
  expect(ended.map(({ end }) => end.code)).toEqual(['OK', 'OK']);
});

test('a method that is not there: Unimplemented, from an answer of trailers alone', async () => {
  const { unary, ended } = await startTapped();
  await expect(unary('/gitaly.Nothing/AtAll', HEALTH_REQUEST)).rejects.toMatchObject({
    code: status.UNIMPLEMENTED,
  });
  expect(ended.map(({ end }) => end.code)).toEqual(['Unimplemented']);
});

test('a call that its client cancels, one whose deadline passes, and one whose connection is cut', async () => {
  const { client, started, ended, lost, connections, failures, sockets } =
    await startTapped(holdingBackend());
  const { path, requestSerialize, responseDeserialize } = demoService.repeat;
  const begin = (options = {}) => {
    const call = client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      Buffer.alloc(100),
      options,
    );
    const failed = once(call, 'error').then(([error]) => (error as ServiceError).code);
    return { call, failed, first: once(call.resume(), 'data') };
  };
  const cancelled = begin();
  await cancelled.first;
  cancelled.call.cancel();
  expect(await cancelled.failed).toBe(status.CANCELLED);
  await expect.poll(() => ended.map(({ end }) => [end.code, end.by])).toEqual([['Canceled', 'client']]);

  const late = begin({ deadline: Date.now() + 300 });
  expect(await late.failed).toBe(status.DEADLINE_EXCEEDED);
  await expect.poll(() => ended.length).toBe(2);
  expect(ended[1]?.end).toMatchObject({ code: 'DeadlineExceeded', by: 'client' });
  expect(started[1]?.start.timeoutMs).toBeGreaterThan(0);

  const cut = begin();
  await cut.first;
  for (const socket of sockets) socket.destroy();
  expect(await cut.failed).toBe(status.UNAVAILABLE);
  await expect.poll(() => ended.length).toBe(3);
  expect(ended[2]?.end).toMatchObject({ code: 'Unavailable', by: 'connection' });
  expect(connections.flatMap((connection) => [...connection.calls()])).toEqual([]);
  expect([...failures, ...lost]).toEqual([]);
});
