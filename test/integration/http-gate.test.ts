import { connect } from 'node:tls';

import { describe, expect, test } from 'vitest';

import { Authority } from '../support/authority.js';
import { readToEnd, tcpClient } from '../support/clients.js';
import { ALLOWED, ONE_WORKER, presenting, requiring, startGate, type Gate } from '../support/gate.js';
import { HttpBackend } from '../support/http-backend.js';
import { askHttp2, http2Client } from '../support/http-clients.js';
import { isInstalled, shell } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const OURS = 'gitaly_tls_proxy_';
const REQUESTS = `${OURS}http_requests_total`;
const REFUSED = `${OURS}http_requests_refused_total`;

/** The message of an answer of the proxy's own. */
function message({ body }: { readonly body: string }): unknown {
  const content = JSON.parse(body) as { readonly message: unknown };
  return content.message;
}

/** What curl says of a request: the protocol, the status and the body. */
async function curl({ ca, port }: Gate, path: string, flags: string): Promise<string> {
  const url = `https://localhost:${port}${path}`;
  const format = '%{http_version} %{http_code} ';
  const { output } = await shell(
    `curl -sS --max-time 20 --path-as-is --cacert ${ca.caPath} -w '${format}' ${flags} '${url}'`,
  );
  return output;
}

describe('a gate passes requests', () => {
  test.each([
    ['HTTP/1.1 with ALPN', '--http1.1', '1.1'],
    ['HTTP/2', '--http2', '2'],
    ['HTTP/1.1 without ALPN, as Gitaly does', '--http1.1 --no-alpn', '1.1'],
    ['HTTP/1.0', '--http1.0 --no-alpn', '1.1'],
  ])('of curl over %s, with a client certificate', async (_what, flags, version) => {
    const gate = await startGate(requiring);
    const client = await gate.ca.client();
    const output = await curl(
      gate,
      `${ALLOWED}?a=b`,
      `${flags} --cert ${client.certificatePath} --key ${client.keyPath} -d '{"x":1}' -H 'Gitlab-Shell-Api-Request: jwt'`,
    );
    expect(output).toBe(`{"status":true}${version} 200 `);
    const { last } = gate.backend;
    expect(last).toMatchObject({ method: 'POST', url: `${ALLOWED}?a=b`, body: Buffer.from('{"x":1}') });
    expect(last.headers).toMatchObject({ 'gitlab-shell-api-request': 'jwt', host: `localhost:${gate.port}` });
    await gate.endsWithNothingLeaked();
  });

  test("of a Gitaly: its server's certificate, Connection: close, one handshake per call", async () => {
    const gate = await startGate((ca) => ({ ...requiring(ca), more: ONE_WORKER }));
    const gitaly = await gate.ca.server({ dns: ['gitaly-a.internal'], usages: ['serverAuth', 'clientAuth'] });
    for (let call = 0; call < 3; call++) {
      const answer = await gate.ask(ALLOWED, { method: 'POST', ...presenting(gitaly) }, '{}');
      expect(answer).toMatchObject({
        status: 200,
        body: '{"status":true}',
        headers: { connection: 'close' },
      });
    }
    // Upstream's is kept, and serves all of them.
    expect(gate.backend.connections).toHaveLength(1);
    const lines = await gate.proxy.log.waitFor((line) => line['close.reason'] === 'finished');
    expect(lines).toMatchObject({ protocol: 'http1', 'peer.identity': 'gitaly-a.internal' });
    const scrape = await gate.proxy.scrape();
    expect(scrape.value(REQUESTS, { method: 'POST', code_class: '2xx' })).toBe(3);
    expect(scrape.value(`${OURS}connections_total`, { protocol: 'http1', type: 'https' })).toBe(3);
    // They are none of Gitaly's.
    expect(scrape.value('gitaly_connections_total')).toBe(0);
    await gate.endsWithNothingLeaked();
  });

  test('of openssl, byte by byte', async () => {
    const gate = await startGate();
    const request = `GET ${ALLOWED} HTTP/1.1\\r\\nHost: gitlab\\r\\nConnection: close\\r\\n\\r\\n`;
    const { output } = await shell(
      `printf '${request}' | openssl s_client -quiet -no_ign_eof -ign_eof -connect 127.0.0.1:${gate.port} -CAfile ${gate.ca.caPath} 2>/dev/null`,
    );
    expect(output).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*\{"status":true\}$/);
    await gate.endsWithNothingLeaked();
  });

  test('to a unix socket', async () => {
    const backend = await HttpBackend.start(`${await temporaryDirectory()}/gitlab.socket`);
    const gate = await startGate({ backend });
    expect(await gate.ask(ALLOWED)).toMatchObject({ status: 200 });
    expect(backend.last.headers.host).toBe(`127.0.0.1:${gate.port}`);
    await gate.endsWithNothingLeaked();
  });

  test('many at once over one connection of HTTP/2', async () => {
    const gate = await startGate();
    const session = http2Client(gate.port, { ca: gate.ca.caPem });
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, index) =>
        askHttp2(session, { ':method': 'POST', ':path': `${ALLOWED}?${index}` }, 'x'.repeat(index * 1000)),
      ),
    );
    for (const { headers, body } of answers)
      expect([headers[':status'], body]).toEqual([200, '{"status":true}']);
    expect(gate.backend.requests.map(({ body }) => body.length).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 100 }, (_, index) => index * 1000),
    );
    session.close();
    await gate.proxy.log.waitForClose('finished');
    await gate.endsWithNothingLeaked();
  });
});

