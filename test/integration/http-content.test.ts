import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';

import { describe, expect, test } from 'vitest';

import { readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { SWEEP_MS_MAX } from '../../src/limits.js';
import { FAST_CLOCK, TEST_CLOCK } from '../support/fast-clock.js';
import { ALLOWED, ONE_WORKER, PLAIN, startGate, type Gate } from '../support/gate.js';
import { answerOf, begin, http2Client, readAnswer } from '../support/http-clients.js';
import { shell } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { MIB, residentBytes } from '../support/transfer.js';

const FAILURES = 'gitaly_tls_proxy_http_upstream_failures_total';
const BLOCK = randomBytes(MIB);
const HEAD = `POST ${ALLOWED} HTTP/1.1\r\nHost: gitlab\r\n`;

/** Writes so many MiB as fast as they are taken, and ends, not before `until`. The SHA-256 of them. */
async function pour(sink: Writable, mebibytes: number, until?: Promise<unknown>): Promise<string> {
  const hash = createHash('sha256');
  for (let sent = 0; sent < mebibytes; sent++) {
    hash.update(BLOCK);
    if (!sink.write(BLOCK)) await once(sink, 'drain');
  }
  await until;
  sink.end();
  return hash.digest('hex');
}

/** Writes until nobody takes any more. */
async function fill(sink: Writable): Promise<void> {
  for (let quiet = 0; quiet < 20; quiet++) {
    while (sink.write(BLOCK)) quiet = 0;
    await new Promise((resolve) => setImmediate(resolve));
    if (!sink.writableNeedDrain) quiet = 0;
  }
}

/** Reads to the end; the SHA-256 of it. */
async function hashOf(source: Readable): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of source) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** The next request of the backend, not read yet. */
function nextRequest({ backend }: Gate): Promise<{ request: IncomingMessage; response: ServerResponse }> {
  return new Promise((resolve) => {
    backend.handler = (request, response) => resolve({ request, response });
  });
}

/** A POST that has begun, over HTTP/1.1 or HTTP/2: what to write to, and the answer when it comes. */
function post(gate: Gate, protocol: string): { sink: Writable; answer: Promise<Readable>; end: () => void } {
  if (protocol === 'HTTP/1.1') {
    const request = begin(gate.url, { ca: gate.ca.caPem, path: ALLOWED, method: 'POST' });
    return { sink: request, answer: answerOf(request), end: () => undefined };
  }
  const session = http2Client(gate.port, { ca: gate.ca.caPem });
  const stream = session.request({ ':method': 'POST', ':path': ALLOWED });
  return { sink: stream, answer: once(stream, 'response').then(() => stream), end: () => session.close() };
}

describe.each(['HTTP/1.1', 'HTTP/2'])('over %s', (protocol) => {
  test('256 MiB pass each way, at once, unchanged', async () => {
    const gate = await startGate();
    const arrived = nextRequest(gate);
    const { sink, answer, end } = post(gate, protocol);
    const sent = pour(sink, 256);
    const { request, response } = await arrived;
    response.flushHeaders();
    const arriving = hashOf(request);
    const [up, down, gotUp, gotDown] = await Promise.all([
      sent,
      // Node's client stops sending when the answer has ended.
      pour(response, 256, arriving),
      arriving,
      hashOf(await answer),
    ]);
    expect([gotUp, gotDown]).toEqual([up, down]);
    end();
    await gate.endsWithNothingLeaked();
  });

  test('a side that does not read holds the other up, and the proxy holds little of it', async () => {
    const gate = await startGate();
    const arrived = nextRequest(gate);
    const { sink, answer, end } = post(gate, protocol);
    sink.write('x');
    const { request, response } = await arrived;
    response.flushHeaders();
    const reading = await answer;
    // Neither reads: what is written waits before, in and behind the proxy until nobody takes more.
    const before = residentBytes(gate.proxy.pid);
    await fill(sink);
    await fill(response);
    expect(residentBytes(gate.proxy.pid) - before).toBeLessThan(32 * MIB);
    sink.end();
    response.end();
    const counts = await Promise.all([hashOf(request), hashOf(reading)]);
    expect(counts).toHaveLength(2);
    end();
    await gate.endsWithNothingLeaked();
  });

  test('an answer that begins before the request has ended is seen at once', async () => {
    const gate = await startGate();
    const arrived = nextRequest(gate);
    const { sink, answer, end } = post(gate, protocol);
    // The header alone: the client waits for the answer before it sends its content.
    if (sink instanceof ClientRequest) sink.flushHeaders();
    const { request, response } = await arrived;
    response.flushHeaders();
    const reading = await answer;
    sink.end('content');
    expect(await text(request)).toBe('content');
    response.end('answer');
    expect(await text(reading)).toBe('answer');
    end();
    await gate.endsWithNothingLeaked();
  });

  test('a client that goes away aborts upstream, before and within the answer', async () => {
    const gate = await startGate();
    for (const answering of [false, true]) {
      const arrived = nextRequest(gate);
      const { sink, answer, end } = post(gate, protocol);
      answer.catch(() => undefined);
      sink.write('content');
      const { request, response } = await arrived;
      const aborted = once(request, 'aborted');
      if (answering) {
        response.write('part');
        await once(await answer, 'data');
      }
      sink.on('error', () => undefined).destroy();
      await aborted;
      end();
    }
    const line = await gate.proxy.log.waitForEvent('http_request_canceled', { 'http.method': 'POST' });
    expect(line).toMatchObject({ level: 'info', 'http.ended_by': 'client' });
    expect((await gate.proxy.scrape()).value(FAILURES)).toBe(0);
    await gate.endsWithNothingLeaked();
  });

  test('an answer that upstream aborts is aborted for the client, which sees an error', async () => {
    const gate = await startGate();
    // With its length, in chunks, and without either (whose end would be the end of the connection).
    const answers = [
      'Content-Length: 100\r\n\r\npart',
      'Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n',
      '\r\npart',
    ];
    for (const rest of answers) {
      const arrived = nextRequest(gate);
      const { sink, answer, end } = post(gate, protocol);
      sink.end('content');
      const { request } = await arrived;
      const { socket } = request;
      socket.write(`HTTP/1.1 200 OK\r\n${rest}`);
      const reading = await answer;
      await once(reading, 'data');
      socket.resetAndDestroy();
      await expect(text(reading), rest).rejects.toThrow();
      end();
    }
    const line = await gate.proxy.log.waitForEvent('http_request_failed', { 'http.method': 'POST' });
    expect(line).toMatchObject({
      'http.upstream_failure': 'cut',
      'http.status': 200,
      'http.ended_by': 'upstream',
    });
    expect((await gate.proxy.scrape()).value(FAILURES, { reason: 'cut' })).toBe(answers.length);
    await gate.endsWithNothingLeaked();
  });
});

