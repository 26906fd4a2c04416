import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingHttpHeaders } from 'node:http';
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import { createServer, type Server, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';

import { onTestFinished } from 'vitest';
import { yamux } from './yamux-frames.js';

/** How a stand-in differs from a Gitaly that needs no token. */
export interface StandInOptions {
  /** Behind TLS; ALPN h2 unless asked otherwise. */
  readonly tls?: TlsOptions;
  /** A unix socket to listen on. */
  readonly path?: string;
  readonly host?: string;
  readonly port?: number;
  /** `[auth] token`. */
  readonly token?: string;
  /** How far its clock is ahead. */
  readonly clockAheadMs?: number;
  /** `HealthCheckResponse.ServingStatus`; 1 is SERVING. */
  readonly health?: number;
  /** Whether it knows the backchannel. */
  readonly backchannel?: boolean;
  readonly writeable?: boolean;
}

/** Gitaly's own (auth/token.go). */
const TOKEN_VALID_MS = 30_000;

/** Answers as a Gitaly does: health, ServerInfo and WriteRef, by HTTP/2 and by the backchannel, with its tokens. */
export class StandInGitaly {
  /** The `authorization` of each call, in their order. */
  readonly authorizations: (string | undefined)[] = [];
  /** The methods that were called. */
  readonly calls: string[] = [];
  /** The metadata of each call. */
  readonly metadata: IncomingHttpHeaders[] = [];
  /** The first bytes of each connection. */
  readonly heads: Buffer[] = [];
  /** Streams that it opened itself, and what came on them. */
  readonly reverse: Buffer[] = [];
  /** May be changed while it runs. */
  health: number;
  readonly #options: StandInOptions;
  readonly #http2: Http2Server = createHttp2Server();
  #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(options: StandInOptions) {
    this.#options = options;
    this.health = options.health ?? 1;
    this.#http2.on('stream', (stream, headers) => {
      this.authorizations.push(headers.authorization);
      this.metadata.push(headers);
      this.calls.push(String(headers[':path']));
      this.#answer(stream, String(headers[':path']), headers.authorization);
    });
    this.#http2.on('sessionError', () => undefined);
    this.#server = this.#create();
  }

  /** It is stopped with the test. */
  static async start(options: StandInOptions = {}): Promise<StandInGitaly> {
    const standIn = new StandInGitaly(options);
    await standIn.listen(options.port ?? 0);
    onTestFinished(() => standIn.stop());
    return standIn;
  }

  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  /** Its address for `forward:` and `check`. */
  get url(): string {
    const { path, host = '127.0.0.1', tls } = this.#options;
    if (path !== undefined) return `unix:${path}`;
    return tls ? `tls://localhost:${this.port}` : `tcp://${host}:${this.port}`;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  async listen(port: number): Promise<void> {
    const { path, host = '127.0.0.1' } = this.#options;
    this.#server.listen(path === undefined ? { host, port } : { path });
    await once(this.#server, 'listening');
  }

  /** Goes away, as a Gitaly that is killed. */
  stop(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Comes back on the port that it had. */
  async startAgain(port: number): Promise<void> {
    this.#server = this.#create();
    await this.listen(port);
  }

  #create(): Server {
    const { tls } = this.#options;
    const server = tls ? createTlsServer({ ALPNProtocols: ['h2'], ...tls }) : createServer();
    server.on('tlsClientError', () => undefined);
    server.on(tls ? 'secureConnection' : 'connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => this.#sockets.delete(socket));
      // The first bytes come whole from these clients.
      socket.once('data', (head: Buffer) => {
        this.heads.push(head);
        socket.pause();
        if (head.toString('latin1', 0, 11) !== 'backchannel') {
          socket.unshift(head);
          this.#http2.emit('connection', socket);
        } else if (this.#options.backchannel ?? true) {
          socket.unshift(head.subarray(11));
          const stream = new YamuxServerStream(socket, (bytes) => this.reverse.push(bytes));
          this.#http2.emit('connection', stream);
        } else socket.destroy();
      });
    });
    return server;
  }

  #answer(stream: ServerHttp2Stream, path: string, authorization: string | undefined): void {
    stream.on('error', () => undefined);
    const refusal = this.#refusal(authorization);
    if (refusal) {
      const [status, message] = refusal;
      const headers = { 'content-type': 'application/grpc', 'grpc-status': status, 'grpc-message': message };
      stream.respond(headers, { endStream: true });
      return;
    }
    const content = this.#contentOf(path);
    if (content === undefined) {
      const headers = {
        'content-type': 'application/grpc',
        'grpc-status': '12',
        'grpc-message': 'unknown%20service',
      };
      stream.respond(headers, { endStream: true });
      return;
    }
    stream.respond({ 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'grpc-message': '' }));
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(content.length, 1);
    stream.end(Buffer.concat([prefix, content]));
  }

  #refusal(authorization: string | undefined): readonly [string, string] | undefined {
    const { token, clockAheadMs = 0 } = this.#options;
    if (token === undefined) return undefined;
    const match = /^Bearer v2\.([0-9a-f]+)\.(\d+)$/.exec(authorization ?? '');
    if (!match) return ['16', 'authentication%20required'];
    const [, signature, seconds = ''] = match;
    const expected = createHmac('sha256', token).update(seconds).digest('hex');
    const isInTime = Math.abs(Date.now() + clockAheadMs - Number(seconds) * 1000) <= TOKEN_VALID_MS;
    return signature === expected && isInTime ? undefined : ['7', 'permission%20denied'];
  }

  #contentOf(path: string): Buffer | undefined {
    if (path === '/grpc.health.v1.Health/Check') return Buffer.from([0x08, this.health]);
    if (path === '/gitaly.RepositoryService/WriteRef') return Buffer.alloc(0);
    if (path !== '/gitaly.ServerService/ServerInfo') return undefined;
    const storage = Buffer.concat([
      textField(1, 'default'),
      Buffer.from([0x10, 1]),
      Buffer.from([0x18, (this.#options.writeable ?? true) ? 1 : 0]),
      textField(4, 'EXT_2_3_4'),
      Buffer.from([0x30, 1]),
    ]);
    return Buffer.concat([textField(1, '15.11.13'), textField(2, '2.39.2'), field(3, storage)]);
  }
}

function textField(number: number, text: string): Buffer {
  return field(number, Buffer.from(text));
}

function field(number: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([number * 8 + 2, content.length]), content]);
}