test.skipIf(!isInstalled('h2load'))(
  'two workers pass a burst of HTTP/2, and count each request once',
  async () => {
    const gate = await startGate({ more: { workers: 2 } });
    const { output } = await shell(
      `h2load --requests=1000 --clients=8 --max-concurrent-streams=16 https://127.0.0.1:${gate.port}${ALLOWED}`,
    );
    expect(output).toContain(
      'requests: 1000 total, 1000 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout',
    );
    expect(gate.backend.requests).toHaveLength(1000);
    await gate.proxy.scrapeUntil((scrape) => scrape.value(`${OURS}connections_active`) === 0);
    const scrape = await gate.proxy.scrape();
    expect(scrape.value(REQUESTS, { method: 'GET', code_class: '2xx' })).toBe(1000);
    expect(scrape.value(`${OURS}http_requests_in_flight`)).toBe(0);
    await gate.endsWithNothingLeaked();
  },
);

describe('a client without a valid client certificate gets 403, upstream no request, and the reason is logged:', () => {
  test.each([
    ['none', 'absent', /sent no certificate and client_auth is require/, undefined],
    [
      'one for servers only',
      'invalid_purpose',
      /INVALID_PURPOSE.*must hold clientAuth; issue one with serverAuth and clientAuth.* else one with clientAuth/,
      ['serverAuth'],
    ],
  ] as const)('%s', async (_what, result, detail, usages) => {
    const gate = await startGate(requiring);
    const issued = usages && (await gate.ca.server({ usages }));
    const flags = issued ? `--cert ${issued.certificatePath} --key ${issued.keyPath}` : '';
    for (const [protocol, version] of [
      ['--http1.1', '1.1'],
      ['--http2', '2'],
    ] as const) {
      const output = await curl(gate, ALLOWED, `${protocol} ${flags} -d x`);
      expect(output).toMatch(
        new RegExp(`^\\{"message":"client certificate missing or rejected.*"\\}${version} 403 $`),
      );
    }
    expect(gate.backend.connections).toHaveLength(0);
    const line = await gate.proxy.log.waitForClose('client_certificate_refused');
    expect(line).toMatchObject({ level: 'warning', 'close.initiator': 'proxy' });
    expect(line['close.detail']).toMatch(detail);
    const request = await gate.proxy.log.waitForEvent('http_request_refused', {
      'http.refusal': 'client_certificate',
    });
    expect(request).toMatchObject({ level: 'warning', 'http.status': 403, 'http.path': ALLOWED });
    // The second is counted when its answer has been written, which curl does not wait for.
    const scrape = await gate.proxy.scrapeUntil(
      (current) => current.value(REFUSED, { reason: 'client_certificate' }) === 2,
    );
    expect(scrape.value(`${OURS}tls_client_certificates_total`, { result })).toBe(2);
    expect(scrape.value(REQUESTS, { code_class: '4xx', method: 'POST' })).toBe(2);
    await gate.endsWithNothingLeaked();
  });

  test('a certificate with several faults, one of which the last error of its chain hides', async () => {
    const gate = await startGate(requiring);
    const stranger = await Authority.create(await temporaryDirectory(), 'stranger');
    const usages = ['serverAuth'] as const;
    const notAfter = new Date(Date.now() - 60_000);
    for (const issued of [
      await gate.ca.server({ usages, notAfter }),
      await stranger.server({ usages }),
      await stranger.server({ usages, notAfter }),
    ])
      expect(await gate.ask(ALLOWED, presenting(issued))).toMatchObject({ status: 403 });
    expect(gate.backend.connections).toHaveLength(0);
    expect((await gate.proxy.scrape()).value(REFUSED, { reason: 'client_certificate' })).toBe(3);
    await gate.endsWithNothingLeaked();
  });

  test('with client_auth: optional one that is bad, and not one that is missing', async () => {
    const gate = await startGate((ca) => requiring(ca, 'optional'));
    expect(await gate.ask(ALLOWED)).toMatchObject({ status: 200 });
    const bad = await gate.ca.client({ usages: ['serverAuth'] });
    expect(await gate.ask(ALLOWED, presenting(bad))).toMatchObject({ status: 403 });
    await gate.endsWithNothingLeaked();
  });
});