test('a client that is reset while upstream does not read its request aborts upstream', async () => {
  const gate = await startGate({ listener: { listen: PLAIN }, more: { timeouts: { preface: '1s' } } });
  const arrived = nextRequest(gate);
  const socket = await tcpClient(gate.port);
  socket.write(`${HEAD}Content-Length: ${1024 * MIB}\r\n\r\n`);
  const { request } = await arrived;
  // Until the proxy reads no more either.
  let read = -1;
  for (let still = 0; still < 10; still++) {
    await fill(socket);
    const before = read;
    read = (await gate.proxy.scrape()).value('gitaly_tls_proxy_connection_bytes_total');
    if (read !== before) still = 0;
  }
  const closed = new Promise((resolve) => request.socket.once('close', resolve));
  socket.resetAndDestroy();
  const line = await gate.proxy.log.waitForEvent('http_request_canceled', { 'http.method': 'POST' });
  expect(line).toMatchObject({ 'http.ended_by': 'client' });
  // It has not read to where it would see the end.
  request.resume();
  await closed;
  await gate.endsWithNothingLeaked();
});

test('an answer that ends before its request has is whole, the rest is dropped, and the next request is the next', async () => {
  const gate = await startGate({ listener: { listen: PLAIN } });
  gate.backend.handler = (request, response) => {
    response.writeHead(request.method === 'POST' ? 413 : 200).end(request.method);
    request.resume();
  };
  const socket = await tcpClient(gate.port);
  socket.write(`${HEAD}Content-Length: ${16 * MIB}\r\n\r\n`);
  const [first] = (await once(socket, 'data')) as [Buffer];
  expect(first.toString()).toMatch(/^HTTP\/1\.1 413 /);
  for (let sent = 0; sent < 16; sent++) if (!socket.write(BLOCK)) await once(socket, 'drain');
  socket.write(`GET ${ALLOWED} HTTP/1.1\r\nHost: gitlab\r\nConnection: close\r\n\r\n`);
  const { received } = await readToEnd(socket);
  expect(received.toString()).toMatch(/HTTP\/1\.1 200 [^]*\r\n3\r\nGET\r\n0\r\n\r\n$/);
  await gate.endsWithNothingLeaked();
});

