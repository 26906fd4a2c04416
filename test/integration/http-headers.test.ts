import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import { readToEnd, tcpClient } from '../support/clients.js';
import { ALLOWED, ONE_WORKER, PLAIN, presenting, requiring, startGate } from '../support/gate.js';
import { askHttp2, http2Client } from '../support/http-clients.js';
import { HttpBackend } from '../support/http-backend.js';

/** What upstream knows the proxy's clients by in these tests: a PROXY header may say any address. */
const FROM_LOOPBACK = { proxy_protocol: { accept_from: ['127.0.0.1'] } };

const CLAIMS = {
  forwarded: 'for=6.6.6.6;host=evil;proto=http',
  'x-forwarded-for': '6.6.6.6',
  'x-forwarded-host': 'evil',
  'x-forwarded-proto': 'ftp',
  'x-forwarded-port': '6',
  'x-forwarded-anything': 'evil',
  x_forwarded_for: '6.6.6.6',
  'x-real-ip': '6.6.6.6',
  'x-ssl-client-verify': 'SUCCESS',
  'x-ssl-client-identity': 'gitaly-evil',
  x_ssl_client_s_dn: 'CN=evil',
  'X-Ssl_Client-Cert': 'evil',
  'x-ssl-client': '1',
  'x.ssl.client.verify': 'SUCCESS',
  'x-forwarded': 'for=6.6.6.6',
  'client-ip': '6.6.6.6',
  'x-client-ip': '6.6.6.6',
  X_Client_Ip: '6.6.6.6',
  'true-client-ip': '6.6.6.6',
  'cf-connecting-ip': '6.6.6.6',
  'cf-connecting-ipv6': '::6',
  'fastly-client-ip': '6.6.6.6',
  'x-cluster-client-ip': '6.6.6.6',
  'x-remote-ip': '6.6.6.6',
  'x-remote-addr': '6.6.6.6',
  'proxy-client-ip': '6.6.6.6',
  'wl-proxy-client-ip': '6.6.6.6',
  'x-appengine-user-ip': '6.6.6.6',
  'x-appengine-remote-addr': '6.6.6.6',
  'x-azure-clientip': '6.6.6.6',
  'x-azure-socketip': '6.6.6.6',
  'x-envoy-external-address': '6.6.6.6',
  'x-original-forwarded-for': '6.6.6.6',
  'x-original-host': 'evil',
  'x-original-url': '/evil',
  'x-rewrite-url': '/evil',
};

test('hop-by-hop fields are removed in both directions, all others are forwarded in their order', async () => {
  const gate = await startGate({ listener: { listen: PLAIN } });
  gate.backend.handler = (_request, response) => {
    response.writeHead(200, 'Very Well', [
      ['Connection', 'close, x-hop'],
      ['X-Hop', 'b'],
      ['Keep-Alive', 'timeout=5'],
      ['Proxy-Authenticate', 'Basic'],
      ['Upgrade', 'h2c'],
      ['Set-Cookie', 'a=1'],
      ['Set-Cookie', 'b=2'],
      ['X-End', 'to end'],
      ['Content-Length', '2'],
    ]);
    response.end('ok');
  };
  const seen: (readonly string[])[] = [];
  gate.backend.server.on('request', ({ rawHeaders }) => seen.push(rawHeaders));
  const socket = await tcpClient(gate.port);
  socket.write(
    [
      `GET ${ALLOWED} HTTP/1.1`,
      'Host: gitlab:8443',
      'Connection: close, X-Nominated, keep-alive',
      'X-Nominated: gone',
      'Keep-Alive: timeout=9',
      'Proxy-Connection: keep-alive',
      'Proxy-Authorization: Basic gone',
      'TE: gzip, trailers;q=0.5',
      'Upgrade: websocket',
      'HTTP2-Settings: gone',
      'Transfer_Encoding: gone',
      'Content_Length: 9',
      'Via: 1.0 before',
      'Accept: a',
      'X-Twice: 1',
      'X-Twice: 2',
      'PRIVATE-TOKEN: kept',
      '\r\n',
    ].join('\r\n'),
  );
  const answer = (await readToEnd(socket)).received.toString();
  expect(seen).toEqual([
    [
      ...['host', 'gitlab:8443', 'accept', 'a', 'x-twice', '1', 'x-twice', '2', 'private-token', 'kept'],
      // Our own hop's.
      ...['connection', 'te, keep-alive', 'te', 'trailers'],
      ...['forwarded', 'for=unknown;host="gitlab:8443";proto=http'],
      ...[
        'x-forwarded-host',
        'gitlab:8443',
        'x-forwarded-proto',
        'http',
        'via',
        '1.0 before, 1.1 gitaly-tls-proxy',
      ],
    ],
  ]);
  const [head = ''] = answer.split('\r\n\r\n');
  const [status, ...fields] = head.split('\r\n');
  expect(status).toBe('HTTP/1.1 200 Very Well');
  expect(fields.filter((field) => !field.startsWith('date:'))).toEqual([
    'set-cookie: a=1',
    'set-cookie: b=2',
    'x-end: to end',
    'content-length: 2',
    'Connection: close',
  ]);
  await gate.endsWithNothingLeaked();
});