describe('a gate lets only paths through', () => {
  const TRICKS = [
    '/',
    '/api/v4/users',
    '/api/v4/internal',
    '//api/v4/internal/allowed',
    '/x/../api/v4/internal/allowed',
    '/api/v4/internal/../users',
    '/api/v4/internal/%2e%2e/users',
    '/api/v4/internal/..%2fusers',
    '/api/v4/internal/%252e%252e%252fusers',
    '/api/v4/internal/..;/users',
    '/api/v4/internal/..\\users',
    '/api/v4/internal/x%00',
    '/api%2fv4/internal/allowed',
  ];

  test('that begin with /api/v4/internal/, however they are written: all others get 404, in both versions', async () => {
    const gate = await startGate();
    const session = http2Client(gate.port, { ca: gate.ca.caPem });
    for (const path of TRICKS) {
      const answer = await gate.ask(path);
      expect([path, answer.status, message(answer)]).toEqual([path, 404, 'this path is not served here']);
      const { headers, body } = await askHttp2(session, { ':path': path });
      expect([path, headers[':status'], message({ body })]).toEqual([
        path,
        404,
        'this path is not served here',
      ]);
    }
    expect(gate.backend.connections).toHaveLength(0);
    const line = await gate.proxy.log.waitForEvent('http_request_refused', { 'http.refusal': 'path' });
    expect(line).toMatchObject({ level: 'warning', 'http.path': '/', 'http.ended_by': 'proxy' });
    const scrape = await gate.proxy.scrape();
    expect(scrape.value(REFUSED, { reason: 'path' })).toBe(2 * TRICKS.length);
    session.close();
    await gate.endsWithNothingLeaked();
  });

  test('in absolute form they are compared, and passed on, by their path', async () => {
    const gate = await startGate();
    const ask = async (target: string): Promise<string> => {
      const socket = connect({
        port: gate.port,
        host: '127.0.0.1',
        ca: gate.ca.caPem,
        servername: 'localhost',
      });
      socket.write(`GET ${target} HTTP/1.1\r\nHost: gitlab\r\nConnection: close\r\n\r\n`);
      const { received } = await readToEnd(socket);
      return received.toString().slice(9, 12);
    };
    expect(await ask(`http://gitlab${ALLOWED}`)).toBe('200');
    expect(gate.backend.last.url).toBe(ALLOWED);
    expect(await ask('http://gitlab/api/v4/users')).toBe('404');
    expect(await ask('http://gitlab')).toBe('404');
    expect(await ask(`http://gitlab/..${ALLOWED}`)).toBe('404');
    // It names another host than Host does.
    expect(await ask(`http://other${ALLOWED}`)).toBe('400');
    expect(await ask(`http://other@gitlab${ALLOWED}`)).toBe('400');
    expect(gate.backend.requests).toHaveLength(1);
    await gate.endsWithNothingLeaked();
  });

  test('that are configured', async () => {
    const gate = await startGate({ listener: { paths: ['/gitlab/api/', '/-/health'] } });
    for (const [path, status] of [
      ['/gitlab/api/v4/version', 200],
      ['/-/health', 200],
      ['/-/healthy', 404],
      [ALLOWED, 404],
    ] as const)
      expect([path, (await gate.ask(path)).status]).toEqual([path, status]);
    await gate.endsWithNothingLeaked();
  });
});

test('a client that does not use HTTP or TLS is closed, and the log has the reason', async () => {
  const gate = await startGate();
  const plain = await tcpClient(gate.port);
  plain.write(`GET ${ALLOWED} HTTP/1.1\r\nHost: gitlab\r\n\r\n`);
  await readToEnd(plain);
  expect(await gate.proxy.log.waitForClose('handshake_failed')).toMatchObject({
    'close.detail': expect.stringContaining('not_tls') as unknown,
  });
  const { output } = await shell(
    `openssl s_client -connect 127.0.0.1:${gate.port} -alpn spdy/3 -CAfile ${gate.ca.caPath} </dev/null 2>&1`,
  );
  expect(output).toContain('alert no application protocol');
  const line = await gate.proxy.log.waitFor((entry) => String(entry['close.advice']).includes('http/1.1'));
  expect(line['close.advice']).toBe('the client offers ALPN, but neither h2 nor http/1.1');
  await gate.endsWithNothingLeaked();
});