test('a client of HTTP/2 whose requests are answered in the midst of their content has as many as it wants', async () => {
  const gate = await startGate({ more: ONE_WORKER });
  gate.backend.handler = (_request, response) => response.writeHead(413).end('too much');
  const session = http2Client(gate.port, { ca: gate.ca.caPem });
  const statuses: unknown[] = [];
  const answered = async (): Promise<void> => {
    const stream = session.request({ ':method': 'POST', ':path': ALLOWED });
    stream.once('response', (headers) => statuses.push(headers[':status']));
    // Its end never comes: when the answer has ended the client resets the rest, as of an upload that nobody wants.
    stream.write(Buffer.alloc(70_000));
    stream.once('end', () => stream.close());
    stream.resume();
    await once(stream, 'close');
  };
  const thrice = async (): Promise<void> => {
    for (let count = 0; count < 3; count++) await answered();
  };
  // More than may be open at once, in the end.
  await Promise.all(Array.from({ length: 50 }, thrice));
  expect(statuses).toEqual(Array.from({ length: 150 }, () => 413));
  session.close();
  await gate.endsWithNothingLeaked();
});

test('trailers pass both ways', async () => {
  const gate = await startGate({ listener: { listen: PLAIN } });
  const arrived = nextRequest(gate);
  const socket = await tcpClient(gate.port);
  socket.write(
    `${HEAD}Connection: close\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n`,
  );
  const { request, response } = await arrived;
  expect(await text(request)).toBe('abc');
  expect(request.headers).toMatchObject({ trailer: 'X-Sum', te: 'trailers', 'transfer-encoding': 'chunked' });
  expect(request.trailers).toEqual({ 'x-sum': '1' });
  response.writeHead(200, { trailer: 'X-End' });
  response.write('answer');
  response.addTrailers({ 'X-End': '2' });
  response.end();
  const answer = (await readToEnd(socket)).received.toString();
  expect(answer).toMatch(/\r\ntrailer: X-End\r\n[^]*\r\n6\r\nanswer\r\n0\r\nx-end: 2\r\n\r\n$/i);
  await gate.endsWithNothingLeaked();
});

test('a trailer over HTTP/2 passes, though the length of the content is stated', async () => {
  const gate = await startGate();
  gate.backend.handler = undefined;
  const session = http2Client(gate.port, { ca: gate.ca.caPem });
  const stream = session.request(
    { ':method': 'POST', ':path': ALLOWED, 'content-length': '3', trailer: 'x-sum' },
    { waitForTrailers: true },
  );
  stream.once('wantTrailers', () => stream.sendTrailers({ 'x-sum': '1' }));
  stream.end('abc');
  await once(stream.resume(), 'close');
  expect(gate.backend.last).toMatchObject({ body: Buffer.from('abc'), trailers: { 'x-sum': '1' } });
  session.close();
  await gate.endsWithNothingLeaked();
});

describe('Expect: 100-continue', () => {
  test('100 comes from upstream, and the content after it', async () => {
    const gate = await startGate({ listener: { listen: PLAIN } });
    const arrived = new Promise<{ request: IncomingMessage; response: ServerResponse }>((resolve) => {
      gate.backend.handler = (request, response) => resolve({ request, response });
    });
    const socket = await tcpClient(gate.port);
    socket.write(`${HEAD}Connection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n`);
    const { request, response } = await arrived;
    expect(request.headers.expect).toBe('100-continue');
    response.writeContinue();
    const [first] = (await once(socket, 'data')) as [Buffer];
    expect(first.toString()).toBe('HTTP/1.1 100 Continue\r\n\r\n');
    socket.write('abc');
    expect(await text(request)).toBe('abc');
    response.end('answer');
    expect((await readToEnd(socket)).received.toString()).toMatch(/^HTTP\/1\.1 200 [^]*\r\n\r\nanswer$/);
    await gate.endsWithNothingLeaked();
  });

  test('an upstream that refuses is heard before the content is sent, and the connection is not used again', async () => {
    const gate = await startGate({ listener: { listen: PLAIN } });
    gate.backend.handler = (_request, response) => {
      response.writeHead(401).end('no');
    };
    const socket = await tcpClient(gate.port);
    socket.write(`${HEAD}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n`);
    const answer = (await readToEnd(socket)).received.toString();
    expect(answer).toMatch(/^HTTP\/1\.1 401 [^]*\r\nconnection: close\r\n[^]*\r\n\r\n/i);
    expect(answer).not.toContain('100 Continue');
    await gate.endsWithNothingLeaked();
  });

  test.each(['--http1.1', '--http2'])('of curl, with %s', async (flag) => {
    const gate = await startGate();
    const { output } = await shell(
      `head -c 3000000 /dev/zero | curl -sS --max-time 20 --cacert ${gate.ca.caPath} ${flag} -H 'Expect: 100-continue' --data-binary @- https://localhost:${gate.port}${ALLOWED}`,
    );
    expect(output).toBe('{"status":true}');
    expect(gate.backend.last.body).toHaveLength(3_000_000);
    await gate.endsWithNothingLeaked();
  });

  test('another expectation gets 417', async () => {
    const gate = await startGate({ listener: { listen: PLAIN } });
    const answer = await gate.ask(ALLOWED, { headers: { expect: 'miracles' } });
    expect(answer.status).toBe(417);
    expect(gate.backend.connections).toHaveLength(0);
    await gate.endsWithNothingLeaked();
  });
});

