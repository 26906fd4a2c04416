import type { TLSSocket } from 'node:tls';

import { describe, expect, test } from 'vitest';

import { MAX_HEADER_FIELDS } from '../../src/limits.js';
import {
  block,
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  GOAWAY,
  HEADERS,
  headers,
  RST_STREAM,
  uint32,
} from '../support/http2-frames.js';
import { HTTP2_PREFACE, readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { ALLOWED, ONE_WORKER, PLAIN, startGate, type Gate } from '../support/gate.js';
import { askHttp2, http2Client } from '../support/http-clients.js';

const REFUSED = 'gitaly_tls_proxy_http_requests_refused_total';
const HOST = 'Host: gitlab\r\n';

/** RFC 9113 section 7. */
const PROTOCOL_ERROR = 1;
const INTERNAL_ERROR = 2;
const ENHANCE_YOUR_CALM = 11;

/** Sends bytes as they are and reads what comes until the connection ends. */
async function send({ port }: Gate, bytes: string): Promise<string> {
  const socket = await tcpClient(port);
  socket.write(Buffer.from(bytes, 'latin1'));
  return (await readToEnd(socket)).received.toString('latin1');
}

function startPlain(): Promise<Gate> {
  return startGate({ listener: { listen: PLAIN } });
}

test('a request that can be read in two ways is refused, with 400, before a byte of it reaches upstream', async () => {
  const post = `POST ${ALLOWED} HTTP/1.1\r\n${HOST}`;
  const get = `GET ${ALLOWED} HTTP/1.1\r\n${HOST}`;
  const cases: readonly (readonly [what: string, bytes: string])[] = [
    ['both lengths', `${post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['both, the other way round', `${post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`],
    ['two lengths', `${post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello`],
    ['the same length twice', `${post}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello`],
    ['a list of lengths', `${post}Content-Length: 5, 5\r\n\r\nhello`],
    ['a length with a sign', `${post}Content-Length: +5\r\n\r\nhello`],
    ['a length in hexadecimal', `${post}Content-Length: 0x5\r\n\r\nhello`],
    ['a space before the colon', `${post}Content-Length : 5\r\n\r\nhello`],
    ['an unknown transfer coding', `${post}Transfer-Encoding: identity\r\n\r\nhello`],
    ['chunked and something after it', `${post}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n`],
    ['chunked in disguise', `${post}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`],
    ['chunked twice', `${post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    [
      'chunks in HTTP/1.0',
      `POST ${ALLOWED} HTTP/1.0\r\n${HOST}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['a folded header', `${get}A: b\r\n c\r\n\r\n`],
    ['a header folded by a tab', `${get}A: b\r\n\tTransfer-Encoding: chunked\r\n\r\n`],
    ['a folded first header', `GET ${ALLOWED} HTTP/1.1\r\n A: b\r\n${HOST}\r\n`],
    ['bare LF alone', `GET ${ALLOWED} HTTP/1.1\nHost: gitlab\n\n`],
    ['a bare LF in a header', `${get}A: b\nContent-Length: 5\r\n\r\nhello`],
    ['a bare LF at the end', `${get}A: b\r\n\n`],
    ['a CR in a value', `${get}A: b\rTransfer-Encoding: chunked\r\n\r\n`],
    ['a CR before the CR LF', `${get}A: b\r\r\n\r\n`],
    ['a NUL in a value', `${get}A: b\0c\r\n\r\n`],
    ['a NUL in the path', `GET ${ALLOWED}\0 HTTP/1.1\r\n${HOST}\r\n`],
    ['a space in the path', `GET ${ALLOWED} x HTTP/1.1\r\n${HOST}\r\n`],
    ['a byte beyond ASCII in the path', `GET ${ALLOWED}\xff HTTP/1.1\r\n${HOST}\r\n`],
    ['a fragment', `GET ${ALLOWED}#x HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`],
    ['two hosts', `${get}Host: other\r\nConnection: close\r\n\r\n`],
    ['the same host twice', `${get}Host: gitlab\r\nConnection: close\r\n\r\n`],
    ['no host', `GET ${ALLOWED} HTTP/1.1\r\nConnection: close\r\n\r\n`],
    ['an empty host', `GET ${ALLOWED} HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n`],
    ['two hosts in one', `GET ${ALLOWED} HTTP/1.1\r\nHost: gitlab, other\r\nConnection: close\r\n\r\n`],
    ['a path in the host', `GET ${ALLOWED} HTTP/1.1\r\nHost: gitlab/x\r\nConnection: close\r\n\r\n`],
    ...['h:abc', 'h:99999', 'a:1:2', '[]', '[zz]', '[::1', '::1]', '[::1]x', '..', '['].map(
      (host) =>
        [`Host: ${host}`, `GET ${ALLOWED} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`] as const,
    ),
    ['content of a GET', `${get}Content-Length: 5\r\nConnection: close\r\n\r\nhello`],
    ['chunks of a GET', `${get}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n`],
    ...['HTTP/1.2', 'HTTP/3.0', 'HTTP/1.10', 'HTTP/1', 'http/1.1', 'HTTP/01.1', 'HTTPS/1.1'].map(
      (version) => [`the version ${version}`, `GET ${ALLOWED} ${version}\r\n${HOST}\r\n`] as const,
    ),
    ['HTTP/2 in plain', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['a method of its own', `SMUGGLE ${ALLOWED} HTTP/1.1\r\n${HOST}\r\n`],
  ];
  const gate = await startPlain();
  for (const [what, bytes] of cases) {
    // What follows must not be taken for a request.
    const answer = await send(
      gate,
      `${bytes}GET ${ALLOWED}?smuggled HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`,
    );
    expect(answer, what).toMatch(
      /^HTTP\/1\.1 400 Bad Request\r\n[^]*connection: close[^]*\r\n\r\n\{"message":"the request is malformed"\}$/iu,
    );
  }
  expect(gate.backend.connections).toHaveLength(0);
  const line = await gate.proxy.log.waitForEvent('http_request_refused', { 'http.refusal': 'malformed' });
  expect(line).toMatchObject({ level: 'warning', 'http.status': 400, 'http.ended_by': 'proxy' });
  expect((await gate.proxy.scrape()).value(REFUSED, { reason: 'malformed' })).toBe(cases.length);
  await gate.endsWithNothingLeaked();
});

test.each([
  ['HTTP/0.9', `GET ${ALLOWED}\r\n\r\n`],
  ['HTTP/0.9 with its version', `GET ${ALLOWED} HTTP/0.9\r\n\r\n`],
  ['HTTP/2.0', `GET ${ALLOWED} HTTP/2.0\r\n${HOST}\r\n`],
  ['HTTP/2.0 with content', `GET ${ALLOWED} HTTP/2.0\r\n${HOST}Content-Length: 4\r\n\r\nGET `],
  ['HTTP/2.0 with chunks', `POST ${ALLOWED} HTTP/2.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
])(
  'a request of %s on a connection of HTTP/1.1 gets 505, and nothing is read after it',
  async (_what, bytes) => {
    const gate = await startPlain();
    const answer = await send(gate, `${bytes}GET ${ALLOWED}?smuggled HTTP/1.1\r\n${HOST}\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 505 [^]*connection: close[^]*\r\n\r\n\{"message":"[^"]+"\}$/iu);
    expect(gate.backend.connections).toHaveLength(0);
    expect((await gate.proxy.scrape()).value(REFUSED, { reason: 'version' })).toBe(1);
    await gate.endsWithNothingLeaked();
  },
);

test.each([
  ['too many fields', Array.from({ length: 129 }, (_, index) => `A${index}: b\r\n`).join('')],
  ['too many bytes', `A: ${'b'.repeat(17_000)}\r\n`],
])('a header of %s gets 431', async (_what, header) => {
  const gate = await startPlain();
  const answer = await send(gate, `GET ${ALLOWED} HTTP/1.1\r\n${HOST}Connection: close\r\n${header}\r\n`);
  expect(answer).toMatch(/^HTTP\/1\.1 431 /u);
  expect(gate.backend.connections).toHaveLength(0);
  expect((await gate.proxy.scrape()).value(REFUSED, { reason: 'header_too_large' })).toBe(1);
  await gate.endsWithNothingLeaked();
});

test.each(['CONNECT gitlab:443', `TRACE ${ALLOWED}`])('%s gets 405', async (begin) => {
  const gate = await startPlain();
  expect(await send(gate, `${begin} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`)).toMatch(
    /^HTTP\/1\.1 405 /u,
  );
  expect(gate.backend.connections).toHaveLength(0);
  expect((await gate.proxy.scrape()).value(REFUSED, { reason: 'method' })).toBe(1);
  await gate.endsWithNothingLeaked();
});

test('malformed chunks are an error for upstream, and never the end of a request', async () => {
  const gate = await startPlain();
  const ends: string[] = [];
  gate.backend.handler = (request) => {
    request.once('end', () => ends.push('whole'));
    request.once('error', ({ message }) => ends.push(message));
    request.resume();
  };
  const socket = await tcpClient(gate.port);
  socket.write(`POST ${ALLOWED} HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`);
  await expect.poll(() => gate.backend.connections.length).toBe(1);
  socket.write('5;x\nGET / HTTP/1.1\r\n\r\n');
  await readToEnd(socket);
  await expect.poll(() => ends).toEqual(['aborted']);
  expect(await gate.proxy.log.waitForClose('request_malformed')).toMatchObject({
    'close.initiator': 'proxy',
  });
  await gate.endsWithNothingLeaked();
});

test('content that http2-proxy or Node would send without its length is framed: the next request is the next', async () => {
  const gate = await startGate({ listener: { listen: PLAIN }, more: ONE_WORKER });
  const smuggled = `GET /smuggled HTTP/1.1\r\n${HOST}\r\n`;
  const chunk = `${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`;
  for (const method of ['DELETE', 'POST', 'PROPFIND']) {
    const answer = await send(
      gate,
      `${method} ${ALLOWED} HTTP/1.1\r\n${HOST}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 200 /u);
    expect(gate.backend.last).toMatchObject({ method, body: Buffer.from(smuggled) });
    expect(gate.backend.last.headers['transfer-encoding']).toBe('chunked');
  }
  expect(await gate.ask(ALLOWED, { method: 'DELETE' })).toMatchObject({ status: 200 });
  // A length of 0 for a GET is none.
  expect(await gate.ask(ALLOWED, { headers: { 'content-length': '0' } })).toMatchObject({ status: 200 });
  expect(gate.backend.requests.map(({ url }) => url)).toEqual(Array.from({ length: 5 }, () => ALLOWED));
  // All of it went over one connection.
  expect(gate.backend.connections).toHaveLength(1);
  await gate.endsWithNothingLeaked();
});

describe('over HTTP/2', () => {
  test('what HTTP/2 forbids does not pass, and other requests of the connection do', async () => {
    const gate = await startGate();
    const session = http2Client(gate.port, { ca: gate.ca.caPem });
    const bad: readonly Readonly<Record<string, string | string[]>>[] = [
      { ':path': ALLOWED, ':authority': 'gitlab', host: 'other' },
      { ':path': ALLOWED, 'content-length': '5' },
      { ':path': `${ALLOWED}#x` },
      { ':path': ALLOWED, ':authority': 'gitlab/x' },
      { ':path': 'api/v4/internal/allowed' },
      { ':path': ALLOWED, ':scheme': 'file' },
    ];
    for (const headers of bad) {
      const answer = await askHttp2(session, headers).catch((error: unknown) => error);
      expect(answer).not.toMatchObject({ headers: { ':status': 200 } });
    }
    const good = await askHttp2(session, { ':path': ALLOWED, cookie: ['a=1', 'b=2'] });
    expect(good.headers[':status']).toBe(200);
    expect(gate.backend.last.headers.cookie).toBe('a=1; b=2');
    expect(gate.backend.requests).toHaveLength(1);
    session.close();
    await gate.proxy.log.waitForClose('finished');
    await gate.endsWithNothingLeaked();
  });

  test('content of a GET, which no header has announced, is refused before upstream hears of the request', async () => {
    const gate = await startGate({ more: ONE_WORKER });
    const session = http2Client(gate.port, { ca: gate.ca.caPem });
    // Over a connection that is kept, where a GET would be repeated.
    expect((await askHttp2(session, { ':path': ALLOWED })).headers[':status']).toBe(200);
    for (const method of ['GET', 'HEAD', 'OPTIONS']) {
      const answer = await askHttp2(session, { ':method': method, ':path': ALLOWED }, 'content');
      expect([method, answer.headers[':status']]).toEqual([method, 400]);
    }
    // One that ends without content, and says so later than with its header, is as good as any.
    expect((await askHttp2(session, { ':path': ALLOWED }, '')).headers[':status']).toBe(200);
    expect(gate.backend.requests).toHaveLength(2);
    session.close();
    await gate.endsWithNothingLeaked();
  });

  const POST = { ':method': 'POST', ':scheme': 'https', ':path': ALLOWED, ':authority': 'gitlab' };

  /** An HTTP/2 client that writes its frames itself, and all that has come to it. */
  async function rawClient(gate: Gate): Promise<{ client: TLSSocket; received: () => string }> {
    const client = await tlsClient(gate.port, { ca: gate.ca.caPem });
    const chunks: Buffer[] = [];
    client.on('data', (bytes: Buffer) => chunks.push(bytes));
    return { client, received: () => Buffer.concat(chunks).toString('latin1') };
  }

  test('the stream is reset, or the connection ended, and upstream has no whole request, for', async () => {
    const cases: readonly (readonly [what: string, fields: Readonly<Record<string, string | undefined>>])[] =
      [
        ['a length that is too long', { 'content-length': '5' }],
        ['a length that is too short', { 'content-length': '2' }],
        ['a length with a sign', { 'content-length': '+3' }],
        ['transfer-encoding', { 'transfer-encoding': 'chunked' }],
        ['connection', { connection: 'close' }],
        ['upgrade', { upgrade: 'h2c' }],
        ['te other than trailers', { te: 'gzip' }],
        ['a name in capitals', { 'X-A': 'b' }],
        ['a pseudo-header of its own', { ':x': 'b' }],
        ['a pseudo-header of answers', { ':status': '200' }],
        ['a protocol', { ':protocol': 'websocket' }],
        ['an empty path', { ':path': '' }],
        ['a path with a space', { ':path': `${ALLOWED} HTTP/1.1` }],
        ['a path with a line break', { ':path': `${ALLOWED} HTTP/1.1\r\nA: b` }],
        ['no host', { ':authority': undefined }],
      ];
    const gate = await startGate();
    for (const [index, [what, fields]] of cases.entries()) {
      const given = Object.entries<string | undefined>({ ...POST, ...fields }).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, value] as const],
      );
      const { client, received } = await rawClient(gate);
      client.write(
        Buffer.concat([
          HTTP2_PREFACE,
          headers(1, Object.fromEntries(given)),
          frame(DATA, END_STREAM, 1, Buffer.from('abc')),
        ]),
      );
      const reset = frame(RST_STREAM, 0, 1, uint32(PROTOCOL_ERROR));
      // Of content that is longer than it should be Node 22 and later make the end of the connection.
      const goaway = frame(GOAWAY, 0, 0, Buffer.concat([uint32(1), uint32(INTERNAL_ERROR)]));
      await expect
        .poll(() => [reset, goaway].some((refusal) => received().includes(refusal.toString('latin1'))), {
          message: what,
        })
        .toBe(true);
      // Others are served.
      expect(await gate.ask(ALLOWED)).toMatchObject({ status: 200 });
      expect(gate.backend.requests, what).toHaveLength(index + 1);
      client.destroy();
    }
    await gate.endsWithNothingLeaked();
  });

  const MALFORMED = '{"message":"the request is malformed"}';

  test('a field that HTTP forbids: the request is refused with 400, and others of the connection pass', async () => {
    const cases: readonly (readonly [what: string, fields: Readonly<Record<string, string>>])[] = [
      ['CR LF in a value', { a: 'b\r\nc: d' }],
      ['a CR in a value', { a: 'b\rc' }],
      ['an LF in a value', { a: 'b\nc' }],
      ['a NUL in a value', { a: 'b\0c' }],
      ['a CR at the end of a long value', { a: `${'b'.repeat(120)}\r` }],
      ['white space before a value', { a: ' b' }],
      ['CR LF in a name', { 'a\r\nb': 'c' }],
      ['a colon in a name', { 'a:b': 'c' }],
      ['a space in a name', { 'a b': 'c' }],
      ['another host, with a character that no host has', { host: 'other"' }],
      ['an invalid host', { ':authority': 'a:1:2', host: 'a:1:2' }],
      ['an IPv6 address without its bracket', { ':authority': '[::1', host: '[::1' }],
      ['an invalid authority', { ':authority': 'h:99999' }],
    ];
    const gate = await startGate({ more: ONE_WORKER });
    for (const [index, [what, fields]] of cases.entries()) {
      const { client, received } = await rawClient(gate);
      client.write(
        Buffer.concat([
          HTTP2_PREFACE,
          headers(1, POST, END_STREAM),
          headers(3, { ...POST, ...fields }, END_STREAM),
          headers(5, POST, END_STREAM),
        ]),
      );
      await expect
        .poll(() => [received().includes(MALFORMED), gate.backend.requests.length], { message: what })
        .toEqual([true, 2 * (index + 1)]);
      client.destroy();
    }
    const line = await gate.proxy.log.waitForEvent('http_request_refused', { 'http.refusal': 'malformed' });
    expect(line).toMatchObject({ 'http.status': 400, 'http.ended_by': 'proxy' });
    expect(JSON.stringify(line)).toContain('a header field contains a forbidden character');
    expect((await gate.proxy.scrape()).value(REFUSED, { reason: 'malformed' })).toBe(cases.length);
    await gate.endsWithNothingLeaked();
  });

  test('CR LF in a trailer: the request is refused, and upstream sees that it was cut', async () => {
    const gate = await startGate({ more: ONE_WORKER });
    const ends: string[] = [];
    gate.backend.handler = (request) => {
      request.once('end', () => ends.push('whole'));
      request.once('error', ({ message }) => ends.push(message));
      request.resume();
    };
    const { client, received } = await rawClient(gate);
    client.write(Buffer.concat([HTTP2_PREFACE, headers(1, POST), frame(DATA, 0, 1, Buffer.from('abc'))]));
    await expect.poll(() => gate.backend.connections.length).toBe(1);
    client.write(headers(1, { a: 'b\r\nc: d' }, END_STREAM));
    await expect.poll(() => received()).toContain(MALFORMED);
    await expect.poll(() => ends).toEqual(['aborted']);
    client.destroy();
    await gate.endsWithNothingLeaked();
  });

  test('CR LF in a trailer when the answer has begun: the stream is reset, and upstream sees that it was cut', async () => {
    const gate = await startGate({ more: ONE_WORKER });
    const ends: string[] = [];
    gate.backend.handler = (request, response) => {
      request.once('end', () => ends.push('whole'));
      request.once('error', ({ message }) => ends.push(message));
      request.once('data', () => response.write('begun'));
    };
    const { client, received } = await rawClient(gate);
    client.write(Buffer.concat([HTTP2_PREFACE, headers(1, POST), frame(DATA, 0, 1, Buffer.from('abc'))]));
    await expect.poll(() => received()).toContain('begun');
    client.write(headers(1, { a: 'b\r\nc: d' }, END_STREAM));
    await expect
      .poll(() => received())
      .toContain(frame(RST_STREAM, 0, 1, uint32(INTERNAL_ERROR)).toString('latin1'));
    await expect.poll(() => ends).toEqual(['aborted']);
    expect(
      await gate.proxy.log.waitForEvent('http_request_refused', { 'http.refusal': 'malformed' }),
    ).toBeDefined();
    client.destroy();
    await gate.endsWithNothingLeaked();
  });

  test('a header of too many bytes gets 431, and one of too many fields a reset; other requests of the connection pass', async () => {
    const gate = await startGate({ more: ONE_WORKER });
    const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `a${index + 100}`);
    const answers: (() => void)[] = [];
    gate.backend.handler = (_request, response) => void answers.push(() => response.end('served'));
    const { client, received } = await rawClient(gate);
    client.write(Buffer.concat([HTTP2_PREFACE, headers(1, POST, END_STREAM)]));
    await expect.poll(() => answers.length).toBe(1);
    const many = headers(3, {
      ...POST,
      ...Object.fromEntries(names(MAX_HEADER_FIELDS).map((name) => [name, 'b'])),
    });
    // RFC 7541 section 5.1: 600 as an integer with a prefix of 7 bits. With 32 bytes a field that is more than 64 KiB.
    const value = Buffer.concat([Buffer.of(0x7f, 0xd9, 0x03), Buffer.alloc(600, 'b')]);
    const large = Buffer.concat([
      block(POST),
      ...names(104).map((name) => Buffer.concat([Buffer.of(0, name.length), Buffer.from(name), value])),
    ]);
    const parts = [0, 1, 2, 3].map((part) => large.subarray(part * 16_384, (part + 1) * 16_384));
    const frames = parts.map((part, index) =>
      frame(
        index === 0 ? HEADERS : CONTINUATION,
        (index === 0 ? END_STREAM : 0) | (index === 3 ? END_HEADERS : 0),
        5,
        part,
      ),
    );
    client.write(Buffer.concat([many, ...frames, headers(7, POST, END_STREAM)]));
    await expect.poll(() => answers.length).toBe(2);
    for (const answer of answers) answer();
    await expect.poll(() => received().match(/served/gu)?.length).toBe(2);
    expect(received()).toContain(frame(RST_STREAM, 0, 3, uint32(ENHANCE_YOUR_CALM)).toString('latin1'));
    expect(received()).toContain('{"message":"the header of the request is too large"}');
    expect((await gate.proxy.scrape()).value(REFUSED, { reason: 'header_too_large' })).toBe(1);
    client.destroy();
    await gate.endsWithNothingLeaked();
  });

  test('a header that cannot be decoded ends the connection, with its reason logged', async () => {
    const gate = await startGate();
    const { client, received } = await rawClient(gate);
    // An index that is in no table.
    client.write(
      Buffer.concat([HTTP2_PREFACE, frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xff, 0x80, 0x01])]),
    );
    const COMPRESSION_ERROR = 9;
    const goaway = frame(GOAWAY, 0, 0, Buffer.concat([uint32(0), uint32(COMPRESSION_ERROR)]));
    await expect.poll(() => received()).toContain(goaway.toString('latin1'));
    expect(await gate.proxy.log.waitForClose('request_malformed')).toMatchObject({
      'close.initiator': 'proxy',
    });
    client.destroy();
    await gate.endsWithNothingLeaked();
  });

  test('CONNECT gets 405', async () => {
    const gate = await startGate();
    const session = http2Client(gate.port, { ca: gate.ca.caPem });
    const stream = session.request({ ':method': 'CONNECT', ':authority': 'gitlab:443' });
    const status = await new Promise((resolve) =>
      stream.once('response', (headers) => resolve(headers[':status'])),
    );
    expect(status).toBe(405);
    session.destroy();
    await gate.endsWithNothingLeaked();
  });
});

test('a client that pipelines is served in its order, one after the other; one that goes too far is cut', async () => {
  const gate = await startPlain();
  let open = 0;
  let most = 0;
  gate.backend.handler = (request, response) => {
    most = Math.max(most, ++open);
    setImmediate(() => {
      open--;
      response.end(request.url);
    });
  };
  const get = (index: number, more = ''): string => `GET ${ALLOWED}?${index} HTTP/1.1\r\n${HOST}${more}\r\n`;
  const answer = await send(
    gate,
    [0, 1, 2, 3].map((index) => get(index)).join('') + get(4, 'Connection: close\r\n'),
  );
  expect(answer.match(/allowed\?\d/gu)).toEqual([0, 1, 2, 3, 4].map((index) => `allowed?${index}`));
  expect(most).toBe(1);
  const socket = await tcpClient(gate.port);
  socket.write(Array.from({ length: 1000 }, (_, index) => get(index)).join(''));
  expect((await readToEnd(socket)).kind).toBe('reset');
  expect(await gate.proxy.log.waitForClose('abuse')).toMatchObject({ 'close.initiator': 'proxy' });
  await gate.endsWithNothingLeaked();
});

test('what comes behind a request whose answer ends the connection is not passed on', async () => {
  const gate = await startPlain();
  const passed: (string | undefined)[] = [];
  gate.backend.handler = (request, response) => {
    passed.push(request.url);
    response.end('answer');
  };
  // Upstream has not told the client to go on: what follows may be the content, or the next request.
  const unasked = `POST ${ALLOWED} HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello`;
  const behind = `POST ${ALLOWED}?behind HTTP/1.1\r\n${HOST}Content-Length: 0\r\n\r\n`;
  const answer = await send(gate, `${unasked}${behind}`);
  expect(answer).toMatch(/^HTTP\/1\.1 200 [^]*\r\nconnection: close\r\n/iu);
  expect(answer.match(/HTTP\/1\.1 /gu)).toHaveLength(1);
  expect(passed).toEqual([ALLOWED]);
  await gate.endsWithNothingLeaked();
});
