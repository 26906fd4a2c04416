import { once } from 'node:events';
import { connect, createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer, type SecureVersion } from 'node:tls';

import { expect, onTestFinished } from 'vitest';

import { ConnectionEnd } from '../../src/connection/connection-end.js';
import { Relay, type RelayOptions, type UpstreamEnd } from '../../src/connection/relay/relay.js';
import { TlsTerminator } from '../../src/tls/terminator.js';
import { createDialer } from '../../src/upstream/dialer.js';
import { TlsClient } from '../../src/upstream/tls-client.js';
import { Authority } from '../support/authority.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { serverMaterial, upstreamMaterial } from '../tls/material.js';

/** What an end of a relay speaks. */
export type Transport = 'tcp' | 'unix' | 'tls1.2' | 'tls1.3';

/** A relay over real sockets, with the client and the backend at its two far ends. */
export interface RelayUnderTest {
  readonly relay: Relay;
  /** The client's own socket, and the one below TLS. */
  readonly client: FarEnd;
  /** The backend's own socket, and the one below TLS. */
  readonly backend: FarEnd;
  /** The relay's ends: what it reads from and writes to. */
  readonly ends: { readonly client: FarEnd; readonly upstream: FarEnd };
}

/** A socket that the test holds. */
export interface FarEnd {
  readonly stream: Socket;
  readonly raw: Socket;
}

/** A relay without taps whose upstream need not speak first. */
export const RELAY_OPTIONS: RelayOptions = {
  tap: { pass: (_direction, bytes) => bytes },
  halfCloseMs: 60_000,
  firstByteMs: undefined,
  onAnswer: () => undefined,
};

/**
 * Builds a relay between a client, which has sent `head` already, and a backend. When the test has finished, all of the relay's own sockets must be
 * destroyed, however it ended.
 */
export async function startRelay(
  transports: { client: Transport; upstream: Transport },
  options: Partial<RelayOptions> = {},
  head: Buffer = Buffer.alloc(0),
): Promise<RelayUnderTest> {
  const directory = await temporaryDirectory();
  const isTls = (transport: Transport): boolean => transport.startsWith('tls');
  const authority = Object.values(transports).some(isTls) ? await Authority.create(directory) : undefined;
  const accepting = await acceptClient(transports.client, directory, authority);
  const [client, clientEnd] = accepting;
  const [backend, upstreamEnd] = await dialBackend(
    transports.upstream,
    directory,
    authority,
    isTls(transports.client) ? 'tls' : 'plain',
  );
  const ends = { client: clientEnd, upstream: upstreamEnd };
  const relay = new Relay({ ...clientEnd, head }, upstreamEnd, { ...RELAY_OPTIONS, ...options });
  relay.start();
  onTestFinished(() => {
    for (const { stream, raw } of [client, backend, clientEnd, upstreamEnd]) {
      stream.destroy();
      raw.destroy();
    }
  });
  return { relay, client, backend, ends };
}

/** Waits for the relay's end and for all of its sockets to be gone. No byte may be unaccounted for. */
export async function endOf({ relay, ends }: RelayUnderTest): Promise<ConnectionEnd> {
  const end = await relay.done;
  if (!(end instanceof ConnectionEnd)) throw end.failure;
  for (const direction of ['to_upstream', 'to_client'] as const) {
    const { read, edited, written } = relay.balance(direction);
    expect(read + edited).toBe(written);
  }
  for (const { stream, raw } of Object.values(ends)) {
    for (const socket of new Set([stream, raw])) {
      if (!socket.closed) await once(socket, 'close');
      expect(socket.destroyed).toBe(true);
    }
  }
  return end;
}

/**
 * How a far end saw its connection end: `end`, or the code of the error.
 *
 * Node 20 delivers a reset that comes with unread bytes as an end: an empty write then tells (EPIPE after our end).
 */
export function fateOf({ stream, raw }: FarEnd): Promise<string> {
  return new Promise((resolve) => {
    const onError = (error: Error): void =>
      resolve('code' in error && typeof error.code === 'string' ? error.code : error.message);
    stream.once('error', onError);
    raw.once('error', onError);
    stream.once('end', () => {
      if (stream.writableEnded || raw.destroyed) resolve('end');
      else raw.write('', (error) => (error ? onError(error) : resolve('end')));
    });
    stream.once('close', () => resolve('close'));
  });
}