describe('time', () => {
  const SHORT = { timeouts: { handshake: '300ms', preface: '300ms', dial: '300ms', half_close: '300ms' } };

  test('an answer may take longer than every deadline of connections and headers, and its parts too', async () => {
    const gate = await startGate({ more: SHORT });
    const arrived = nextRequest(gate);
    const request = begin(gate.url, { ca: gate.ca.caPem, path: ALLOWED, method: 'POST' });
    request.end('content');
    const answer = answerOf(request).then(readAnswer);
    const { response } = await arrived;
    // Another client is given up meanwhile, several times over.
    for (let turn = 0; turn < 3; turn++) {
      const silent = await tlsClient(gate.port, { ca: gate.ca.caPem, ALPNProtocols: ['http/1.1'] });
      await readToEnd(silent);
      response.write('part');
    }
    response.end();
    expect(await answer).toMatchObject({ status: 200, body: 'partpartpart' });
    await gate.endsWithNothingLeaked();
  });

  test.each([
    ['silence', ['']],
    ['part of a request', [`${HEAD}A`]],
    ['a second request that comes slowly', [`GET ${ALLOWED} HTTP/1.1\r\nHost: gitlab\r\n\r\n`, HEAD]],
  ])('%s instead of a header is ended after timeouts.preface', async (_what, parts) => {
    const gate = await startGate({ listener: { listen: PLAIN }, more: SHORT });
    const socket = await tcpClient(gate.port);
    const ending = readToEnd(socket);
    for (const [index, part] of parts.entries()) {
      if (index > 0) await expect.poll(() => gate.backend.requests.length).toBe(index);
      socket.write(part);
    }
    expect((await ending).kind).toBe('reset');
    const line = await gate.proxy.log.waitForClose('preface_timeout');
    expect(line).toMatchObject({ 'close.initiator': 'proxy' });
    await gate.endsWithNothingLeaked();
  });

  test('a connection may rest between requests for longer than every other deadline, until timeouts.idle ends it', async () => {
    const IDLE_MS = 300_000;
    const gate = await startGate({
      listener: { listen: PLAIN },
      more: { timeouts: { ...SHORT.timeouts, idle: '5m' } },
      ...TEST_CLOCK,
    });
    const socket = await tcpClient(gate.port);
    const get = `GET ${ALLOWED} HTTP/1.1\r\nHost: gitlab\r\n\r\n`;
    socket.write(get);
    await once(socket, 'data');
    await gate.proxy.advanceClock(0.9 * IDLE_MS);
    socket.write(get);
    await once(socket, 'data');
    const ending = readToEnd(socket);
    await gate.proxy.advanceClock(IDLE_MS + 2 * SWEEP_MS_MAX);
    await ending;
    expect(await gate.proxy.log.waitForClose('idle_timeout')).toMatchObject({ protocol: 'http1' });
    expect(gate.backend.requests).toHaveLength(2);
    await gate.endsWithNothingLeaked();
  });

  test.each(['client', 'upstream'])(
    'the connection of a stalled %s ends after timeouts.write_stall',
    async (side) => {
      const gate = await startGate({ more: { timeouts: { write_stall: '2s' } }, ...FAST_CLOCK });
      const arrived = nextRequest(gate);
      const { sink, answer } = post(gate, 'HTTP/1.1');
      sink.on('error', () => undefined);
      sink.write('x');
      const { response } = await arrived;
      const event = side === 'client' ? 'http_request_aborted' : 'http_request_failed';
      const reading = side === 'client' ? answer : undefined;
      answer.catch(() => undefined);
      void pour(side === 'client' ? response : sink, 64).catch(() => undefined);
      await reading;
      const line = await gate.proxy.log.waitForEvent(event, { 'http.method': 'POST' });
      if (side === 'upstream')
        expect(line).toMatchObject({ 'http.upstream_failure': 'write_stall', 'http.status': 502 });
      else
        expect(await gate.proxy.log.waitForClose('write_stall')).toMatchObject({
          'close.initiator': 'proxy',
        });
      await gate.endsWithNothingLeaked();
    },
  );
});

test('a file that curl sends and one that it gets are the same on both sides', async () => {
  const gate = await startGate();
  const directory = await temporaryDirectory();
  gate.backend.handler = (request, response) => request.pipe(response);
  const { output } = await shell(
    `cd ${directory} && head -c 30000000 /dev/urandom > sent && for version in --http1.1 --http2; do curl -sS --max-time 25 --cacert ${gate.ca.caPath} $version -T sent -o got https://localhost:${gate.port}${ALLOWED} && cmp sent got && echo same; done`,
  );
  expect(output).toBe('same\nsame\n');
  await gate.endsWithNothingLeaked();
});
