import { once } from 'node:events';
import { createServer as createHttp2Server, type IncomingHttpHeaders } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { setImmediate } from 'node:timers/promises';

import { Client, credentials, Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { expect, onTestFinished, test } from 'vitest';

import { DemoBackend } from '../../src/commands/demo/demo-backend.js';
import { demoService } from '../../src/commands/demo/demo-service.js';
import { ConnectionEnd } from '../../src/connection/connection-end.js';
import { neverIndexed } from '../../src/inspect/hpack/literal-field.js';
import { HTTP2_PREFACE, readToEnd, tcpClient } from '../support/clients.js';
import { END_STREAM, framesOf, GOAWAY, headers, SETTINGS_ACK } from '../support/http2-frames.js';
import { ALLOWED, REFUSED } from '../support/judged-connection.js';
import { startJudgedRelay, type JudgedRelay } from '../support/judged-relay.js';
import { OWN_CONNECTION } from '../support/grpc-channel.js';

const { echo, repeat, count } = demoService;
/** Bytes that do not repeat within a window. */
const CONTENT = Buffer.from(Array.from({ length: 1024 * 1024 }, (_, index) => (index * 7919) >> 5));
/** The correlation id of calls that are refused. */
const NO = 'no';

async function startBackend(): Promise<string> {
  const backend = await DemoBackend.start(0);
  onTestFinished(() => backend.stop());
  return `tcp://127.0.0.1:${backend.port}`;
}

/** A relay in front of a gRPC server: calls with an id of `NO` are refused. */
async function startRelay(): Promise<JudgedRelay> {
  return startJudgedRelay(await startBackend(), ({ correlationId }) =>
    correlationId === NO ? REFUSED : ALLOWED,
  );
}

/** A client with one connection. */
function clientOf({ address }: JudgedRelay): Client {
  const client = new Client(address, credentials.createInsecure(), { ...OWN_CONNECTION });
  onTestFinished(() => client.close());
  return client;
}

function metadataOf(id: string): Metadata {
  const metadata = new Metadata();
  metadata.set('x-gitlab-correlation-id', id);
  return metadata;
}

type Outcome = Buffer | ServiceError;

function outcomeOf(
  call: (done: (error: ServiceError | null, answer?: Buffer) => void) => void,
): Promise<Outcome> {
  return new Promise((resolve) => call((error, answer) => resolve(error ?? answer ?? Buffer.alloc(0))));
}

function unary(client: Client, id: string, message: Buffer, deadlineMs = 60_000): Promise<Outcome> {
  const { path, requestSerialize, responseDeserialize } = echo;
  const options = { deadline: Date.now() + deadlineMs };
  return outcomeOf((done) =>
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      message,
      metadataOf(id),
      options,
      done,
    ),
  );
}

/** Sends messages of 64 KiB as a client stream. */
function upload(client: Client, id: string, messages: number): Promise<Outcome> {
  const { path, requestSerialize, responseDeserialize } = count;
  return outcomeOf((done) => {
    const call = client.makeClientStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      metadataOf(id),
      done,
    );
    let left = messages;
    const more = (): void => {
      while (left-- > 0) if (!call.write(CONTENT.subarray(0, 65_536))) return;
      call.end();
    };
    call.on('drain', more);
    more();
  });
}

/** Ten times the message, as a server stream. */
async function download(client: Client, id: string, message: Buffer): Promise<Buffer> {
  const { path, requestSerialize, responseDeserialize } = repeat;
  const call = client.makeServerStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    message,
    metadataOf(id),
  );
  const answers: Buffer[] = [];
  call.on('data', (answer: Buffer) => answers.push(answer));
  await once(call, 'end');
  return Buffer.concat(answers);
}

function isRefusal(outcome: Outcome): boolean {
  return (
    'code' in outcome && outcome.code === status.PERMISSION_DENIED && outcome.details === REFUSED.message
  );
}

test('a refused call ends with the code and message of the judge; the calls beside it are served', async () => {
  const relay = await startRelay();
  const client = clientOf(relay);
  const message = CONTENT.subarray(0, 1000);
  const outcomes = await Promise.all(
    Array.from({ length: 60 }, (_, index) => unary(client, index % 3 === 0 ? NO : 'yes', message)),
  );
  expect(outcomes.filter(isRefusal)).toHaveLength(20);
  expect(outcomes.filter((outcome) => Buffer.isBuffer(outcome) && outcome.equals(message))).toHaveLength(40);
  const ends = relay.counted.map(({ path, end }) => [path, end.code, end.by, end.answered, end.message]);
  expect(ends.filter(([, code]) => code === 'PermissionDenied')).toEqual(
    new Array(20).fill([echo.path, 'PermissionDenied', 'proxy', false, 'not allowed']),
  );
  expect(ends.filter(([, code]) => code === 'OK')).toHaveLength(40);
  expect(relay.connections).toHaveLength(1);
});

