import { createServer, type Socket } from 'node:net';

import { expect, onTestFinished, test } from 'vitest';

import { readToEnd, tcpClient } from '../support/clients.js';
import { ALLOWED, PLAIN, startGate, type Gate } from '../support/gate.js';
import { askHttp2, http2Client } from '../support/http-clients.js';
import { shell } from '../support/shell.js';

/** An upstream that answers whatever comes with these bytes, and keeps the connection. */
async function upstreamThatSays(answer: string): Promise<string> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined).on('data', () => void socket.write(answer, 'latin1'));
  });
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return `http://127.0.0.1:${address !== null && typeof address === 'object' ? address.port : 0}`;
}

/** A gate of both versions in front of it. */
async function gateBefore(answer: string): Promise<Gate> {
  const forward = await upstreamThatSays(answer);
  return startGate({ listener: { forward } });
}

test.each([
  ['204 with a length', 'GET', 'HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n', 204, undefined],
  ['204 with a length of 0', 'GET', 'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n', 204, undefined],
  ['204 in chunks', 'GET', 'HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n', 204, undefined],
  ['204 with content', 'GET', 'HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok', 204, undefined],
  ['205 with content', 'GET', 'HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nok', 205, '0'],
  [
    '205 in chunks',
    'GET',
    'HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    205,
    '0',
  ],
  [
    '304 with the length of what is not sent',
    'GET',
    'HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n',
    304,
    '500',
  ],
  [
    '1xx before it',
    'GET',
    'HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n',
    204,
    undefined,
  ],
  ['the length of what is not sent', 'HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n', 200, '500'],
  ['content', 'HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', 200, '2'],
  [
    'chunks',
    'HEAD',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    200,
    undefined,
  ],
])(
  'an answer with %s to %s has no content, in both versions',
  async (_what, method, answer, status, length) => {
    const gate = await gateBefore(answer);
    const session = http2Client(gate.port, { ca: gate.ca.caPem });
    const [two, one] = [
      await askHttp2(session, { ':method': method, ':path': ALLOWED }),
      await gate.ask(ALLOWED, { method }),
    ];
    expect(two).toMatchObject({ headers: { ':status': status }, body: '' });
    expect(two.headers['content-length']).toBe(length);
    expect(one).toMatchObject({ status, body: '' });
    expect(one.headers['content-length']).toBe(length);
    const curl = await shell(
      `curl -sS -o /dev/null --http2 ${method === 'HEAD' ? '-I' : ''} --cacert ${gate.ca.caPath} -w '%{http_code}' https://localhost:${gate.port}${ALLOWED}`,
    );
    expect(curl.output.trim()).toBe(String(status));
    session.close();
    await gate.proxy.scrapeUntil((scrape) => scrape.value('gitaly_tls_proxy_connections_active') === 0);
  },
);

test.each(['gzip, chunked', 'gzip', 'x-other, chunked'])(
  'an answer with the transfer coding %s, which nobody asked for, is 502',
  async (coding) => {
    const gate = await gateBefore(
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: ${coding}\r\n\r\n2\r\nok\r\n0\r\n\r\n`,
    );
    expect(await gate.ask(ALLOWED, { headers: { te: 'gzip' } })).toMatchObject({ status: 502 });
    const line = await gate.proxy.log.waitFor((one) => one['http.upstream_failure'] !== undefined);
    expect(line).toMatchObject({
      'http.upstream_failure': 'malformed',
      error: expect.stringContaining('it has the transfer coding') as unknown,
    });
  },
);

test('a request with another transfer coding than chunked is 501, and one that cannot be read is 400', async () => {
  const gate = await startGate({ listener: { listen: PLAIN } });
  const statusOf = async (...codings: readonly string[]): Promise<string> => {
    const client = await tcpClient(gate.port);
    const lines = codings.map((coding) => `Transfer-Encoding: ${coding}\r\n`).join('');
    client.write(
      `POST ${ALLOWED} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${lines}\r\n2\r\nok\r\n0\r\n\r\n`,
    );
    return (await readToEnd(client)).received.toString().slice(9, 12);
  };
  const codings = [
    ['gzip, chunked'],
    ['gzip', 'chunked'],
    ['identity, chunked'],
    ['X-Other , chunked'],
    ['chunked, chunked'],
    [', chunked'],
    ['gzip'],
    ['chunked, gzip'],
    ['Chunked'],
  ];
  expect(await Promise.all(codings.map((one) => statusOf(...one)))).toEqual([
    ...['501', '501', '501', '501'],
    ...['400', '400', '400', '400'],
    '200',
  ]);
  expect(gate.backend.requests.map(({ body }) => body.toString())).toEqual(['ok']);
  const scrape = await gate.proxy.scrape();
  expect(scrape.value('gitaly_tls_proxy_http_requests_refused_total', { reason: 'transfer_coding' })).toBe(4);
  await gate.endsWithNothingLeaked();
});
