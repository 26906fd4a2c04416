import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ClientHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import { blackHole } from '../support/black-hole.js';
import { framesOf, type Frame, frame, headers } from '../support/http2-frames.js';
import { HTTP2_PREFACE, readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { ALLOWED, GATE, PLAIN, startGate, type Gate, type GateOptions } from '../support/gate.js';
import { holdSocket } from '../support/held-socket.js';
import { HttpBackend } from '../support/http-backend.js';
import { askHttp2, http2Client } from '../support/http-clients.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { shell } from '../support/shell.js';

const OURS = 'gitaly_tls_proxy_';
const REFUSED = `${OURS}http_requests_refused_total`;
const [DATA, PING, GOAWAY] = [0, 6, 7] as const;
const [END_STREAM, ACK] = [1, 1] as const;
const HTTP2_GET = { ':method': 'GET', ':scheme': 'https', ':path': ALLOWED, ':authority': 'gitlab' };
const GET = `GET ${ALLOWED} HTTP/1.1\r\nHost: gitlab\r\n\r\n`;

interface Held {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** Has the backend keep the requests that come, by their order. */
function hold({ backend }: { readonly backend: HttpBackend }): Held[] {
  const held: Held[] = [];
  backend.handler = (request, response) => held.push({ request, response });
  return held;
}

/** Sends SIGTERM and waits until it was taken, and everybody knows. */
async function drain(proxy: ProxyProcess): Promise<void> {
  proxy.signal('SIGTERM');
  await proxy.log.waitForEvent('draining');
}

/** What a client of HTTP/1.1 has received once it contains this. */
function receivedBy(socket: Socket): (text: string) => Promise<string> {
  let all = '';
  socket.on('data', (chunk: Buffer) => (all += chunk.toString('latin1')));
  return async (wanted) => {
    while (!all.includes(wanted)) await once(socket, 'data');
    return all;
  };
}

function plain(options: GateOptions = {}): GateOptions {
  return { ...options, listener: { listen: PLAIN, ...options.listener } };
}

describe.each([1, 2])('with %i worker(s)', (workers) => {
  const more = { workers };

  test('SIGTERM: open requests finish, new ones get 503, idle connections close, exit 0', async () => {
    const gate = await startGate(plain({ more }));
    const idle = await tcpClient(gate.port);
    idle.write(GET);
    await receivedBy(idle)('{"status":true}');
    const leaving = readToEnd(idle);
    const held = hold(gate);
    const [waiting, answering] = [await tcpClient(gate.port), await tcpClient(gate.port)];
    waiting.write(GET);
    await expect.poll(() => held.length).toBe(1);
    answering.write(GET);
    await expect.poll(() => held.length).toBe(2);
    held[1]?.response.write('part');
    await receivedBy(answering)('part');

    await drain(gate.proxy);
    await leaving;
    await expect(tcpClient(gate.port)).rejects.toThrow('ECONNREFUSED');
    // Its answer has begun, so it cannot know yet: its next request is refused in words.
    answering.write(GET);
    const refused = receivedBy(answering)('"message"');
    const endings = [readToEnd(waiting), readToEnd(answering)];
    for (const { response } of held) response.end('whole');
    expect((await Promise.all(endings)).map(({ kind }) => kind)).toEqual(['end', 'end']);
    const [whole] = await Promise.all(endings);
    expect(whole?.received.toString()).toMatch(/^HTTP\/1\.1 200 [^]*connection: close[^]*\r\n\r\n[^]*whole/i);
    expect(await refused).toMatch(
      /whole\r\n0\r\n\r\nHTTP\/1\.1 503 [^]*connection: close\r\n[^]*"message":"the proxy in front of GitLab is being restarted/i,
    );
    expect(await gate.proxy.exited).toBe(0);
    expect(held).toHaveLength(2);
    await gate.proxy.log.waitForEvent('http_request_refused', { 'http.refusal': 'draining' });
    await gate.proxy.log.waitForClose('drained');
  });

  test('SIGTERM: HTTP/2 clients get GOAWAY, their requests finish, exit 0', async () => {
    const gate = await startGate({ more });
    const held = hold(gate);
    const sessions = [0, 1].map(() => http2Client(gate.port, { ca: gate.ca.caPem }));
    const goaways = sessions.map((session) => goawaysOf(session));
    const answers = sessions.map((session) => askHttp2(session, { ':path': ALLOWED }));
    await expect.poll(() => held.length).toBe(2);
    await drain(gate.proxy);
    // The first names no last stream, the second the true one.
    await expect.poll(() => goaways.map(({ length }) => length)).toEqual([2, 2]);
    expect(goaways).toEqual([
      [2 ** 31 - 1, 1],
      [2 ** 31 - 1, 1],
    ]);
    for (const { response } of held) response.end('whole');
    expect((await Promise.all(answers)).map(({ body }) => body)).toEqual(['whole', 'whole']);
    expect(await gate.proxy.exited).toBe(0);
  });

  test('requests that are open at graceful_restart_timeout are aborted, exit 1', async () => {
    const gate = await startGate({ more: { ...more, graceful_restart_timeout: '300ms' } });
    const held = hold(gate);
    // Node's own client takes a reset after a GOAWAY for the end of its streams.
    const two = shell(
      `curl -sSN --http2 --cacert ${gate.ca.caPath} https://localhost:${gate.port}${ALLOWED}; echo " exit code $?"`,
    );
    const socket = await tlsClient(gate.port, { ca: gate.ca.caPem, ALPNProtocols: ['http/1.1'] });
    socket.write(GET);
    await expect.poll(() => held.length).toBe(2);
    for (const { response } of held) response.write('part');
    await receivedBy(socket)('part');
    const ending = readToEnd(socket);
    gate.proxy.signal('SIGTERM');
    expect((await ending).kind).toBe('reset');
    expect((await two).output).toMatch(/^part exit code (?:56|92)\n/);
    expect(await gate.proxy.exited).toBe(1);
    const line = await gate.proxy.log.waitForEvent('stop_incomplete');
    expect(line).toMatchObject({ connections: 2 });
    expect(await gate.proxy.log.waitForEvent('http_request_aborted', { 'http.method': 'GET' })).toMatchObject(
      {
        'http.ended_by': 'proxy',
      },
    );
  });

  test('SIGHUP: new listeners serve, removed ones let requests finish, and a new rule holds for the next request', async () => {
    // Another host: listeners on port 0 of one are told apart by their order.
    const listen = 'http://127.0.0.2:0';
    const gate = await startGate({ more, listener: { listen } });
    const socket = await tcpClient(gate.port, '127.0.0.2');
    const received = receivedBy(socket);
    socket.write(GET);
    await received('{"status":true}');
    const other = await HttpBackend.start();
    await gate.proxy.configure({
      ...gate.configuration,
      listeners: [
        { listen, forward: other.url, paths: ['/api/v4/internal/check'] },
        { listen: GATE, forward: gate.backend.url },
      ],
      ...more,
    });
    gate.proxy.signal('SIGHUP');
    await gate.proxy.log.waitForEvent('reloaded');
    // On the connection that was open before.
    socket.write(GET + GET.replace('allowed', 'check').replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
    await readToEnd(socket);
    expect(await received('true}')).toMatch(
      /\{"status":true\}HTTP\/1\.1 404 [^]*HTTP\/1\.1 200 [^]*\{"status":true\}$/,
    );
    expect(other.last.url).toBe('/api/v4/internal/check');
    const port = await gate.proxy.port(GATE);
    const session = http2Client(port, { ca: gate.ca.caPem });
    expect((await askHttp2(session, { ':path': ALLOWED })).headers[':status']).toBe(200);
    session.close();

    const held = hold({ backend: other });
    const last = await tcpClient(gate.port, '127.0.0.2');
    last.write(GET.replace('allowed', 'check'));
    await expect.poll(() => held.length).toBe(1);
    await gate.proxy.configure({
      ...gate.configuration,
      listeners: [{ listen: GATE, forward: other.url }],
      ...more,
    });
    gate.proxy.signal('SIGHUP');
    await gate.proxy.log.waitForEvent('listener_removed');
    const ending = readToEnd(last);
    held[0]?.response.end('whole');
    expect((await ending).received.toString()).toMatch(/connection: close[^]*whole/i);
    other.closeConnections();
    await gate.endsWithNothingLeaked();
  });

  test('a renewed certificate is served to new connections, and an open one is kept', async () => {
    const gate = await startGate({ more });
    const session = http2Client(gate.port, { ca: gate.ca.caPem });
    await askHttp2(session, { ':path': ALLOWED });
    const renewed = await gate.ca.server();
    await gate.proxy.configure({
      tls: { certificate_path: renewed.certificatePath, key_path: renewed.keyPath },
      listeners: gate.configuration.listeners,
      ...more,
    });
    gate.proxy.signal('SIGHUP');
    await gate.proxy.log.waitForEvent('reloaded');
    const fresh = await tlsClient(gate.port, { ca: gate.ca.caPem });
    expect(fresh.getPeerCertificate().serialNumber.toLowerCase()).toBe(renewed.serialNumber);
    fresh.destroy();
    expect((await askHttp2(session, { ':path': ALLOWED })).headers[':status']).toBe(200);
    session.close();
    await gate.endsWithNothingLeaked();
  });
});

test('max_connection_age: requests are served, and the connection ends behind one of them', async () => {
  const gate = await startGate({ more: { max_connection_age: '300ms' } });
  const session = http2Client(gate.port, { ca: gate.ca.caPem });
  const goaways = goawaysOf(session);
  const socket = await tlsClient(gate.port, { ca: gate.ca.caPem, ALPNProtocols: ['http/1.1'] });
  const ending = readToEnd(socket);
  const held = hold(gate);
  const answer = askHttp2(session, { ':path': ALLOWED });
  socket.write(GET);
  await expect.poll(() => held.length).toBe(2);
  await expect.poll(() => goaways.length).toBe(2);
  for (const { response } of held) response.end('whole');
  expect((await answer).body).toBe('whole');
  const { kind, received } = await ending;
  expect([kind, received.toString()]).toEqual(['end', expect.stringMatching(/^HTTP\/1\.1 200 [^]*whole/)]);
  const line = await gate.proxy.log.waitForClose('drained');
  expect(line['close.detail']).toBe('max_connection_age');
  expect((await gate.proxy.scrape()).value(REFUSED)).toBe(0);
  await gate.endsWithNothingLeaked();
});

const OTHER_LISTENER = 'http://127.0.0.3:0';

const DRAINS = {
  SIGTERM: { more: {}, begin: ({ proxy }: Gate): void => proxy.signal('SIGTERM') },
  max_connection_age: { more: { max_connection_age: '300ms' }, begin: (): void => undefined },
  'removing the listener': {
    more: {},
    begin: async ({ proxy, configuration, backend }: Gate): Promise<void> => {
      const listeners = [{ listen: OTHER_LISTENER, forward: backend.url }];
      await proxy.configure({ ...configuration, listeners });
      proxy.signal('SIGHUP');
    },
  },
} as const;

test.each(Object.keys(DRAINS) as (keyof typeof DRAINS)[])(
  '%s: HTTP/2 requests that cross the first GOAWAY are served',
  async (what) => {
    const { more, begin } = DRAINS[what];
    const gate = await startGate({ more });
    const client = await tlsClient(gate.port, { ca: gate.ca.caPem });
    let received = Buffer.alloc(0);
    client.on('data', (bytes: Buffer) => (received = Buffer.concat([received, bytes])));
    const until = async (done: (frames: readonly Frame[]) => unknown): Promise<void> => {
      while (!done(framesOf(received))) await once(client, 'data');
    };
    client.write(Buffer.concat([HTTP2_PREFACE, headers(1, HTTP2_GET, END_STREAM)]));
    await until((frames) => frames.some(({ streamId }) => streamId === 1));
    await begin(gate);
    await until((frames) => frames.some(({ type }) => type === PING));
    // Sent before GOAWAY was seen, as far as the proxy can tell.
    client.write(Buffer.concat([headers(3, HTTP2_GET, END_STREAM), headers(5, HTTP2_GET, END_STREAM)]));
    await until((frames) => [3, 5].every((id) => frames.some(({ streamId }) => streamId === id)));
    const ending = readToEnd(client);
    const ping = framesOf(received).find(({ type }) => type === PING);
    client.write(frame(PING, ACK, 0, ping?.payload));
    await ending;
    const frames = framesOf(received);
    const answers = frames.filter(({ type, streamId }) => type === DATA && streamId > 1);
    expect(Buffer.concat(answers.map(({ payload }) => payload)).toString()).toBe('{"status":true}'.repeat(2));
    const goaways = frames.filter(({ type }) => type === GOAWAY);
    expect(goaways.map(({ payload }) => payload.readUInt32BE(0))).toEqual([2 ** 31 - 1, 5]);
    await gate.proxy.log.waitForClose('drained');
    if (what === 'SIGTERM') expect(await gate.proxy.exited).toBe(0);
    else await gate.endsWithNothingLeaked();
  },
);

test('max_connections holds for HTTP as for all', async () => {
  const gate = await startGate({ more: { max_connections: 1 } });
  const session = http2Client(gate.port, { ca: gate.ca.caPem });
  await askHttp2(session, { ':path': ALLOWED });
  const refused = await tcpClient(gate.port);
  expect((await readToEnd(refused)).received).toHaveLength(0);
  await gate.proxy.scrapeUntil(
    (scrape) => scrape.value(`${OURS}connections_dropped_total`, { reason: 'max_connections' }) === 1,
  );
  session.close();
  await gate.endsWithNothingLeaked();
});

test('with 64 descriptors (ulimit -n 64) requests above them get 503, and later ones are served', async () => {
  const gate = await startGate({ openFiles: 64 });
  const held = hold(gate);
  const session = http2Client(gate.port, { ca: gate.ca.caPem });
  const answers = Array.from({ length: 100 }, () => askHttp2(session, { ':path': ALLOWED }));
  const refused = await gate.proxy.scrapeUntil((scrape) => {
    const inFlight = scrape.value(`${OURS}http_requests_in_flight`);
    return inFlight === held.length && scrape.value(REFUSED, { reason: 'descriptors' }) + inFlight === 100;
  });
  expect(refused.value(REFUSED, { reason: 'descriptors' })).toBeGreaterThan(50);
  const served = 100 - refused.value(REFUSED, { reason: 'descriptors' });
  await expect.poll(() => held.length).toBe(served);
  gate.backend.handler = undefined;
  for (const { response } of held) response.end('whole');
  const statuses = (await Promise.all(answers)).map(({ headers }) => headers[':status']);
  expect(statuses.filter((status) => status === 200)).toHaveLength(served);
  expect(statuses.filter((status) => status === 503)).toHaveLength(100 - served);
  expect((await askHttp2(session, { ':path': ALLOWED })).headers[':status']).toBe(200);
  session.close();
  await gate.endsWithNothingLeaked();
});

test('a socket from systemd is served, and what waited in it is not lost', async () => {
  const socket = await holdSocket({ host: '127.0.0.1', port: 0 });
  const listen = `http://127.0.0.1:${socket.port}`;
  const early = await tcpClient(socket.port);
  early.write(GET.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
  const gate = await startGate({ listener: { listen }, inherits: [socket.fd] });
  expect((await readToEnd(early)).received.toString()).toContain('{"status":true}');
  expect(await gate.proxy.log.waitForEvent('listening')).toMatchObject({
    listener: listen,
    inherited: true,
  });
  await gate.endsWithNothingLeaked();
});

test('a PROXY header and a request in one packet, and one in pieces, are the same', async () => {
  const gate = await startGate(plain({ listener: { proxy_protocol: { accept_from: ['127.0.0.1'] } } }));
  const header = 'PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n';
  const request = `POST ${ALLOWED} HTTP/1.1\r\nHost: gitlab\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc`;
  const whole = await tcpClient(gate.port);
  whole.write(header + request);
  expect((await readToEnd(whole)).received.toString()).toContain('{"status":true}');
  const pieces = await tcpClient(gate.port);
  pieces.setNoDelay(true);
  for (const byte of header + request) await new Promise((resolve) => pieces.write(byte, resolve));
  expect((await readToEnd(pieces)).received.toString()).toContain('{"status":true}');
  expect(gate.backend.requests.map(({ body }) => body.toString())).toEqual(['abc', 'abc']);
  const lines = await gate.proxy.log.waitForEvent('connection_closed', { 'close.reason': 'finished' });
  expect(lines).toMatchObject({
    'peer.address': '192.0.2.7:5000',
    'peer.via': expect.any(String) as unknown,
  });
  await gate.endsWithNothingLeaked();
});

test('1000 clients that reset within their request leave nothing behind', async () => {
  const gate = await startGate(plain());
  hold(gate);
  for (let round = 0; round < 20; round++) {
    const clients = await Promise.all(Array.from({ length: 50 }, () => tcpClient(gate.port)));
    for (const client of clients)
      client.write(`POST ${ALLOWED} HTTP/1.1\r\nHost: gitlab\r\nContent-Length: 9\r\n\r\nab`);
    await gate.proxy.scrapeUntil(
      (scrape) => scrape.value(`${OURS}http_requests_in_flight`) === clients.length,
    );
    for (const client of clients) client.resetAndDestroy();
    await gate.proxy.scrapeUntil((scrape) => scrape.value(`${OURS}http_requests_in_flight`) === 0);
  }
  const scrape = await gate.proxy.scrape();
  expect(scrape.value(`${OURS}http_requests_total`, { code_class: 'none', method: 'POST' })).toBe(1000);
  expect(scrape.value(`${OURS}internal_errors_total`)).toBe(0);
  await gate.endsWithNothingLeaked();
});

/** The last stream of each GOAWAY that has come. */
function goawaysOf(session: ClientHttp2Session): number[] {
  const last: number[] = [];
  session.on('goaway', (_code, lastStream: number) => last.push(lastStream));
  return last;
}

test.each([
  ['HTTP/2', 'h2', Buffer.concat([HTTP2_PREFACE, headers(1, HTTP2_GET, END_STREAM)])],
  ['HTTP/1.1', 'http/1.1', Buffer.from(GET)],
])('a client of %s that leaves ends the dial of its request', async (_version, protocol, request) => {
  const forward = (await blackHole()).replace('tcp:', 'http:');
  const gate = await startGate({
    listener: { forward },
    more: { workers: 1, timeouts: { dial: '1h' } },
  });
  const idle = gate.proxy.descriptors();
  const client = await tlsClient(gate.port, { ca: gate.ca.caPem, ALPNProtocols: [protocol] });
  client.write(request);
  // Its own connection and the dial.
  await expect.poll(() => gate.proxy.descriptors()).toBe(idle + 2);
  client.destroy();
  await gate.endsWithNothingLeaked();
  expect(gate.proxy.log.lines.filter(({ event }) => event === 'upstream_unreachable')).toEqual([]);
});