/** Reads until this many bytes have come. */
export async function readBytes(stream: Socket, length: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let received = 0;
  while (received < length) {
    const chunk: unknown = stream.read();
    if (chunk === null) {
      await once(stream, 'readable');
      continue;
    }
    if (!Buffer.isBuffer(chunk)) throw new Error('not bytes');
    chunks.push(chunk);
    received += chunk.length;
  }
  return Buffer.concat(chunks);
}

async function listen(server: Server, where: ListenOptions): Promise<ListenOptions> {
  server.listen(where);
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address();
  if (address === null) throw new Error('not bound');
  return typeof address === 'string' ? { path: address } : { host: '127.0.0.1', port: address.port };
}

function whereOf(transport: Transport, directory: string, name: string): ListenOptions {
  return transport === 'unix' ? { path: `${directory}/${name}` } : { host: '127.0.0.1', port: 0 };
}

function connectTo({ path, host = '', port = 0 }: ListenOptions): Socket {
  const options = { allowHalfOpen: true, noDelay: true };
  return path === undefined ? connect({ host, port, ...options }) : connect({ path, ...options });
}

/** A client and the end of the relay that it is connected to, as the stages leave it. */
async function acceptClient(
  transport: Transport,
  directory: string,
  authority: Authority | undefined,
): Promise<[FarEnd, FarEnd]> {
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true });
  const where = await listen(server, whereOf(transport, directory, 'listen.socket'));
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const raw = connectTo(where);
  raw.on('error', ignore);
  await once(raw, 'connect');
  const relayRaw = await accepted;
  relayRaw.on('error', ignore);
  if (!authority || !transport.startsWith('tls')) {
    return [
      { stream: raw, raw },
      { stream: relayRaw, raw: relayRaw },
    ];
  }
  const terminator = new TlsTerminator(await serverMaterial([await authority.server()]));
  const stream = connectTls({
    socket: raw,
    ca: authority.caPem,
    servername: 'localhost',
    ALPNProtocols: ['h2'],
    ...versionOf(transport),
  });
  stream.on('error', ignore);
  const [relayStream] = await Promise.all([
    terminator.handshake(relayRaw, undefined, 'localhost', 0, () => undefined),
    once(stream, 'secureConnect'),
  ]);
  relayStream.on('error', ignore);
  relayStream.pause();
  return [
    { stream, raw },
    { stream: relayStream, raw: relayRaw },
  ];
}

/** A backend and the end of the relay that is connected to it, as the dialer leaves it. */
async function dialBackend(
  transport: Transport,
  directory: string,
  authority: Authority | undefined,
  sink: 'tls' | 'plain',
): Promise<[FarEnd, UpstreamEnd]> {
  const server = createServer({ allowHalfOpen: true, noDelay: true });
  const where = await listen(server, whereOf(transport, directory, 'backend.socket'));
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const tls = authority && transport.startsWith('tls') ? authority : undefined;
  const url = 'the backend';
  const address =
    where.path === undefined
      ? ({ scheme: tls ? 'tls' : 'tcp', host: '127.0.0.1', port: where.port ?? 0, url } as const)
      : ({ scheme: 'unix', path: where.path, url } as const);
  const client = tls && new TlsClient(await upstreamMaterial(tls.caPath));
  const dial = createDialer(address, client, 60_000).dial(sink, undefined, new AbortController().signal);
  const raw = await accepted;
  raw.on('error', ignore);
  if (!tls) return [{ stream: raw, raw }, await dial];
  const { certificatePem, keyPem } = await tls.server();
  const tlsServer = createTlsServer({
    cert: certificatePem,
    key: keyPem,
    ALPNProtocols: ['h2'],
    ...versionOf(transport),
  });
  const secured = once(tlsServer, 'secureConnection');
  tlsServer.emit('connection', raw);
  const [[stream], end] = await Promise.all([secured as Promise<[Socket]>, dial]);
  stream.on('error', ignore);
  return [{ stream, raw }, end];
}

function versionOf(transport: Transport): { minVersion: SecureVersion; maxVersion: SecureVersion } {
  const version = transport === 'tls1.2' ? 'TLSv1.2' : 'TLSv1.3';
  return { minVersion: version, maxVersion: version };
}

/** The tests look at `fateOf`; without a listener Node would end the process. */
function ignore(): void {
  // See above.
}
