import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { blackHole } from '../support/black-hole.js';
import { framesOf, frame, headers, settings } from '../support/http2-frames.js';
import { HTTP2_PREFACE, tlsClient } from '../support/clients.js';
import { ALLOWED, ONE_WORKER, startGate, type Gate, type GateOptions } from '../support/gate.js';
import { HttpBackend } from '../support/http-backend.js';
import { liveBytes, type LiveBytes } from '../support/live-bytes.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { recordClient, writeSingly } from '../support/tiny-pieces.js';
import { MIB } from '../support/transfer.js';

const PATH_FIELDS = { ':scheme': 'https', ':path': ALLOWED, ':authority': 'gitlab' };
const BYTES = 'gitaly_tls_proxy_connection_bytes_total';
const REQUESTS = 10;

/** The measured values are at most 1.6. If each piece was queued by itself, they would be 13 or more. */
const MAX_MIB = 3;

/** Nearly fills what the kernel keeps for a unix socket that is not read. */
const FILL = Buffer.alloc(190_000);

type Arrived = (request: IncomingMessage, response: ServerResponse) => void;

/** A gate, and its memory. */
type MeasuredGate = Gate & { readonly memory: LiveBytes };

/** A gate whose upstream reads no content. */
async function stalledGate(arrived: Arrived = () => undefined): Promise<MeasuredGate> {
  const backend = await HttpBackend.start(join(await temporaryDirectory(), 'upstream'));
  backend.handler = arrived;
  return measuredGate({ backend, more: ONE_WORKER });
}

async function measuredGate(options: GateOptions): Promise<MeasuredGate> {
  const memory = await liveBytes();
  return { ...(await startGate({ ...options, ...memory.start })), memory };
}

/** Waits until the proxy reads and writes no more. */
async function untilStill({ proxy }: Gate): Promise<void> {
  let moved = -1;
  for (let still = 0; still < 5; still++) {
    const now = (await proxy.scrape()).value(BYTES);
    if (now !== moved) still = 0;
    moved = now;
  }
}

/** The memory of the proxy after `attack` minus that before it. */
async function heldMiB(gate: MeasuredGate, attack: () => void | Promise<void>): Promise<number> {
  await untilStill(gate);
  const before = await gate.memory.measure();
  await attack();
  await untilStill(gate);
  return ((await gate.memory.measure()) - before) / MIB;
}

function end(gate: Gate, clients: readonly Socket[]): Promise<void> {
  for (const client of clients) client.destroy();
  return gate.endsWithNothingLeaked();
}

test('content of HTTP/1.1 in TLS records of one byte, to an upstream that is not reading, costs hardly more than its bytes', async () => {
  const gate = await stalledGate();
  const clients = await Promise.all(Array.from({ length: 4 }, () => recordClient(gate.port, gate.ca.caPem)));
  for (const one of clients) {
    const { client } = one;
    client.write(`POST ${ALLOWED} HTTP/1.1\r\nHost: gitlab\r\nContent-Length: 1000000\r\n\r\n`);
    client.write(FILL);
    one.hold();
    await writeSingly(client, Buffer.alloc(15_000));
  }
  const held = await heldMiB(gate, () => {
    for (const client of clients) client.flush();
  });
  expect(held).toBeLessThan(MAX_MIB);
  await end(
    gate,
    clients.map(({ client }) => client),
  );
});

test('content of HTTP/1.1 in chunks of one byte, to an upstream that is not reading, costs hardly more than its bytes', async () => {
  const gate = await stalledGate();
  const open = Array.from({ length: 4 }, () =>
    tlsClient(gate.port, { ca: gate.ca.caPem, ALPNProtocols: ['http/1.1'] }),
  );
  const clients = await Promise.all(open);
  for (const client of clients) {
    client.write(`POST ${ALLOWED} HTTP/1.1\r\nHost: gitlab\r\nTransfer-Encoding: chunked\r\n\r\n`);
    client.write(`${FILL.length.toString(16)}\r\n${FILL.toString('latin1')}\r\n`, 'latin1');
  }
  const held = await heldMiB(gate, () => {
    for (const client of clients) client.write('1\r\nx\r\n'.repeat(200_000));
  });
  expect(held).toBeLessThan(MAX_MIB);
  await end(gate, clients);
});

test('content of HTTP/2 in frames of one byte, before the upstream has accepted its connections, costs hardly more than its bytes', async () => {
  const forward = (await blackHole()).replace('tcp:', 'http:');
  const gate = await measuredGate({
    listener: { forward },
    more: { ...ONE_WORKER, timeouts: { dial: '1m' } },
  });
  const client = await tlsClient(gate.port, { ca: gate.ca.caPem, ALPNProtocols: ['h2'] });
  client.resume();
  const requests = Array.from({ length: REQUESTS }, (_, index) => {
    const id = 2 * index + 1;
    // As much as a client may send that waits for no WINDOW_UPDATE.
    const content = Array.from({ length: 6000 }, () => frame(0, 0, id, Buffer.of(0)));
    return Buffer.concat([headers(id, { ...PATH_FIELDS, ':method': 'POST' }), ...content]);
  });
  const held = await heldMiB(gate, () => void client.write(Buffer.concat([HTTP2_PREFACE, ...requests])));
  expect(held).toBeLessThan(MAX_MIB);
  await end(gate, [client]);
});

test('an answer in chunks of one byte, to a client that is not reading, costs hardly more than its bytes', async () => {
  const sockets: Socket[] = [];
  const gate = await stalledGate((_request, { socket }) => {
    if (socket) sockets.push(socket);
  });
  const client = await tlsClient(gate.port, { ca: gate.ca.caPem, ALPNProtocols: ['h2'] });
  let received = Buffer.alloc(0);
  client.on('data', (bytes: Buffer) => (received = Buffer.concat([received, bytes])));
  const ids = Array.from({ length: REQUESTS }, (_, index) => 2 * index + 1);
  const get = { ...PATH_FIELDS, ':method': 'GET' };
  // With a window of 0.
  client.write(Buffer.concat([HTTP2_PREFACE, settings([4, 0]), ...ids.map((id) => headers(id, get, 1))]));
  await expect.poll(() => sockets.length).toBe(REQUESTS);
  for (const socket of sockets) socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
  await expect.poll(() => framesOf(received).filter(({ type }) => type === 1).length).toBe(REQUESTS);
  const held = await heldMiB(gate, () => {
    for (const socket of sockets) socket.write('1\r\nx\r\n'.repeat(100_000));
  });
  expect(held).toBeLessThan(MAX_MIB);
  await end(gate, [client]);
});