test('100 refused uploads on one connection do not slow down an allowed one', async () => {
  const relay = await startRelay();
  const client = clientOf(relay);
  for (let uploads = 0; uploads < 100; uploads++) expect(isRefusal(await upload(client, NO, 64))).toBe(true);
  expect(await upload(client, 'yes', 64)).toEqual(Buffer.from(String(64 * 65_536)));
  expect(relay.connections).toHaveLength(1);
});

test('refused calls leave no trace in a download that they fall into, nor do calls that are cancelled or time out', async () => {
  const relay = await startRelay();
  const client = clientOf(relay);
  const downloads = [download(client, 'yes', CONTENT), download(client, 'yes', CONTENT)];
  const outcomes: Promise<Outcome>[] = [];
  for (let calls = 0; calls < 100; calls++) {
    outcomes.push(unary(client, NO, CONTENT.subarray(0, calls), calls % 2 === 0 ? 1 : 60_000));
    const { path, requestSerialize, responseDeserialize } = count;
    outcomes.push(
      outcomeOf((done) => {
        const call = client.makeClientStreamRequest(
          path,
          requestSerialize,
          responseDeserialize,
          metadataOf(NO),
          done,
        );
        call.write(CONTENT.subarray(0, 5000));
        if (calls % 3 > 0) call.cancel();
      }),
    );
    await setImmediate();
  }
  const whole = Buffer.concat(new Array<Buffer>(10).fill(CONTENT));
  for (const received of await Promise.all(downloads)) expect(received.equals(whole)).toBe(true);
  for (const outcome of await Promise.all(outcomes)) {
    const code = 'code' in outcome ? outcome.code : status.OK;
    expect([status.PERMISSION_DENIED, status.CANCELLED, status.DEADLINE_EXCEEDED]).toContain(code);
  }
  expect(await upload(client, 'yes', 20)).toEqual(Buffer.from(String(20 * 65_536)));
  expect(relay.connections).toHaveLength(1);
});

test('a call gets the fields of the judge, and refers to earlier fields as before', async () => {
  const seen: IncomingHttpHeaders[] = [];
  const server = createHttp2Server((request, response) => {
    seen.push(request.headers);
    response.stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true });
  });
  server.listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const relay = await startJudgedRelay(`tcp://127.0.0.1:${port}`, ({ correlationId }) => ({
    kind: 'forward',
    fields: Buffer.concat([
      neverIndexed('x-identity', `dns:${correlationId ?? ''}`),
      neverIndexed('x-more', 'a'.repeat(1000)),
    ]),
  }));
  const client = clientOf(relay);
  for (const id of ['one', 'two', 'two']) await unary(client, id, CONTENT.subarray(0, 10));
  const facts = seen.map((fields) => [
    fields['x-gitlab-correlation-id'],
    fields['x-identity'],
    fields['x-more']?.length,
  ]);
  expect(facts).toEqual([
    ['one', 'dns:one', 1000],
    ['two', 'dns:two', 1000],
    ['two', 'dns:two', 1000],
  ]);
});

test('a drain lets an open call finish, while others are refused', async () => {
  const relay = await startRelay();
  const client = clientOf(relay);
  const downloading = download(client, 'yes', CONTENT);
  await unary(client, NO, CONTENT.subarray(0, 10));
  const [connection] = relay.connections;
  connection?.calls.drain();
  const received = await downloading;
  expect(received).toHaveLength(10 * CONTENT.length);
  const end = await connection?.outcome;
  expect(end instanceof ConnectionEnd && ['drained', 'finished'].includes(end.reason)).toBe(true);
  expect(relay.refused).toEqual([]);
});

test('a second header block on the stream of a refused call closes the connection', async () => {
  const relay = await startRelay();
  const client = await tcpClient(Number(relay.address.split(':')[1]));
  const ending = readToEnd(client);
  const fields = { ':method': 'POST', ':scheme': 'http', ':path': echo.path, 'x-gitlab-correlation-id': NO };
  client.write(Buffer.concat([HTTP2_PREFACE, SETTINGS_ACK, headers(1, fields)]));
  await once(client, 'data');
  client.write(headers(1, { ...fields, 'x-gitlab-correlation-id': 'yes' }, END_STREAM));
  const { received } = await ending;
  expect(framesOf(received).at(-1)?.type).toBe(GOAWAY);
  expect(relay.refused.map(({ reason, detail }) => [reason, detail])).toEqual([
    ['inspection_lost', 'unjudged_block'],
  ]);
  // `inspect`, which other connections that cannot be followed depend on, changes nothing here.
  expect(relay.advice).toEqual([expect.stringContaining('a listener without `policy`')]);
});
