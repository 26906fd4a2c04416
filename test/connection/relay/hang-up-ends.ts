import { once } from 'node:events';
import { connect, createServer, Socket, type NetConnectOpts, type Server } from 'node:net';
import { Duplex } from 'node:stream';
import {
  connect as connectTls,
  createServer as createTlsServer,
  type SecureVersion,
  type Server as TlsServer,
} from 'node:tls';

import { onTestFinished } from 'vitest';

import { ReadHalfPipe, TurnHalfPipe } from '../../../src/connection/relay/half-pipe.js';
import { codeOrMessage } from '../../../src/error-codes.js';
import { HangUpWatch } from '../../../src/connection/relay/hang-up.js';
import { abort, inspectAtClose } from '../../../src/connection/relay/abort.js';
import { MAX_QUEUED_BYTES } from '../../../src/limits.js';
import { TlsTerminator } from '../../../src/tls/terminator.js';
import { createDialer, type Upstream } from '../../../src/upstream/dialer.js';
import { TlsClient } from '../../../src/upstream/tls-client.js';
import { Authority } from '../../support/authority.js';
import { serverMaterial, upstreamMaterial } from '../../tls/material.js';
import { turn } from '../byte-streams.js';

export type Transport = 'tcp' | 'unix' | 'tls1.2' | 'tls1.3';

/** Whether the proxy accepted the connection of the peer or dialled it. */
export type Role = 'accepted' | 'dialled';

const FORGED_BYTES = 64;

/** A TLS record of application data that was not made with the keys of the connection. */
export const FORGED_RECORD = Buffer.concat([
  Buffer.from([0x17, 3, 3, 0, FORGED_BYTES]),
  Buffer.alloc(FORGED_BYTES, 1),
]);

/** What passes between a peer's TLS and its socket. It can be kept, cut and made up. */
class Wire extends Duplex {
  readonly #raw: Socket;
  #held: Buffer[] | undefined;
  #isDeaf = false;

