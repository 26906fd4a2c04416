import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { createServer, Socket, type ListenOptions, type Server } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';

import { describe, expect, onTestFinished, test, vi } from 'vitest';

import type { Address } from '../../src/config/model.js';
import { createDialer } from '../../src/upstream/dialer.js';
import { UpstreamFailure } from '../../src/upstream/failure.js';
import { TlsClient } from '../../src/upstream/tls-client.js';
import { Authority } from '../support/authority.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { upstreamMaterial } from '../tls/material.js';

const NEVER = new AbortController().signal;

const TIMEOUT_MS = 5000;

/** A server that hands its connections to the test, and its address. */
async function start(
  scheme: Address['scheme'],
): Promise<{ address: Address; accept: () => Promise<Socket>; close: () => Promise<void> }> {
  const server = createServer({ allowHalfOpen: true });
  const accepted: Socket[] = [];
  const waiting: ((socket: Socket) => void)[] = [];
  server.on('connection', (socket) => {
    socket.on('error', () => undefined);
    onTestFinished(() => void socket.destroy());
    const waits = waiting.shift();
    if (waits) waits(socket);
    else accepted.push(socket);
  });
  const where: ListenOptions =
    scheme === 'unix' ? { path: `${await temporaryDirectory()}/a.socket` } : { host: '127.0.0.1', port: 0 };
  server.listen(where);
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const bound = server.address();
  if (bound === null) throw new Error('not bound');
  return {
    address:
      typeof bound === 'string'
        ? { scheme: 'unix', path: bound, url: `unix:${bound}` }
        : { scheme: scheme === 'tls' ? 'tls' : 'tcp', host: '127.0.0.1', port: bound.port, url: scheme },
    accept: () => {
      const socket = accepted.shift();
      return socket ? Promise.resolve(socket) : new Promise((resolve) => waiting.push(resolve));
    },
    close: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}

async function reasonOf(done: Promise<unknown>): Promise<string> {
  const error: unknown = await done.catch((failure: unknown) => failure);
  if (error instanceof UpstreamFailure) return error.reason;
  throw new Error(`no failure: ${String(error)}`);
}

describe.each(['tcp', 'unix'] as const)('%s', (scheme) => {
  test('connects, sends its first bytes, and does not read before a reader is set', async () => {
    const { address, accept } = await start(scheme);
    const done = createDialer(address, undefined, TIMEOUT_MS).dial('plain', Buffer.from('PROXY '), NEVER);
    const backend = await accept();
    backend.write('from upstream');
    const upstream = await done;
    expect(String(await once(backend, 'data'))).toBe('PROXY ');
    expect(upstream.raw).toBe(upstream.stream);
    expect(upstream.raw.isPaused()).toBe(true);
    const read = new Promise<string>((resolve) =>
      upstream.receive?.((length, buffer) => {
        resolve(Buffer.from(buffer.subarray(0, length)).toString());
        return false;
      }),
    );
    upstream.raw.resume();
    expect(await read).toBe('from upstream');
    upstream.raw.destroy();
  });

  test('an upstream that does not exist fails with its own reason', async () => {
    const { address, close } = await start(scheme);
    await close();
    const done = createDialer(address, undefined, TIMEOUT_MS).dial('plain', undefined, NEVER);
    expect(await reasonOf(done)).toBe(scheme === 'unix' ? 'no_socket' : 'refused');
  });
});

describe('tls', () => {
  test('the hello goes before the handshake, in the clear', async () => {
    const authority = await Authority.create(await temporaryDirectory());
    const { certificatePem: cert, keyPem: key } = await authority.server();
    const { address, accept } = await start('tls');
    const client = new TlsClient(await upstreamMaterial(authority.caPath));
    const done = createDialer(address, client, TIMEOUT_MS).dial('tls', Buffer.from('PROXY '), NEVER);
    const backend = await accept();
    const [first] = (await once(backend, 'data')) as [Buffer];
    expect(first.subarray(0, 6).toString()).toBe('PROXY ');
    backend.pause();
    backend.unshift(first.subarray(6));
    createTlsServer({ cert, key, ALPNProtocols: ['h2'] }).emit('connection', backend);
    const upstream = await done;
    expect(upstream.receive).toBeUndefined();
    expect(upstream.stream).not.toBe(upstream.raw);
    expect(upstream.stream.isPaused()).toBe(true);
    upstream.raw.destroy();
  });

  test('an upstream that sends nothing is given up after the deadline, and its socket is closed', async () => {
    const authority = await Authority.create(await temporaryDirectory());
    const { address, accept } = await start('tls');
    const client = new TlsClient(await upstreamMaterial(authority.caPath));
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const done = createDialer(address, client, TIMEOUT_MS).dial('tls', undefined, NEVER);
    const reason = reasonOf(done);
    const backend = await accept();
    await once(backend, 'data');
    vi.advanceTimersByTime(TIMEOUT_MS);
    expect(await reason).toBe('timeout');
    const closed = once(backend, 'close');
    backend.resume();
    backend.end();
    await closed;
    expect(vi.getTimerCount()).toBe(0);
  });

  test('an upstream without TLS is reported as such', async () => {
    const authority = await Authority.create(await temporaryDirectory());
    const { address, accept } = await start('tls');
    const client = new TlsClient(await upstreamMaterial(authority.caPath));
    const done = createDialer(address, client, TIMEOUT_MS).dial('tls', undefined, NEVER);
    const reason = reasonOf(done);
    (await accept()).write('HTTP/1.1 400 Bad Request\r\n\r\n');
    expect(await reason).toBe('tls');
  });
});

test('a dial that is aborted rejects with the reason given and leaves no socket', async () => {
  const authority = await Authority.create(await temporaryDirectory());
  const { address, accept } = await start('tls');
  const client = new TlsClient(await upstreamMaterial(authority.caPath));
  const aborting = new AbortController();
  const dial = createDialer(address, client, TIMEOUT_MS).dial('tls', undefined, aborting.signal);
  const rejected = expect(dial).rejects.toThrow('the client left');
  const backend = await accept();
  await once(backend, 'data');
  aborting.abort(new Error('the client left'));
  await rejected;
  backend.resume();
  backend.end();
  await once(backend, 'close');
});

test.each(['tcp', 'unix', 'tls'] as const)(
  'a dial over %s that is aborted at any moment after it has connected leaves no socket',
  async (scheme) => {
    const authority = await Authority.create(await temporaryDirectory());
    const { certificatePem: cert, keyPem: key } = await authority.server();
    const tlsServer = createTlsServer({ cert, key, ALPNProtocols: ['h2'] });
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      if (scheme === 'tls') tlsServer.emit('connection', socket);
      else socket.resume();
    });
    onTestFinished(() => void server.close());
    tlsServer.on('secureConnection', (socket) => socket.on('error', () => undefined).resume());
    tlsServer.on('tlsClientError', () => undefined);
    server.listen(
      scheme === 'unix' ? { path: `${await temporaryDirectory()}/a.socket` } : { host: '127.0.0.1', port: 0 },
    );
    await once(server, 'listening');
    const bound = server.address();
    if (bound === null) throw new Error('not bound');
    const address: Address =
      typeof bound === 'string'
        ? { scheme: 'unix', path: bound, url: scheme }
        : { scheme: scheme === 'tls' ? 'tls' : 'tcp', host: '127.0.0.1', port: bound.port, url: scheme };
    const client = scheme === 'tls' ? new TlsClient(await upstreamMaterial(authority.caPath)) : undefined;
    const dialer = createDialer(address, client, TIMEOUT_MS);
    let whenConnected: () => void = () => undefined;
    const onSocket = (message: unknown): void => {
      if (hasSocket(message)) message.socket.prependOnceListener('connect', () => whenConnected());
    };
    subscribe('net.client.socket', onSocket);
    onTestFinished(() => void unsubscribe('net.client.socket', onSocket));
    const outcomes = new Set<string>();
    for (let turns = 0; turns < 8; turns++) {
      for (let ticks = 0; ticks < 12; ticks++) {
        const abort = new AbortController();
        whenConnected = () => void after(turns, ticks).then(() => abort.abort());
        const outcome = await dialer.dial('plain', undefined, abort.signal).then(
          ({ raw }) => {
            raw.destroy();
            return 'connected';
          },
          () => 'aborted',
        );
        outcomes.add(outcome);
      }
    }
    expect(outcomes).toEqual(new Set(['connected', 'aborted']));
    // A socket without references would keep its connection.
    while ((await connectionsOf(server)) > 0) await nextTurn();
  },
);

/** Waits for turns of the event loop and then for some microtasks. */
async function after(turns: number, ticks: number): Promise<void> {
  for (let count = 0; count < turns; count++) await nextTurn();
  for (let count = 0; count < ticks; count++) await Promise.resolve();
}

function hasSocket(message: unknown): message is { readonly socket: Socket } {
  return (
    typeof message === 'object' && message !== null && 'socket' in message && message.socket instanceof Socket
  );
}

function connectionsOf(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
  });
}
