import { once } from 'node:events';
import { connect, constants, type ClientHttp2Session } from 'node:http2';

import { expect, onTestFinished, test } from 'vitest';

import { ALLOWED, startGate, type Gate } from '../support/gate.js';
import { ABUSE_LIMITS } from '../../src/limits.js';
import { MIB } from '../support/transfer.js';

/** Small, so that the library sends many window updates. */
const WINDOW_BYTES = 16 * 1024;

function sessionWith(gate: Gate, initialWindowSize: number): ClientHttp2Session {
  const session = connect(gate.url.replace('127.0.0.1', 'localhost'), {
    ca: gate.ca.caPem,
    host: '127.0.0.1',
    settings: { initialWindowSize },
  });
  onTestFinished(() => session.destroy());
  return session;
}

const closedForAbuse = async (gate: Gate): Promise<number> =>
  (await gate.proxy.scrape()).value('gitaly_tls_proxy_connections_closed_total', {
    reason: 'abuse',
    initiator: 'proxy',
  });

test('a client with a small window reads a large answer, with thousands of window updates and a PING per chunk', async () => {
  const gate = await startGate();
  gate.backend.handler = (_request, response) => void response.end(Buffer.alloc(128 * MIB));
  const session = sessionWith(gate, WINDOW_BYTES);
  const stream = session.request({ ':path': ALLOWED });
  const pings: Promise<void>[] = [];
  let received = 0;
  stream.on('data', (chunk: Buffer) => {
    received += chunk.length;
    if (pings.length < 2 * ABUSE_LIMITS.controlFrames.burst)
      pings.push(
        new Promise((resolve, reject) =>
          session.ping((error: Error | null) => (error ? reject(error) : resolve())),
        ),
      );
  });
  await once(stream, 'end');
  await Promise.all(pings);
  // A window update per half a window.
  expect(received).toBeGreaterThan((ABUSE_LIMITS.smallFrames.burst * WINDOW_BYTES) / 2);
  expect(received).toBe(128 * MIB);
  expect(pings.length).toBe(2 * ABUSE_LIMITS.controlFrames.burst);
  expect(await closedForAbuse(gate)).toBe(0);
  await new Promise<void>((resolve) => session.close(resolve));
  await gate.endsWithNothingLeaked();
});

test('a client sends a large request, a PING beside each of many small ones, and its last DATA is empty', async () => {
  const gate = await startGate();
  const session = sessionWith(gate, constants.DEFAULT_SETTINGS_INITIAL_WINDOW_SIZE);
  const ask = async (body: Buffer | undefined): Promise<unknown> => {
    const stream = session.request(
      { ':path': ALLOWED, ':method': body ? 'POST' : 'GET' },
      { endStream: !body },
    );
    const answered = once(stream, 'response');
    if (body) {
      stream.write(body);
      // An empty DATA frame with END_STREAM.
      stream.end();
    }
    stream.resume();
    const [header] = (await answered) as [Readonly<Record<string, unknown>>];
    await once(stream, 'end');
    return header[':status'];
  };
  expect(await ask(Buffer.alloc(32 * MIB))).toBe(200);
  for (let asked = 0; asked < ABUSE_LIMITS.controlFrames.burst + 200; asked++) {
    const pinged = new Promise((resolve) => session.ping(resolve));
    expect(await ask(undefined)).toBe(200);
    expect(await pinged).toBeNull();
  }
  expect(await closedForAbuse(gate)).toBe(0);
  await new Promise<void>((resolve) => session.close(resolve));
  await gate.endsWithNothingLeaked();
});