  constructor(raw: Socket) {
    super();
    this.#raw = raw;
    raw.on('data', (chunk) => {
      if (!this.#isDeaf) this.push(chunk);
    });
  }

  /** The peer's TLS sees nothing of what comes from now on. */
  deafen(): void {
    this.#isDeaf = true;
  }

  /** From now on what TLS writes is kept. */
  hold(): void {
    this.#held ??= [];
  }

  /** What TLS has written since `hold`, once it has written something. */
  async held(): Promise<Buffer> {
    this.hold();
    while (this.#held?.length === 0) await once(this, 'held');
    return Buffer.concat(this.#held?.splice(0) ?? []);
  }

  override _read(): void {
    // The socket is read throughout.
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (!this.#held) {
      this.#raw.write(chunk, done);
      return;
    }
    this.#held.push(chunk);
    this.emit('held');
    done();
  }

  override _final(done: (error?: Error | null) => void): void {
    if (!this.#held) this.#raw.end();
    done();
  }
}

/** The peer of a connection of the proxy, as a test plays it. */
export class Peer {
  readonly raw: Socket;
  readonly #stream: Duplex;
  readonly #wire: Wire | undefined;

  constructor(raw: Socket, tls: { readonly stream: Duplex; readonly wire: Wire } | undefined) {
    this.raw = raw;
    this.#stream = tls?.stream ?? raw;
    this.#wire = tls?.wire;
  }

  /** Sends bytes of content and waits until the kernel has them. */
  async send(bytes: Buffer): Promise<void> {
    await new Promise<void>((resolve) => this.#stream.write(bytes, () => resolve()));
  }

  /** Reads nothing more: what the proxy sends stays unread. */
  stopReading(): void {
    this.raw.pause();
  }

  /** The records of `bytes`, or the bytes themselves without TLS; nothing is sent. */
  async encrypted(bytes: Buffer): Promise<Buffer> {
    if (!this.#wire) return bytes;
    this.#wire.hold();
    this.#stream.write(bytes);
    return this.#wire.held();
  }

  /** The record of a close_notify; nothing is sent. */
  async closeNotify(): Promise<Buffer> {
    if (!this.#wire) throw new Error('only TLS has a close_notify');
    this.#wire.hold();
    this.#stream.end();
    return this.#wire.held();
  }

  /** The record of a fatal alert, with which TLS answers a forged record; nothing is sent. */
  async fatalAlert(): Promise<Buffer> {
    if (!this.#wire) throw new Error('only TLS has alerts');
    this.#wire.hold();
    this.#wire.push(FORGED_RECORD);
    return this.#wire.held();
  }

  /** What TLS has written on its own accord since it was held; nothing is sent. */
  held(): Promise<Buffer> {
    if (!this.#wire) throw new Error('only TLS writes by itself');
    return this.#wire.held();
  }

  /** TLS sees nothing of what the proxy sends from now on. */
  deafen(): void {
    this.#wire?.deafen();
  }

  destroy(): void {
    this.#stream.destroy();
    this.#wire?.destroy();
    this.raw.destroy();
  }
}

/** Where the relay writes what it reads; takes it at once, or nothing. */
class Sink extends Socket {
  #waiting: (() => void)[] | undefined;

  override _write(_chunk: unknown, _encoding: string, done: () => void): void {
    if (this.#waiting) this.#waiting.push(done);
    else done();
  }

  override _writev(_chunks: unknown, done: () => void): void {
    this._write(undefined, '', done);
  }

  /** Takes nothing any more: what is read next fills the queue of the relay. */
  block(): void {
    this.#waiting = [];
    this.write(Buffer.alloc(MAX_QUEUED_BYTES));
  }

  unblock(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    for (const done of waiting) done();
  }
}

/** What a watch reports; `fault` is an exception of the relay. */
export interface Report {
  readonly verdict: 'finished' | 'reset' | 'gone' | 'fault';
  /** The code of the error of a reset. */
  readonly error: string;
}

/** The proxy's end of a connection, read as the relay reads it. */
export class WatchedEnd {
  readonly #end: Pick<Upstream, 'stream' | 'raw'>;
  readonly #watch: HangUpWatch;
  readonly #sink = new Sink();
  readonly #reports: Report[] = [];
  bytesRead = 0;
  #changed: () => void = () => undefined;

  constructor(end: Pick<Upstream, 'stream' | 'raw'> & Partial<Pick<Upstream, 'receive'>>) {
    this.#end = end;
    const { stream, receive } = end;
    const report = (verdict: Report['verdict'], error = ''): void => {
      this.#reports.push({ verdict, error });
      this.#changed();
    };
    this.#watch = new HangUpWatch(end, {
      finished: () => report('finished'),
      reset: (error) => report('reset', error && codeOrMessage(error)),
      gone: () => report('gone'),
    });
    const options = {
      source: stream,
      sink: this.#sink,
      sinkEncrypts: false,
      pass: (bytes: Buffer): Buffer => {
        this.bytesRead += bytes.length;
        this.#changed();
        return bytes;
      },
      onEnd: () => undefined,
      onFault: (error: unknown) => report('fault', String(error)),
    };
    const pipe = receive ? new ReadHalfPipe(options, receive) : new TurnHalfPipe(options);
    pipe.start(Buffer.alloc(0));
    this.#watch.start();
  }

  /** Waits until this much was read. */
  async read(bytes: number): Promise<void> {
    while (this.bytesRead < bytes) await this.#change();
  }

  /** What the watch has reported, once it has made this many reports. */
  async reports(count: number): Promise<readonly Report[]> {
    while (this.#reports.length < count) await this.#change();
    return this.#reports;
  }

  /** Stops reading, as a relay does whose other end takes nothing. */
  block(): void {
    this.#sink.block();
  }

  unblock(): void {
    this.#sink.unblock();
  }

  /** Ends our side. */
  async end(): Promise<void> {
    this.#watch.endingOurSide();
    await new Promise<void>((resolve) => this.#end.stream.end(resolve));
  }

  /** Writes more than the kernel takes. */
  async writeUntilFull(): Promise<void> {
    const { stream, raw } = this.#end;
    const bytes = Buffer.alloc(1 << 20);
    for (let before = -1; before !== raw.bytesWritten || stream.writableLength === 0;) {
      before = raw.bytesWritten;
      if (stream.writableLength === 0) stream.write(bytes);
      await turn();
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => (this.#changed = resolve));
  }

  destroy(): void {
    this.#watch.stop();
    this.#sink.destroy();
    this.#end.stream.destroy();
    this.#end.raw.destroy();
  }
}

/** A connection between a peer and the proxy, whose end is not read yet. */
export interface PeerConnection {
  readonly peer: Peer;
  readonly end: Pick<Upstream, 'stream' | 'raw'> & Partial<Pick<Upstream, 'receive'>>;
}

/** What all connections of a test file are made with. */
export interface Parties {
  readonly directory: string;
  readonly caPem: string;
  /** The proxy's, as a server. */
  readonly terminator: TlsTerminator;
  /** The proxy's, as a client. */
  readonly client: TlsClient;
  /** Of peers that are dialled. */
  readonly servers: Readonly<Record<'tls1.2' | 'tls1.3', TlsServer>>;
}

/** Makes the parties; their files are in the directory. */
export async function parties(directory: string): Promise<Parties> {
  const authority = await Authority.create(directory);
  const issued = await authority.server();
  const server = (transport: Transport): TlsServer =>
    createTlsServer({
      cert: issued.certificatePem,
      key: issued.keyPem,
      ALPNProtocols: ['h2'],
      ...versionOf(transport),
    });
  return {
    directory,
    caPem: authority.caPem,
    terminator: new TlsTerminator(await serverMaterial([issued])),
    client: new TlsClient(await upstreamMaterial(authority.caPath)),
    servers: { 'tls1.2': server('tls1.2'), 'tls1.3': server('tls1.3') },
  };
}

/** How a connection is made. */
export interface ConnectOptions {
  readonly transport: Transport;
  readonly role: Role;
  /** Whether the session tickets of a TLS server are kept. */
  readonly withTickets: boolean;
}

let sockets = 0;

async function listen(transport: Transport, directory: string): Promise<[Server, NetConnectOpts]> {
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true });
  onTestFinished(() => void server.close());
  server.listen(
    transport === 'unix' ? { path: `${directory}/${++sockets}.socket` } : { host: '127.0.0.1', port: 0 },
  );
  await once(server, 'listening');
  const address = server.address();
  if (address === null) throw new Error('not bound');
  return [
    server,
    typeof address === 'string' ? { path: address } : { host: '127.0.0.1', port: address.port },
  ];
}

function acceptFrom(server: Server): Promise<Socket> {
  return new Promise((resolve) =>
    server.once('connection', (raw) => {
      raw.on('error', inspectAtClose);
      resolve(raw);
    }),
  );
}

/** Connects a peer and the proxy, as the stages leave it for the relay. */
export async function connectPeer(
  by: Parties,
  { transport, role, withTickets }: ConnectOptions,
): Promise<PeerConnection> {
  const [server, where] = await listen(transport, by.directory);
  const connection = await (role === 'accepted'
    ? acceptPeer(by, transport, server, where)
    : dialPeer(by, transport, withTickets, server, where));
  onTestFinished(() => connection.peer.destroy());
  return connection;
}

async function acceptPeer(
  { caPem, terminator }: Parties,
  transport: Transport,
  server: Server,
  where: NetConnectOpts,
): Promise<PeerConnection> {
  const accepting = acceptFrom(server);
  const peerRaw = connect({ ...where, allowHalfOpen: true, noDelay: true });
  peerRaw.on('error', inspectAtClose);
  const [raw] = await Promise.all([accepting, once(peerRaw, 'connect')]);
  if (!isTls(transport)) {
    peerRaw.resume();
    return { peer: new Peer(peerRaw, undefined), end: { stream: raw, raw } };
  }
  const wire = new Wire(peerRaw);
  wire.on('error', inspectAtClose);
  const peerStream = connectTls({
    socket: wire,
    ca: caPem,
    servername: 'localhost',
    ALPNProtocols: ['h2'],
    ...versionOf(transport),
  });
  peerStream.on('error', inspectAtClose).resume();
  const handshake = terminator
    .handshake(raw, undefined, 'localhost', 0, () => undefined)
    .then((stream) => {
      stream.on('error', () => abort(raw, stream));
      return stream.pause();
    });
  const [stream] = await Promise.all([handshake, once(peerStream, 'secureConnect')]);
  return { peer: new Peer(peerRaw, { stream: peerStream, wire }), end: { stream, raw } };
}

async function dialPeer(
  { client, servers }: Parties,
  transport: Transport,
  withTickets: boolean,
  server: Server,
  where: NetConnectOpts,
): Promise<PeerConnection> {
  const url = 'the peer';
  const address =
    'path' in where
      ? ({ scheme: 'unix', path: where.path, url } as const)
      : ({
          scheme: isTls(transport) ? 'tls' : 'tcp',
          host: where.host ?? '',
          port: where.port,
          url,
        } as const);
  const accepting = acceptFrom(server);
  const dial = createDialer(address, client, 60_000).dial('plain', undefined, new AbortController().signal);
  const peerRaw = await accepting;
  if (!isTls(transport)) {
    peerRaw.resume();
    return { peer: new Peer(peerRaw, undefined), end: await dial };
  }
  const tlsServer = servers[transport];
  const wire = new Wire(peerRaw);
  wire.on('error', inspectAtClose);
  const secured = new Promise<Duplex>((resolve) => tlsServer.once('secureConnection', resolve));
  tlsServer.emit('connection', wire);
  peerRaw.resume();
  const end = await dial;
  if (withTickets) wire.hold();
  const stream = await secured;
  stream.on('error', inspectAtClose).resume();
  return { peer: new Peer(peerRaw, { stream, wire }), end };
}

function isTls(transport: Transport): transport is 'tls1.2' | 'tls1.3' {
  return transport.startsWith('tls');
}

function versionOf(transport: Transport): { minVersion: SecureVersion; maxVersion: SecureVersion } {
  const version = transport === 'tls1.2' ? 'TLSv1.2' : 'TLSv1.3';
  return { minVersion: version, maxVersion: version };
}
