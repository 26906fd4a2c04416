import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

import { expect, test } from 'vitest';

import { ONE_WORKER, PLAIN, startGate, type Gate } from '../support/gate.js';

/** Egress over connections that are kept in one process. */
function startKeeping(): Promise<Gate> {
  return startGate({ listener: { listen: PLAIN }, more: ONE_WORKER });
}

test('a request that can be repeated is, where upstream has closed the connection that was kept; another is a 502', async () => {
  const gate = await startKeeping();
  const seen = new WeakSet();
  gate.backend.handler = (request, response) => {
    // Each connection serves one request, and says so too late.
    if (seen.has(request.socket)) request.socket.destroy();
    else response.end(request.method);
    seen.add(request.socket);
  };
  for (const [method, status] of [
    ['POST', 200],
    ['GET', 200],
    ['POST', 502],
    ['HEAD', 200],
    ['GET', 200],
  ] as const)
    expect([method, (await gate.ask('/', { method })).status]).toEqual([method, status]);
  await gate.endsWithNothingLeaked();
});

test('however many kept connections upstream has closed, a GET comes to one that it serves, and ends', async () => {
  const gate = await startKeeping();
  const waiting: ServerResponse[] = [];
  gate.backend.handler = (_request, response) => void waiting.push(response);
  const asking = ['/a', '/b', '/c'].map((path) => gate.ask(path));
  await expect.poll(() => waiting.length).toBe(3);
  for (const response of waiting) response.end();
  await Promise.all(asking);
  // An upstream that was restarted: all of them are of no use, and it is told of none.
  const old = new Set<Socket>(gate.backend.connections);
  gate.backend.handler = (request, response) => {
    if (old.has(request.socket)) request.socket.destroy();
    else response.end('served');
  };
  // The client ends nothing by itself.
  const answer = await gate.ask('/', { headers: { connection: 'keep-alive' } });
  expect(answer).toMatchObject({ status: 200, body: 'served' });
  expect(gate.backend.connections).toHaveLength(4);
  await gate.proxy.log.waitFor((line) => line['http.path'] === '/');
  const scrape = await gate.proxy.scrape();
  expect(scrape.value('gitaly_tls_proxy_http_requests_in_flight')).toBe(0);
  expect(scrape.value('gitaly_tls_proxy_http_upstream_failures_total')).toBe(0);
  await gate.endsWithNothingLeaked();
});

test('bytes that upstream sends on an idle connection do not answer the next request', async () => {
  const gate = await startKeeping();
  expect(await gate.ask('/first')).toMatchObject({ status: 200 });
  const [kept] = gate.backend.connections;
  kept?.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison');
  if (kept) await once(kept.resume(), 'close');
  expect(await gate.ask('/second')).toMatchObject({ status: 200, body: '{"status":true}' });
  expect(gate.backend.connections).toHaveLength(2);
  await gate.endsWithNothingLeaked();
});

test('the second of two answers to one request does not answer another request', async () => {
  const gate = await startKeeping();
  const one = 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none';
  gate.backend.handler = ({ socket }) => void socket.write(`${one}${one.replace('one', 'two')}`);
  for (const path of ['/a', '/b', '/c'])
    expect(await gate.ask(path)).toMatchObject({ status: 200, body: 'one' });
  expect(gate.backend.connections).toHaveLength(3);
  await gate.endsWithNothingLeaked();
});

test('a kept connection is not used shortly before the end that upstream announces (Keep-Alive: timeout)', async () => {
  const gate = await startKeeping();
  gate.backend.handler = (request, response) => {
    response.setHeader('keep-alive', request.url === '/1' ? 'timeout=1, max=100' : 'timeout=30');
    response.end();
  };
  for (const path of ['/1', '/1', '/30', '/30']) expect(await gate.ask(path)).toMatchObject({ status: 200 });
  expect(gate.backend.connections).toHaveLength(3);
  await gate.endsWithNothingLeaked();
});

test('a connection that is kept and not used is ended; one that serves again may take longer than that', async () => {
  const gate = await startKeeping();
  const waiting: ServerResponse[] = [];
  gate.backend.handler = (_request, response) => void waiting.push(response);
  const asking = ['/a', '/b'].map((path) => gate.ask(path));
  await expect.poll(() => waiting.length).toBe(2);
  for (const response of waiting.splice(0)) response.end();
  await Promise.all(asking);
  const slow = gate.ask('/slow');
  await expect.poll(() => waiting.length).toBe(1);
  const [idle] = gate.backend.connections.filter((socket) => socket !== waiting[0]?.socket);
  if (idle && !idle.destroyed) await once(idle, 'close');
  waiting[0]?.end('late');
  expect(await slow).toMatchObject({ status: 200, body: 'late' });
  expect(gate.backend.connections).toHaveLength(2);
  await gate.endsWithNothingLeaked();
});
