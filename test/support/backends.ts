import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';

import { onTestFinished } from 'vitest';

import { DemoBackend } from '../../src/commands/demo/demo-backend.js';

/** One connection that a backend accepted. */
export class BackendConnection {
  readonly socket: Socket;
  readonly chunks: Buffer[] = [];
  /** How the client's side ended: with a FIN or a reset. */
  readonly ended: Promise<'end' | 'reset'>;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.chunks.push(chunk));
    this.ended = new Promise((resolve) => {
      socket.once('end', () => resolve('end'));
      socket.once('error', () => resolve('reset'));
      socket.once('close', () => resolve('reset'));
    });
  }

  get received(): Buffer {
    return Buffer.concat(this.chunks);
  }

  /** Breaks the connection off, as a Gitaly does that is killed. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  /** Waits until this many bytes have come. */
  async receive(length: number): Promise<Buffer> {
    while (this.received.length < length) await once(this.socket, 'data');
    return this.received;
  }
}

/** A backend in Gitaly's place that records what it receives; the test writes the answers. */
export class RawBackend {
  readonly connections: BackendConnection[] = [];
  readonly #server: Server;
  readonly #waiting: ((connection: BackendConnection) => void)[] = [];
  #next = 0;

  private constructor(server: Server, event: 'connection' | 'secureConnection' = 'connection') {
    this.#server = server;
    server.on(event, (socket: Socket) => {
      const connection = new BackendConnection(socket);
      this.connections.push(connection);
      this.#waiting.shift()?.(connection);
    });
  }

  /** Listens on a free port of 127.0.0.1, or on a unix socket. It is closed with the test. */
  static async start(path?: string): Promise<RawBackend> {
    const server = createServer({ allowHalfOpen: true });
    server.listen(path === undefined ? { host: '127.0.0.1', port: 0 } : { path });
    await once(server, 'listening');
    const backend = new RawBackend(server);
    onTestFinished(() => backend.stop());
    return backend;
  }

  /** The same behind TLS: a connection is there when its handshake is over. ALPN h2 unless asked otherwise. */
  static async startTls(options: TlsOptions): Promise<RawBackend> {
    const server = createTlsServer({ ALPNProtocols: ['h2'], allowHalfOpen: true, ...options });
    server.listen({ host: '127.0.0.1', port: 0 });
    await once(server, 'listening');
    const backend = new RawBackend(server, 'secureConnection');
    onTestFinished(() => backend.stop());
    return backend;
  }

  /** What to write after `forward:`. */
  get url(): string {
    const address = this.#server.address();
    if (address === null) throw new Error('the backend is closed');
    return typeof address === 'string' ? `unix:${address}` : `tcp://127.0.0.1:${address.port}`;
  }

  /** The same for `startTls`; the certificate must hold the host. */
  tlsUrl(host = 'localhost'): string {
    return `tls://${host}:${new URL(this.url).port}`;
  }

  /** The next connection that no call has returned yet. */
  async accept(): Promise<BackendConnection> {
    const index = this.#next++;
    const there = this.connections[index];
    return there ?? new Promise((resolve) => this.#waiting.push(resolve));
  }

  stop(): void {
    this.#server.close();
    for (const { socket } of this.connections) socket.destroy();
  }
}

/** Starts a gRPC server (health, and one method of each kind: `GrpcClient`), stopped with the test; what to forward to. */
export async function startGrpcBackend(): Promise<string> {
  const backend = await DemoBackend.start(0);
  onTestFinished(() => backend.stop());
  return `tcp://127.0.0.1:${backend.port}`;
}

/** An address without a listener: connections to it are refused. */
export async function refusingBackend(): Promise<string> {
  const backend = await RawBackend.start();
  const { url } = backend;
  backend.stop();
  return url;
}
