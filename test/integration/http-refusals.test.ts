import { once } from 'node:events';
import type { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import { framesOf, type Frame, frame, headers, settings, uint32 } from '../support/http2-frames.js';
import { HTTP2_PREFACE, readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { DRAIN_PING_MS } from '../../src/limits.js';
import { TEST_CLOCK } from '../support/fast-clock.js';
import { ALLOWED, ONE_WORKER, PLAIN, requiring, startGate, type Gate } from '../support/gate.js';
import { askHttp2, http2Client } from '../support/http-clients.js';

const [DATA, HEADERS, RST_STREAM, PING] = [0, 1, 3, 6] as const;
const END_STREAM = 1;
const CLOSED = 'gitaly_tls_proxy_connections_closed_total';
const ACTIVE = 'gitaly_tls_proxy_connections_active';
const GET = { ':method': 'GET', ':scheme': 'https', ':path': ALLOWED, ':authority': 'gitlab' };
const POST = { ...GET, ':method': 'POST' };

/** No deadline that an operator sets ends a refused connection: all of them are longer than a test may take. */
const PATIENT = { timeouts: { preface: '10m', idle: '6h', write_stall: '10m' } };

/** Opens an HTTP/2 connection, ends neither it nor its side of TCP, and sends this. */
async function open(gate: Gate, ...frames: readonly Buffer[]): Promise<Socket> {
  const client = await tlsClient(gate.port, { ca: gate.ca.caPem });
  client.write(Buffer.concat([HTTP2_PREFACE, ...frames]));
  return client;
}

/** Reads until the stream was reset by the server, and returns all of its frames. */
async function readToReset(client: Socket, streamId: number): Promise<Frame[]> {
  let received = Buffer.alloc(0);
  client.on('data', (bytes: Buffer) => (received = Buffer.concat([received, bytes])));
  for (;;) {
    const ofStream = framesOf(received).filter((one) => one.streamId === streamId);
    if (ofStream.some(({ type }) => type === RST_STREAM)) return ofStream;
    await once(client, 'data');
  }
}

/** What clients that are not let in may do; none of it ends the connection. */
const NO_WINDOW = settings([4, 0]);
const STUBBORN: readonly (readonly Buffer[])[] = [
  [headers(1, POST)],
  [NO_WINDOW, headers(1, POST)],
  [NO_WINDOW, headers(1, GET, END_STREAM)],
  [headers(1, GET, END_STREAM)],
  [headers(1, GET)],
  [headers(1, { ...POST, expect: '100-continue' })],
  Array.from({ length: 90 }, (_, index) => headers(2 * index + 1, POST)),
  // A header without its end, and no request at all.
  [frame(HEADERS, 0, 1)],
  [],
];

describe('a client whose certificate is refused is closed within about a second, whatever it does:', () => {
  test('HTTP/2 without the end of a request, with a window of 0, and with its own side left open', async () => {
    const gate = await startGate((ca) => ({ ...requiring(ca), more: PATIENT }));
    const clients = await Promise.all(STUBBORN.map((frames) => open(gate, ...frames)));
    await Promise.all(clients.map((client) => readToEnd(client)));
    const scrape = await gate.proxy.scrapeUntil((now) => now.value(ACTIVE) === 0);
    expect(scrape.value(CLOSED, { reason: 'client_certificate_refused', initiator: 'proxy' })).toBe(
      STUBBORN.length,
    );
    const lines = gate.proxy.log.lines.filter((line) => line['http.refusal'] !== undefined);
    expect(new Set(lines.map((line) => line['http.ended_by']))).toEqual(new Set(['proxy']));
    await gate.endsWithNothingLeaked();
  });

  test('HTTP/1.1 without the end of a request, or with none; the answer comes first', async () => {
    const gate = await startGate((ca) => ({ ...requiring(ca), more: PATIENT }));
    const post = `POST ${ALLOWED} HTTP/1.1\r\nHost: x\r\n`;
    const requests = [
      `${post}Content-Length: 9\r\n\r\nab`,
      `${post}Transfer-Encoding: chunked\r\n\r\n2\r\nab`,
      `${post}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n`,
      post,
      '',
    ];
    const endings = requests.map(async (bytes) => {
      const client = await tlsClient(gate.port, { ca: gate.ca.caPem, ALPNProtocols: ['http/1.1'] });
      client.write(bytes);
      const { received } = await readToEnd(client);
      return received.toString().slice(0, 12);
    });
    const answered = 'HTTP/1.1 403';
    expect(await Promise.all(endings)).toEqual([answered, answered, answered, '', '']);
    const scrape = await gate.proxy.scrapeUntil((now) => now.value(ACTIVE) === 0);
    expect(scrape.value(CLOSED, { reason: 'client_certificate_refused' })).toBe(requests.length);
    await gate.endsWithNothingLeaked();
  });

  test('HTTP/2 and nothing read', async () => {
    const gate = await startGate((ca) => ({ ...requiring(ca), more: PATIENT }));
    const client = await open(gate);
    client.pause();
    // More answers than its kernel and ours buffer.
    for (let index = 0; index < 20_000 && !client.destroyed; index += 500) {
      const requests = Array.from({ length: 500 }, (_, one) =>
        headers(2 * (index + one) + 1, GET, END_STREAM),
      );
      client.write(Buffer.concat(requests));
    }
    await gate.proxy.log.waitForClose('client_certificate_refused');
    client.destroy();
    await gate.endsWithNothingLeaked();
  });
});

test('refused clients that stay do not lock others out, and SIGTERM does not wait for them', async () => {
  const gate = await startGate((ca) => ({
    ...requiring(ca),
    more: { ...PATIENT, max_connections: 8, max_unauthenticated_connections: 8, workers: 1 },
  }));
  const clients = await Promise.all(Array.from({ length: 8 }, () => open(gate, headers(1, POST))));
  await gate.proxy.scrapeUntil((scrape) => scrape.value(ACTIVE) === 0);
  const served = await gate.ca.client();
  const session = http2Client(gate.port, {
    ca: gate.ca.caPem,
    cert: served.certificatePem,
    key: served.keyPem,
  });
  expect((await askHttp2(session, { ':path': ALLOWED })).headers[':status']).toBe(200);
  session.close();
  const later = await Promise.all(Array.from({ length: 4 }, () => open(gate, headers(1, POST))));
  const endings = later.map((client) => readToEnd(client));
  gate.proxy.signal('SIGTERM');
  await Promise.all(endings);
  expect(await gate.proxy.exited).toBe(0);
  for (const client of clients) client.destroy();
});

describe('a request that is refused ends within about a second, and its connection is kept:', () => {
  const REFUSED: readonly (readonly [fields: Readonly<Record<string, string>>, status: number])[] = [
    [{ ...POST, ':path': '/' }, 404],
    [{ ...POST, ':method': 'TRACE' }, 405],
    [{ ...POST, 'x-a': 'a\nb' }, 400],
    [{ ...POST, host: 'other' }, 400],
    [{ ...POST, expect: 'else' }, 417],
  ];

  test('an HTTP/2 request without its end: the answer is whole, then its stream is reset without error', async () => {
    const gate = await startGate({ more: PATIENT });
    const endings = REFUSED.map(async ([fields, status]) => {
      const client = await open(gate, headers(1, fields), frame(DATA, 0, 1, Buffer.from('content')));
      const frames = await readToReset(client, 1);
      expect(frames.map(({ type }) => type)).toEqual([HEADERS, DATA, DATA, RST_STREAM]);
      expect(frames.at(-1)?.payload).toEqual(uint32(0));
      const line = await gate.proxy.log.waitFor((one) => one['http.status'] === status);
      expect(line).toMatchObject({ 'http.ended_by': 'proxy' });
      return client;
    });
    const clients = await Promise.all(endings);
    for (const client of clients) client.write(headers(3, GET, END_STREAM));
    await expect.poll(() => gate.backend.requests.length).toBe(clients.length);
    for (const client of clients) client.destroy();
    await gate.endsWithNothingLeaked();
  });

  test('with a window of 0 its stream is reset, and the refusal is not taken for the client leaving', async () => {
    const gate = await startGate({ more: PATIENT });
    const client = await open(gate, settings([4, 0]), headers(1, { ...GET, ':path': '/' }, END_STREAM));
    const frames = await readToReset(client, 1);
    expect(frames.at(-1)?.payload).toEqual(uint32(8));
    const line = await gate.proxy.log.waitForEvent('http_request_refused', { 'http.refusal': 'path' });
    expect(line).toMatchObject({ 'http.status': 404, 'http.ended_by': 'proxy' });
    client.destroy();
    await gate.endsWithNothingLeaked();
  });

  test('an upstream that cannot be reached', async () => {
    const gate = await startGate({ more: PATIENT });
    gate.backend.stop();
    const client = await open(gate, headers(1, POST));
    expect((await readToReset(client, 1)).at(-1)?.payload).toEqual(uint32(0));
    client.destroy();
    await gate.endsWithNothingLeaked();
  });

  test('an upstream that answers before the request has ended', async () => {
    const gate = await startGate({ more: PATIENT });
    gate.backend.handler = (_request, response) => response.writeHead(413).end('too large');
    const client = await open(gate, headers(1, POST), frame(DATA, 0, 1, Buffer.from('content')));
    const frames = await readToReset(client, 1);
    expect(Buffer.concat(frames.filter(({ type }) => type === DATA).map(({ payload }) => payload))).toEqual(
      Buffer.from('too large'),
    );
    expect(frames.at(-1)?.payload).toEqual(uint32(0));
    client.destroy();
    await gate.endsWithNothingLeaked();
  });

  test('HTTP/1.1 is answered, and the connection ends', async () => {
    const gate = await startGate({ more: PATIENT, listener: { listen: PLAIN, paths: ['/api/'] } });
    const requests: readonly (readonly [bytes: string, status: number])[] = [
      ['POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab', 404],
      ['GET / HTTP/1.1\r\nHost : x\r\n\r\n', 400],
      [`POST ${ALLOWED} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n`, 400],
      [`GET ${ALLOWED} HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(20_000)}`, 431],
      ['CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n', 405],
    ];
    const endings = requests.map(async ([bytes]) => {
      const client = await tcpClient(gate.port);
      client.write(bytes);
      return (await readToEnd(client)).received.toString().slice(0, 12);
    });
    expect(await Promise.all(endings)).toEqual(requests.map(([, status]) => `HTTP/1.1 ${status}`));
    await gate.endsWithNothingLeaked();
  });

  test('a client that resets the stream behind the answer has been refused, and has not left', async () => {
    const gate = await startGate({ more: PATIENT });
    const client = await open(gate, headers(1, { ...POST, ':path': '/' }));
    let received = Buffer.alloc(0);
    client.on('data', (bytes: Buffer) => (received = Buffer.concat([received, bytes])));
    while (!framesOf(received).some(({ type }) => type === DATA)) await once(client, 'data');
    client.write(frame(RST_STREAM, 0, 1, uint32(8)));
    const line = await gate.proxy.log.waitForEvent('http_request_refused', { 'http.refusal': 'path' });
    expect(line).toMatchObject({ 'http.status': 404, 'http.ended_by': 'proxy' });
    client.destroy();
    await gate.endsWithNothingLeaked();
  });
});

test('SIGTERM does not wait for an HTTP/2 client that answers no PING and ends nothing', async () => {
  const gate = await startGate({ more: { ...PATIENT, ...ONE_WORKER }, ...TEST_CLOCK });
  const client = await open(gate, headers(1, GET, END_STREAM));
  const ending = readToEnd(client);
  let received = Buffer.alloc(0);
  client.on('data', (bytes: Buffer) => (received = Buffer.concat([received, bytes])));
  await gate.proxy.log.waitForEvent('http_request_finished', { 'http.method': 'GET', 'http.status': 200 });
  gate.proxy.signal('SIGTERM');
  while (!framesOf(received).some(({ type }) => type === PING)) await once(client, 'data');
  await gate.proxy.advanceClock(DRAIN_PING_MS);
  await ending;
  expect(await gate.proxy.exited).toBe(0);
});