describe('fields that only the proxy may set are replaced, never joined,', () => {
  test('over HTTP/1.1, with the address from the PROXY header', async () => {
    const gate = await startGate({ listener: { listen: PLAIN, ...FROM_LOOPBACK } });
    for (const [address, node] of [
      ['TCP4 192.0.2.7 192.0.2.1 5000 443', '192.0.2.7'],
      ['TCP6 2001:db8::7 2001:db8::1 5000 443', '2001:db8::7'],
    ] as const) {
      const socket = await tcpClient(gate.port);
      const claims = Object.entries(CLAIMS).map(([name, value]) => `${name}: ${value}\r\n`);
      socket.write(
        `PROXY ${address}\r\nGET ${ALLOWED} HTTP/1.1\r\nHost: gitlab\r\nConnection: close\r\n${claims.join('')}\r\n`,
      );
      expect((await readToEnd(socket)).received.toString()).toMatch(/^HTTP\/1\.1 200 /);
      expect(gate.backend.last.headers).toEqual({
        host: 'gitlab',
        forwarded: `for=${node.includes(':') ? `"[${node}]"` : node};host="gitlab";proto=http`,
        'x-forwarded-for': node,
        'x-forwarded-host': 'gitlab',
        'x-forwarded-proto': 'http',
        via: '1.1 gitaly-tls-proxy',
        connection: 'keep-alive',
      });
    }
    await gate.endsWithNothingLeaked();
  });

  test('over HTTP/2, and in trailers', async () => {
    const gate = await startGate();
    const session = http2Client(gate.port, { ca: gate.ca.caPem });
    const stream = session.request(
      {
        ':method': 'POST',
        ':path': ALLOWED,
        ...CLAIMS,
        'x-ssl_client-cert': 'evil',
        'X-Ssl_Client-Cert': [],
      },
      { waitForTrailers: true },
    );
    stream.once('wantTrailers', () =>
      stream.sendTrailers({ ...CLAIMS, 'X-Ssl_Client-Cert': [], authorization: 'Bearer evil', 'x-sum': '1' }),
    );
    stream.end('content');
    await new Promise((resolve) => stream.resume().once('close', resolve));
    const { headers, trailers } = gate.backend.last;
    expect(Object.keys(headers).filter((name) => name in CLAIMS || /ssl|client/.test(name))).toEqual([
      'forwarded',
      'x-forwarded-host',
      'x-forwarded-proto',
    ]);
    expect(headers).toMatchObject({ 'x-forwarded-proto': 'https', via: '2.0 gitaly-tls-proxy' });
    expect(trailers).toEqual({ 'x-sum': '1' });
    session.close();
    await gate.proxy.log.waitForClose('finished');
    await gate.endsWithNothingLeaked();
  });
});

test('client_certificate_headers: upstream gets the verified certificate, and no other', async () => {
  const gate = await startGate((ca) => ({
    ...requiring(ca, 'optional'),
    listener: { client_certificate_headers: true },
  }));
  const ssl = (): Readonly<Record<string, unknown>> =>
    Object.fromEntries(Object.entries(gate.backend.last.headers).filter(([name]) => /ssl/.test(name)));
  const client = await gate.ca.client({ dns: ['gitaly-a.internal'], commonName: 'Gitaly ü 50%' });
  expect(await gate.ask(ALLOWED, { ...presenting(client), headers: CLAIMS })).toMatchObject({ status: 200 });
  const { serialNumber, fingerprint256 } = new X509Certificate(client.certificatePem);
  const expected = {
    'x-ssl-client-verify': 'SUCCESS',
    'x-ssl-client-identity': 'gitaly-a.internal',
    'x-ssl-client-s-dn': expect.stringMatching(/^CN=Gitaly %C3%BC 50%25$/) as unknown,
    'x-ssl-client-i-dn': 'CN=ca',
    'x-ssl-client-serial': serialNumber,
    'x-ssl-client-fingerprint': fingerprint256.replaceAll(':', '').toLowerCase(),
  };
  expect(ssl()).toEqual(expected);
  const session = http2Client(gate.port, { ca: gate.ca.caPem, ...presenting(client) });
  await askHttp2(session, { ':path': ALLOWED });
  expect(ssl()).toEqual(expected);
  session.close();
  expect(await gate.ask(ALLOWED, { headers: CLAIMS })).toMatchObject({ status: 200 });
  expect(ssl()).toEqual({ 'x-ssl-client-verify': 'NONE' });
  await gate.endsWithNothingLeaked();
});

