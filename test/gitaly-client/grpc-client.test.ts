import { createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import { Duplex } from 'node:stream';

import { describe, expect, onTestFinished, test } from 'vitest';

import { CallFailure, GrpcClient } from '../../src/gitaly-client/grpc-client.js';

/** Two ends of a connection that exists in memory alone. */
function pair(): [Duplex, Duplex] {
  const make = (other: () => Duplex): Duplex =>
    new Duplex({
      read: () => undefined,
      write: (bytes: Buffer, _encoding, done) => {
        other().push(bytes);
        done();
      },
      final: (done) => {
        other().push(null);
        done();
      },
    });
  const one: Duplex = make(() => two);
  const two: Duplex = make(() => one);
  return [one, two];
}

/** A client whose server answers each call so. */
function connected(answer: (stream: ServerHttp2Stream, path: string) => void): {
  readonly connection: GrpcClient;
  readonly server: Duplex;
} {
  const http2: Http2Server = createServer();
  const [client, server] = pair();
  http2.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    answer(stream, String(headers[':path']));
  });
  http2.on('sessionError', () => undefined);
  http2.emit('connection', server);
  const connection = new GrpcClient(client, 'localhost', 'http');
  onTestFinished(() => connection.close());
  return { connection, server };
}

const PATH = '/a.Service/Method';
const GRPC = { 'content-type': 'application/grpc' };

async function answered(answer: (stream: ServerHttp2Stream) => void): Promise<unknown> {
  const { connection } = connected(answer);
  return connection.call(PATH, Buffer.from('question'), 5000).catch((error: unknown) => {
    if (!(error instanceof CallFailure)) throw error;
    return error.message;
  });
}

test('a message and its trailers are an answer, and the request arrives as gRPC frames it', async () => {
  const request: Buffer[] = [];
  const { connection } = connected((stream) => {
    stream.on('data', (bytes: Buffer) => request.push(bytes));
    stream.on('end', () => {
      stream.respond(GRPC, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(Buffer.from('\0\0\0\0\u0006answer', 'latin1'));
    });
  });
  const answer = await connection.call(PATH, Buffer.from('question'), 5000);
  expect(answer).toEqual({ code: 'OK', message: '', response: Buffer.from('answer') });
  expect(Buffer.concat(request).toString('latin1')).toBe('\0\0\0\0\u0008question');
});

describe('other answers', () => {
  test('one of trailers only, percent-encoded', async () => {
    const headers = { ...GRPC, 'grpc-status': '14', 'grpc-message': 'unavailable%20%E2%80%A6' };
    expect(await answered((stream) => stream.respond(headers, { endStream: true }))).toEqual({
      code: 'Unavailable',
      message: 'unavailable …',
      response: undefined,
    });
  });

  test('one of HTTP alone', async () => {
    const answer = await answered((stream) => stream.respond({ ':status': 503 }, { endStream: true }));
    expect(answer).toBe('the response is not gRPC (HTTP status 503, no content type, no grpc-status)');
  });

  test('a page of HTML', async () => {
    const answer = await answered((stream) => {
      stream.respond({ ':status': 200, 'content-type': 'text/html' });
      stream.end('<html>');
    });
    expect(answer).toBe('the response is not gRPC (HTTP status 200, text/html, no grpc-status)');
  });

  test('a reset', async () => {
    expect(await answered((stream) => stream.close(7))).toMatchObject({ code: 'Unavailable' });
  });

  test('a message that is cut off', async () => {
    const answer = await answered((stream) => {
      stream.respond(GRPC, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(Buffer.from('\0\0\0\0\u0006ans', 'latin1'));
    });
    expect(answer).toBe('the response does not contain a complete gRPC message');
  });

  test('none in time', async () => {
    const { connection } = connected(() => undefined);
    await expect(connection.call(PATH, Buffer.alloc(0), 20)).rejects.toThrow('no answer within 20 ms');
  });

  test('the end of the connection', async () => {
    const { connection, server } = connected(() => server.destroy());
    const call = connection.call(PATH, Buffer.alloc(0), 5000);
    server.once('close', () => connection.close());
    await expect(call).rejects.toThrow(CallFailure);
  });
});

test('calls run beside each other on one connection', async () => {
  const { connection } = connected((stream, path) => {
    stream.respond({ ...GRPC, 'grpc-status': path.endsWith('Bad') ? '5' : '12' }, { endStream: true });
  });
  const answers = await Promise.all(
    ['/a.B/Good', '/a.B/Bad'].map((path) => connection.call(path, Buffer.alloc(0), 5000)),
  );
  expect(answers.map(({ code }) => code)).toEqual(['Unimplemented', 'NotFound']);
});
