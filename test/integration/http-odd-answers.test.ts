import { createServer, type Socket } from 'node:net';

import { expect, onTestFinished, test } from 'vitest';

import { readToEnd, tcpClient } from '../support/clients.js';
import { ALLOWED, PLAIN, startGate } from '../support/gate.js';
import { askHttp2, http2Client } from '../support/http-clients.js';
import { shell } from '../support/shell.js';

interface OddAnswer {
  readonly method?: string;
  readonly answer: string;
  /** What the client gets, without content. */
  readonly status: number;
  readonly length?: string;
}

const NO_CONTENT = 'HTTP/1.1 204 No Content\r\n';
const RESET_CONTENT = 'HTTP/1.1 205 Reset Content\r\n';
const OK = 'HTTP/1.1 200 OK\r\n';
const CHUNKED = 'Transfer-Encoding: chunked\r\n\r\n';
const CHUNKS = '2\r\nok\r\n0\r\n\r\n';

/** Answers that have no content, whatever their fields say and whatever follows. */
const WITHOUT_CONTENT: readonly OddAnswer[] = [
  { answer: `${NO_CONTENT}Content-Length: 5\r\n\r\n`, status: 204 },
  { answer: `${NO_CONTENT}Content-Length: 0\r\n\r\n`, status: 204 },
  { answer: `${NO_CONTENT}Content-Length: 2\r\n\r\nok`, status: 204 },
  { answer: `${NO_CONTENT}${CHUNKED}`, status: 204 },
  { answer: `${NO_CONTENT}${CHUNKED}${CHUNKS}`, status: 204 },
  { answer: `HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n${NO_CONTENT}\r\n`, status: 204 },
  { answer: `${RESET_CONTENT}Content-Length: 2\r\n\r\nok`, status: 205, length: '0' },
  { answer: `${RESET_CONTENT}${CHUNKED}${CHUNKS}`, status: 205, length: '0' },
  { answer: 'HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n', status: 304, length: '500' },
  { method: 'HEAD', answer: `${OK}Content-Length: 500\r\n\r\n`, status: 200, length: '500' },
  { method: 'HEAD', answer: `${OK}Content-Length: 2\r\n\r\nok`, status: 200, length: '2' },
  { method: 'HEAD', answer: `${OK}${CHUNKED}${CHUNKS}`, status: 200 },
  { method: 'HEAD', answer: `${NO_CONTENT}Content-Length: 5\r\n\r\n`, status: 204 },
];

const FOREIGN_CODINGS = ['gzip, chunked', 'gzip', 'x-other, chunked'];

/** An upstream that answers a request for `/…/N` with the nth of these, and keeps the connection. */
async function upstreamThatSays(answers: readonly string[]): Promise<string> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      const [, index] = /^[A-Z]+ \S*\/(\d+) /u.exec(bytes.toString('latin1')) ?? [];
      if (index !== undefined) socket.write(answers[Number(index)] ?? '', 'latin1');
    });
  });
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return `http://127.0.0.1:${address !== null && typeof address === 'object' ? address.port : 0}`;
}

test('an answer without content has none in both versions, whatever upstream sends', async () => {
  const forward = await upstreamThatSays(WITHOUT_CONTENT.map(({ answer }) => answer));
  const gate = await startGate({ listener: { forward } });
  const session = http2Client(gate.port, { ca: gate.ca.caPem });
  const curls: string[] = [];
  for (const [index, { method = 'GET', answer, status, length }] of WITHOUT_CONTENT.entries()) {
    const path = `${ALLOWED}/${index}`;
    const two = await askHttp2(session, { ':method': method, ':path': path });
    expect(
      { status: two.headers[':status'], length: two.headers['content-length'], body: two.body },
      answer,
    ).toEqual({
      status,
      length,
      body: '',
    });
    const one = await gate.ask(path, { method });
    expect({ status: one.status, length: one.headers['content-length'], body: one.body }, answer).toEqual({
      status,
      length,
      body: '',
    });
    const options = method === 'HEAD' ? '-I' : '';
    curls.push(
      `curl -sS -o /dev/null --http2 ${options} --cacert ${gate.ca.caPath} -w '%{http_code} ' https://localhost:${gate.port}${path}`,
    );
  }
  expect((await shell(curls.join('; '))).output.trim()).toBe(
    WITHOUT_CONTENT.map(({ status }) => status).join(' '),
  );
  session.close();
  await gate.proxy.scrapeUntil((scrape) => scrape.value('gitaly_tls_proxy_connections_active') === 0);
});

test('an answer with a transfer coding that was not requested is a 502', async () => {
  const answers = FOREIGN_CODINGS.map((coding) => `${OK}Transfer-Encoding: ${coding}\r\n\r\n${CHUNKS}`);
  const gate = await startGate({ listener: { forward: await upstreamThatSays(answers) } });
  for (const index of FOREIGN_CODINGS.keys())
    expect(await gate.ask(`${ALLOWED}/${index}`, { headers: { te: 'gzip' } })).toMatchObject({ status: 502 });
  const line = await gate.proxy.log.waitForEvent('http_request_failed');
  expect(line).toMatchObject({
    'http.upstream_failure': 'malformed',
    error: 'it has the transfer coding "gzip"',
  });
});

test('an answer with another version of HTTP than 1.0 and 1.1 is 502', async () => {
  const answers = ['2.0', '0.9', '1.2'].map(
    (version) => `HTTP/${version} 200 OK\r\nContent-Length: 0\r\n\r\n`,
  );
  const gate = await startGate({ listener: { forward: await upstreamThatSays(answers) } });
  for (const index of answers.keys())
    expect(await gate.ask(`${ALLOWED}/${index}`)).toMatchObject({ status: 502 });
  const line = await gate.proxy.log.waitFor((one) => one['http.upstream_failure'] !== undefined);
  expect(line).toMatchObject({
    'http.upstream_failure': 'malformed',
    error: 'it has HTTP version 2.0',
  });
});

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
