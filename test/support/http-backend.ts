import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { TLSSocket } from 'node:tls';

import { onTestFinished } from 'vitest';

/** A request as upstream got it. */
export interface ReceivedRequest {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
  readonly trailers: IncomingMessage['trailers'];
}

/** Answers a request; what `HttpBackend` does otherwise is to read it whole, keep it, and answer 200. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A GitLab in the place of upstream, which keeps what it gets. It is closed with the test. */
export class HttpBackend {
  /** Those that the standard handler has read whole. */
  readonly requests: ReceivedRequest[] = [];
  /** Every connection that was made to it. */
  readonly connections: Socket[] = [];
  /** The serial numbers of the certificates that they have presented. */
  readonly serialNumbers: string[] = [];
  /** Answers instead of the standard handler. */
  handler: Handler | undefined;
  readonly server: Server;
  readonly #scheme: 'http' | 'https';

  private constructor(server: Server, scheme: 'http' | 'https') {
    this.server = server;
    this.#scheme = scheme;
    // Connections end when the proxy ends them, or the test.
    server.keepAliveTimeout = 0;
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      if (this.handler) this.handler(request, response);
      else void this.#record(request, response);
    };
    server.on('request', handle);
    server.on('checkContinue', handle);
    server.on(scheme === 'https' ? 'secureConnection' : 'connection', (socket: Socket) => {
      this.connections.push(socket);
      // Gone when the connection is.
      const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
      if (certificate) this.serialNumbers.push(certificate.serialNumber.toLowerCase());
    });
  }

  /** On a free port of 127.0.0.1, or on a unix socket. */
  static start(path?: string): Promise<HttpBackend> {
    return HttpBackend.#listen(new HttpBackend(createServer(), 'http'), path);
  }

  static startTls(options: ServerOptions): Promise<HttpBackend> {
    return HttpBackend.#listen(new HttpBackend(createTlsServer(options), 'https'), undefined);
  }

  static async #listen(backend: HttpBackend, path: string | undefined): Promise<HttpBackend> {
    backend.server.listen(path === undefined ? { host: '127.0.0.1', port: 0 } : { path });
    await once(backend.server, 'listening');
    onTestFinished(() => backend.stop());
    return backend;
  }

  /** What to write after `forward:`. */
  get url(): string {
    const address = this.server.address();
    if (address === null) throw new Error('the backend is closed');
    if (typeof address === 'string') return `unix:${address}`;
    return `${this.#scheme}://${this.#scheme === 'https' ? 'localhost' : '127.0.0.1'}:${address.port}`;
  }

  /** The last request. */
  get last(): ReceivedRequest {
    const request = this.requests.at(-1);
    if (!request) throw new Error('no request has come');
    return request;
  }

  /** Ends the connections that the proxy keeps. */
  closeConnections(): void {
    this.server.closeAllConnections();
  }

  stop(): void {
    this.server.close();
    this.closeConnections();
  }

  async #record(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.headers.expect !== undefined) response.writeContinue();
    const body = await buffer(request).catch(() => undefined);
    if (!body) return;
    const { method, url, headers, rawHeaders, trailers } = request;
    this.requests.push({ method, url, headers, rawHeaders, body, trailers });
    response.setHeader('content-type', 'application/json');
    response.end('{"status":true}');
  }
}