test('Host is forwarded as received, but an https:// upstream gets its own name', async () => {
  const gate = await startGate(async (ca) => {
    const { certificatePem: cert, keyPem: key } = await ca.server();
    const backend = await HttpBackend.startTls({ cert, key });
    return { backend, listener: { listen: PLAIN, upstream_tls: { ca_path: ca.caPath } } };
  });
  expect(await gate.ask('/', { headers: { host: 'gitlab.example.com' } })).toMatchObject({ status: 200 });
  const { port } = new URL(gate.backend.url);
  expect(gate.backend.last.headers).toMatchObject({
    host: `localhost:${port}`,
    'x-forwarded-host': 'gitlab.example.com',
  });
  await gate.endsWithNothingLeaked();
});

test('over HTTP/2, two lines of one field are joined into one, in header and trailers', async () => {
  const gate = await startGate();
  gate.backend.handler = ({ socket }) => {
    socket.write(
      [
        'HTTP/1.1 200 OK',
        ...['X-Content-Type-Options: nosniff', 'X-Content-Type-Options: nosniff', 'Retry-After: 1'],
        ...['Set-Cookie: a=1', 'Retry-After: 2', 'Set-Cookie: b=2', 'Transfer-Encoding: chunked'],
        ...['', '2', 'ok', '0', 'ETag: "a"', 'X-Sum: 1', 'ETag: "b"', '\r\n'],
      ].join('\r\n'),
    );
  };
  const session = http2Client(gate.port, { ca: gate.ca.caPem });
  const { headers, body, trailers } = await askHttp2(session, { ':path': ALLOWED });
  expect(body).toBe('ok');
  expect(headers).toMatchObject({
    ':status': 200,
    'x-content-type-options': 'nosniff, nosniff',
    'retry-after': '1, 2',
    'set-cookie': ['a=1', 'b=2'],
  });
  expect({ ...trailers }).toMatchObject({ etag: '"a", "b"', 'x-sum': '1' });
  session.close();
  await gate.endsWithNothingLeaked();
});

test.each([
  ['204 No Content', 'GET'],
  ['304 Not Modified', 'GET'],
  ['200 OK', 'HEAD'],
])('content behind a %s to a %s, which has none, is not forwarded', async (status, method) => {
  const gate = await startGate({ listener: { listen: PLAIN }, more: ONE_WORKER });
  gate.backend.handler = ({ url, socket }, response) => {
    if (url === '/') socket.write(`HTTP/1.1 ${status}\r\nContent-Length: 6\r\n\r\npoison`);
    else response.end('fine');
  };
  const socket = await tcpClient(gate.port);
  socket.write(`${method} / HTTP/1.1\r\nHost: gitlab\r\nConnection: close\r\n\r\n`);
  const { received } = await readToEnd(socket);
  expect(received.toString()).not.toContain('poison');
  expect(await gate.ask('/next')).toMatchObject({ status: 200, body: 'fine' });
  await gate.endsWithNothingLeaked();
});

test('an answer that would break the client’s protocol is a 502', async () => {
  const gate = await startGate();
  const session = http2Client(gate.port, { ca: gate.ca.caPem });
  const answers = [
    'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbytes',
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello',
    'HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n',
    'SSH-2.0-OpenSSH_9.2\r\n',
    'HTTP/1.1 999 Far Out\r\nContent-Length: 0\r\n\r\n',
  ];
  gate.backend.server.removeAllListeners('connection');
  let raw = '';
  gate.backend.server.on('connection', (socket: Socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(raw, 'latin1'));
  });
  for (const answer of answers) {
    raw = answer;
    const { headers, body } = await askHttp2(session, { ':path': ALLOWED });
    expect([answer, headers[':status']]).toEqual([answer, 502]);
    expect(JSON.parse(body)).toEqual({ message: 'GitLab cannot be reached at the moment: please try again' });
  }
  session.close();
  await gate.proxy.log.waitForClose('finished');
  await gate.endsWithNothingLeaked();
});
