import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';

import { expect, onTestFinished, test } from 'vitest';

import { tcpClient } from '../support/clients.js';
import { ALLOWED, ONE_WORKER, PLAIN, startGate } from '../support/gate.js';
import { randomOf } from '../support/seeded-random.js';
import { takeRequest, type StrictRequest } from '../support/strict-http.js';

const CONVERSATIONS = 300;
/** Requests that must reach upstream; there are more conversations if need be. */
const REQUESTS = 100;
const AT_ONCE = 16;

/** Behind all others. */
const LAST = `GET ${ALLOWED} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;

const GOOD = [
  `GET ${ALLOWED} HTTP/1.1\r\nHost: x\r\n\r\n`,
  `POST ${ALLOWED} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello`,
  `POST ${ALLOWED} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n`,
  `DELETE ${ALLOWED}?x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello`,
  `HEAD ${ALLOWED} HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n`,
] as const;

/** What makes one out of two in the eyes of somebody. */
const BITS = [
  ...[
    '\r\n',
    '\n',
    '\r',
    ' ',
    '\t',
    '\0',
    '\x0b',
    '\xff',
    ':',
    ';',
    ',',
    '+',
    '-',
    '0',
    '5',
    '0x',
    '#',
    '?',
    '\\',
  ],
  ...['../', '%2e%2e/', '..;/', '//', 'http://x', 'HTTP/1.0', 'chunked', '0\r\n\r\n', '5\r\nhello\r\n'],
  ...['Transfer-Encoding: chunked\r\n', 'Content-Length: 5\r\n', 'Content-Length: 0\r\n', 'Host: EVIL\r\n'],
  ...[
    'X-SSL-Client-Verify: EVIL\r\n',
    'x_forwarded_for: EVIL\r\n',
    'Forwarded: EVIL\r\n',
    'Upgrade: h2c\r\n',
  ],
  ...['Connection: close\r\n', 'Connection: content-length, host, transfer-encoding\r\n', 'TE: trailers\r\n'],
  ...['Expect: 100-continue\r\n', 'Trailer: X\r\n', 'GET /evil HTTP/1.1\r\nHost: x\r\n\r\n'],
] as const;

/** Fields that come from nobody but the proxy, or from nobody. */
const PROXYS = /^(?:forwarded|x[-_]forwarded|x[-_]ssl|keep-alive|upgrade|proxy-)/u;

/** What no trailer is. */
const FRAMING = /^(?:host|content[-_]length|transfer[-_]encoding|te|trailer|connection|expect)$/u;

/** Changes a conversation in up to four places. */
function mutate(text: string, below: (bound: number) => number): string {
  let changed = text;
  for (let changes = below(4); changes >= 0; changes--) {
    const at = below(changed.length + 1);
    const bit = BITS[below(BITS.length)] ?? '';
    const line = changed.indexOf('\r\n', at);
    const [from, to] = [
      [at, at],
      [at, at + 1],
      [at, at + 1 + below(3)],
      line < 0 ? [at, at] : [line + 2, line + 2],
    ][below(4)] ?? [at, at];
    changed = changed.slice(0, from) + bit + changed.slice(to);
  }
  return changed;
}

test('whatever clients send, upstream gets requests that can be read in one way, to paths that are let through', async () => {
  const taken: StrictRequest[] = [];
  const broken: unknown[] = [];
  const take = (socket: Socket, received: string): string => {
    try {
      const request = takeRequest(received);
      if (!request) return received;
      taken.push(request);
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
      return take(socket, request.rest);
    } catch (error) {
      broken.push(error);
      socket.destroy();
      return '';
    }
  };
  // Its connections are kept, and shared by all clients: what one smuggles is another's.
  const kept = new Set<Socket>();
  const upstream = createServer((socket) => {
    let received = '';
    kept.add(socket);
    socket.on('close', () => kept.delete(socket));
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => (received = take(socket, received + bytes.toString('latin1'))));
  });
  upstream.listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  onTestFinished(() => void upstream.close());
  const address = upstream.address();
  if (address === null || typeof address === 'string') throw new Error('upstream has no port');
  const forward = `http://127.0.0.1:${address.port}`;
  const paths = ['/api/v4/internal/'];
  const gate = await startGate({ listener: { listen: PLAIN, forward, paths }, more: ONE_WORKER });

  const below = randomOf(1);
  const converse = async (): Promise<void> => {
    const parts = Array.from({ length: 1 + below(3) }, () => {
      const good = GOOD[below(GOOD.length)] ?? GOOD[0];
      return below(3) === 0 ? good : mutate(good, below);
    });
    const socket = await tcpClient(gate.port);
    const closed = new Promise((resolve) => socket.resume().once('end', resolve).once('close', resolve));
    // Behind its last byte comes its end, so that the proxy never waits for more.
    socket.end(Buffer.from(`${parts.join('')}${LAST}`, 'latin1'));
    await closed;
    socket.destroy();
  };
  let left = CONVERSATIONS;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (left-- > 0 || (taken.length < REQUESTS && broken.length === 0)) await converse();
    }),
  );

  expect(broken).toEqual([]);
  for (const { target, fields, trailers } of taken) {
    expect(target).toMatch(/^\/api\/v4\/internal\//u);
    expect(fields.filter(([name, value]) => PROXYS.test(name) && value.includes('EVIL'))).toEqual([]);
    expect(trailers.filter(([name]) => PROXYS.test(name) || FRAMING.test(name))).toEqual([]);
  }
  expect((await gate.proxy.scrape()).value('gitaly_tls_proxy_internal_errors_total')).toBe(0);
  for (const socket of kept) socket.destroy();
  await gate.endsWithNothingLeaked();
});