/** Gitaly's side of a backchannel: the stream that the client opened. It opens one itself at once, as Gitaly does. */
class YamuxServerStream extends Duplex {
  readonly #socket: Socket;
  readonly #onReverse: (bytes: Buffer) => void;
  #pending: Buffer = Buffer.alloc(0);

  constructor(socket: Socket, onReverse: (bytes: Buffer) => void) {
    super();
    this.#socket = socket;
    this.#onReverse = onReverse;
    // A stream with the preface of HTTP/2 and SETTINGS, and a PING of yamux, which wants an answer.
    const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u0004\0\0\0\0\0', 'latin1');
    socket.write(Buffer.concat([yamux(1, 1, 2, 16_515_072), yamux(0, 0, 2, preface.length), preface]));
    socket.write(yamux(2, 1, 0, 77));
    socket.on('data', (bytes: Buffer) => this.#read(bytes)).resume();
    socket.once('close', () => this.destroy());
  }

  override _read(): void {
    // Little is received.
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#socket.write(Buffer.concat([yamux(0, 0, 1, bytes.length), bytes]), done);
  }

  override _final(done: () => void): void {
    this.#socket.write(yamux(1, 4, 1, 0));
    done();
  }

  #read(bytes: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    while (this.#pending.length >= 12) {
      const type = this.#pending.readUInt8(1);
      const flags = this.#pending.readUInt16BE(2);
      const id = this.#pending.readUInt32BE(4);
      const length = type === 0 ? this.#pending.readUInt32BE(8) : 0;
      if (this.#pending.length < 12 + length) return;
      const content = this.#pending.subarray(12, 12 + length);
      this.#pending = this.#pending.subarray(12 + length);
      if (id === 1 && length > 0) this.push(content);
      if (id === 2 && length > 0) this.#onReverse(content);
      if (type === 2 && flags === 2) this.#onReverse(Buffer.from('pong'));
      if (id === 1 && (flags & 1) === 1) this.#socket.write(yamux(1, 2, 1, 0));
    }
  }
}
