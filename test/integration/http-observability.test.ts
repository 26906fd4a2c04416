import { expect, test } from 'vitest';

import { readToEnd, tcpClient } from '../support/clients.js';
import { ALLOWED, PLAIN, presenting, requiring, startGate } from '../support/gate.js';
import { askHttp2, http2Client } from '../support/http-clients.js';
import type { LogLine } from '../support/log-lines.js';

const OURS = 'gitaly_tls_proxy_';

test('the log has a line for each request, in flat fields, and no line, metric or page holds a secret', async () => {
  const gate = await startGate((ca) => requiring(ca, 'optional'));
  const client = await gate.ca.client({ dns: ['gitaly-a.internal'] });
  const secrets = {
    'gitlab-shell-api-request': 'secret-jwt',
    authorization: 'Bearer secret-bearer',
    'private-token': 'secret-token',
    'job-token': 'secret-job',
    'gitlab-shared-secret': 'secret-shared',
    cookie: 'session=secret-cookie',
    'proxy-authorization': 'Basic secret-proxy',
    referer: 'https://gitlab/?secret-referer',
  };
  const target = `${ALLOWED}?secret_token=secret-query&action=git-upload-pack`;
  const headers = { ...secrets, 'x-request-id': '01HV-abc.1' };
  const options = { method: 'POST', headers, ...presenting(client) };
  gate.backend.handler = undefined;
  expect(await gate.ask(target, options, 'secret-content')).toMatchObject({ status: 200 });
  const session = http2Client(gate.port, { ca: gate.ca.caPem, ...presenting(client) });
  await askHttp2(session, { ':method': 'POST', ':path': target, ...secrets }, 'secret-content');
  // Refused, failed, malformed and given up.
  expect(await gate.ask('/api/v4/users?private_token=secret-query', options)).toMatchObject({ status: 404 });
  gate.backend.handler = (request) => request.socket.destroy();
  expect(await gate.ask(target, options, 'secret-content')).toMatchObject({ status: 502 });
  expect(await gate.ask(`${ALLOWED}#secret-fragment`, options)).toMatchObject({ status: 400 });
  gate.backend.handler = (_request, response) => response.write('secret-answer');
  const open = askHttp2(session, { ':path': target, ...secrets }).catch(() => undefined);
  await gate.proxy.scrapeUntil((scrape) => scrape.value(`${OURS}http_requests_in_flight`) === 1);
  const pages = await Promise.all(
    ['/-/connections', '/-/rpcs', '/metrics'].map(async (path) =>
      (await fetch(`${await gate.proxy.adminUrl()}${path}`, { headers: { connection: 'close' } })).text(),
    ),
  );
  expect(JSON.parse(pages[0] ?? '')).toMatchObject({
    open: 1,
    connections: [
      {
        protocol: 'http2',
        peer_identity: 'gitaly-a.internal',
        stage: 'relaying',
        requests: [{ method: 'GET', path: ALLOWED, status: 200, response_bytes: 13 }],
      },
    ],
  });
  session.destroy();
  await open;
  await gate.proxy.log.waitForEvent('http_request_canceled', { 'http.method': 'GET' });
  const line = await gate.proxy.log.waitForEvent('http_request_finished', {
    'http.method': 'POST',
    'http.status': 200,
  });
  expect(line).toEqual({
    level: 'info',
    time: expect.any(String) as unknown,
    event: 'http_request_finished',
    listener: 'https://127.0.0.1:0',
    upstream: gate.backend.url,
    'peer.address': expect.stringMatching(/^127\.0\.0\.1:\d+$/) as unknown,
    'peer.identity': 'gitaly-a.internal',
    protocol: 'http1',
    'http.method': 'POST',
    'http.path': ALLOWED,
    'http.status': 200,
    'http.ended_by': 'upstream',
    'http.time_ms': expect.any(Number) as unknown,
    'http.request.payload_bytes': 14,
    'http.response.payload_bytes': 15,
    correlation_id: '01HV-abc.1',
    msg: 'HTTP request finished',
  });
  await gate.endsWithNothingLeaked();
  for (const text of [...pages, gate.proxy.log.text, gate.proxy.stderr.text])
    expect(text).not.toContain('secret');
});

test('no client can create a series, or forge a line of the log', async () => {
  const gate = await startGate({ listener: { listen: PLAIN } });
  const count = async (): Promise<number> =>
    (await gate.proxy.scrape()).samples.filter(({ name }) => name.startsWith(`${OURS}http_`)).length;
  for (const method of ['GET', 'POST', 'PROPFIND']) await gate.ask(ALLOWED, { method });
  const before = await count();
  for (const method of ['MKCOL', 'LOCK', 'PURGE', 'REPORT', 'SEARCH', 'M-SEARCH']) {
    const socket = await tcpClient(gate.port);
    const path = `${ALLOWED}/%22%2C%22level%22:${method}"\\u001b`;
    socket.write(
      `${method} ${path} HTTP/1.1\r\nHost: h-${method}\r\nX-Request-Id: "forged\r\nConnection: close\r\n\r\n`,
    );
    await readToEnd(socket);
  }
  expect(await count()).toBe(before);
  const scrape = await gate.proxy.scrape();
  expect(scrape.value(`${OURS}http_requests_total`, { method: 'other', code_class: '2xx' })).toBe(7);
  const lines = (): LogLine[] =>
    gate.proxy.log.lines.filter((line) => String(line['http.path']).includes('level'));
  await expect.poll(() => lines().length).toBe(6);
  for (const line of lines()) expect(line).not.toHaveProperty('correlation_id');
  await gate.endsWithNothingLeaked();
});

test('two workers count as one: requests, those that are open, and what was refused', async () => {
  const gate = await startGate({ more: { workers: 2 } });
  for (let call = 0; call < 6; call++) expect(await gate.ask(ALLOWED)).toMatchObject({ status: 200 });
  expect(await gate.ask('/')).toMatchObject({ status: 404 });
  gate.backend.handler = () => undefined;
  const sessions = [0, 1].map(() => http2Client(gate.port, { ca: gate.ca.caPem }));
  const open = sessions.map((session) => askHttp2(session, { ':path': ALLOWED }).catch(() => undefined));
  const scrape = await gate.proxy.scrapeUntil((now) => now.value(`${OURS}http_requests_in_flight`) === 2);
  expect(scrape.value(`${OURS}http_requests_total`, { code_class: '2xx', method: 'GET' })).toBe(6);
  expect(scrape.value(`${OURS}http_request_duration_seconds_count`)).toBe(7);
  expect(scrape.value(`${OURS}http_requests_refused_total`, { reason: 'path' })).toBe(1);
  for (const session of sessions) session.destroy();
  await Promise.all(open);
  await gate.proxy.scrapeUntil((now) => now.value(`${OURS}http_requests_in_flight`) === 0);
  await gate.endsWithNothingLeaked();
});
