import { codeOf } from '../error-codes.js';
import type { AbuseLimits } from '../inspect/abuse-limits.js';
import { createServer as createHttp1Server, type IncomingMessage, type ServerResponse } from 'node:http';
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import type { Socket } from 'node:net';

import { guarded } from '../guarded.js';
import { ClientFrames, type ClientFrameEvents, type FramesFault } from '../inspect/http2/client-frames.js';
import { goAwayFrame, settingsFrame } from '../inspect/http2/encode.js';
import { MAX_HEADER_FIELDS, MAX_HTTP2_REQUESTS } from '../limits.js';
import { TappedStream } from '../tls/tapped-stream.js';
import { isHost } from './host.js';
import { Http2Service } from './http2-service.js';
import type { Exchanged, Expectation } from './message.js';

/** Receives the results of the parsers of one connection. */
export interface RequestReceiver extends ClientFrameEvents {
  request(exchanged: Exchanged, expectation: Expectation): void;
  /** The frames of an HTTP/2 client cannot be followed, or exceed a limit. The client was sent GOAWAY. */
  unfollowed(fault: FramesFault): void;
  /** The bytes are not HTTP, or HTTP that is not accepted. No more bytes are parsed. `code` is the error code of Node. */
  unreadable(code: string): void;
  /** An HTTP/1.1 client requested a tunnel. No more bytes are parsed. */
  tunnel(): void;
  /** One of the methods above has thrown an exception. */
  failed(fault: unknown): void;
}

/** Node's HTTP parsers. They are given connections, and create a session for each HTTP/2 connection. */
export class Frontend {
  readonly #receivers = new WeakMap<object, RequestReceiver>();
  readonly #http1 = this.#createHttp1();
  readonly #http2 = this.#createHttp2();

  /** Serves HTTP/1.1 on a paused stream, which may already hold bytes. */
  serveHttp1(stream: Socket, receiver: RequestReceiver): void {
    this.#receivers.set(stream, receiver);
    this.#http1.emit('connection', stream);
    stream.resume();
  }

  /** Serves HTTP/2 on a paused stream. `ClientFrames` checks the frames before Node's parser gets them. */
  serveHttp2(stream: Socket, receiver: RequestReceiver, limits: AbuseLimits): Http2Service {
    let session: ServerHttp2Session | undefined;
    const frames = new ClientFrames(receiver, isHost, limits);
    const tapped = new TappedStream(stream, (bytes) => {
      // The session has ended, so no parser would read these bytes.
      if (session?.destroyed === true) return false;
      let fault: FramesFault | undefined;
      try {
        fault = frames.read(bytes, stream.bytesWritten, performance.now());
      } catch (error) {
        receiver.failed(error);
        return false;
      }
      if (fault === undefined) return true;
      // Node would reset the connection, and the reset could overtake its GOAWAY.
      const goAway = goAwayFrame(session?.state.lastProcStreamID ?? 0, fault.errorCode);
      tapped.release(tapped.hasWritten ? goAway : Buffer.concat([settingsFrame('settings'), goAway]));
      if (session) {
        this.#receivers.delete(session);
        session.destroy();
      }
      receiver.unfollowed(fault);
      return false;
    });
    this.#http2.once('session', (created) => (session = created));
    this.#http2.emit('connection', tapped);
    if (!session) throw new Error('Node created no HTTP/2 session for a connection');
    this.#receivers.set(session, receiver);
    return new Http2Service(session, tapped);
  }

  /** Node's servers are shared. An exception in their handlers would otherwise not be assigned to its connection. */
  #tell(key: object, step: (receiver: RequestReceiver) => void): void {
    const receiver = this.#receivers.get(key);
    if (!receiver) return;
    guarded(
      (fault) => receiver.failed(fault),
      () => step(receiver),
    )();
  }

  #createHttp1() {
    const server = createHttp1Server({
      // Answered by the exchange, so that it is counted.
      requireHostHeader: false,
      // The connection has its own deadlines: Node checks these only on a server that listens. A complete request or answer has no
      // deadline.
      headersTimeout: 0,
      requestTimeout: 0,
      keepAliveTimeout: 0,
      insecureHTTPParser: false,
    });
    // With a limit, Node would keep the first fields and silently drop the others, one of which may be a second Host. The size of
    // the header is limited (16 KiB), and the exchange counts the fields.
    server.maxHeadersCount = 0;
    const on = (request: IncomingMessage, response: ServerResponse, expectation: Expectation): void => {
      const exchanged = { protocol: 'http1', request, response } as const;
      this.#tell(request.socket, (receiver) => receiver.request(exchanged, expectation));
    };
    server.on('request', (request, response) => on(request, response, 'none'));
    server.on('checkContinue', (request, response) => on(request, response, 'continue'));
    server.on('checkExpectation', (request, response) => on(request, response, 'unknown'));
    server.on('clientError', (error, stream) => {
      this.#tell(stream, (receiver) => receiver.unreadable(codeOf(error)));
    });
    server.on('connect', (_request, stream) => this.#tell(stream, (receiver) => receiver.tunnel()));
    return server;
  }

  #createHttp2() {
    const server = createHttp2Server({
      maxHeaderListPairs: MAX_HEADER_FIELDS,
      settings: { maxConcurrentStreams: MAX_HTTP2_REQUESTS },
    });
    const on = (
      request: Http2ServerRequest,
      response: Http2ServerResponse,
      expectation: Expectation,
    ): void => {
      const exchanged = { protocol: 'http2', request, response } as const;
      const { session } = request.stream;
      if (session) this.#tell(session, (receiver) => receiver.request(exchanged, expectation));
    };
    server.on('request', (request, response) => on(request, response, 'none'));
    server.on('checkContinue', (request, response) => on(request, response, 'continue'));
    server.on('checkExpectation', (request: Http2ServerRequest, response: Http2ServerResponse) =>
      on(request, response, 'unknown'),
    );
    // Otherwise Node answers CONNECT itself, and the request is not counted.
    server.on('connect', (request: Http2ServerRequest, response: Http2ServerResponse) =>
      on(request, response, 'none'),
    );
    server.on('sessionError', (error, session) => {
      this.#tell(session, (receiver) => receiver.unreadable(codeOf(error)));
    });
    return server;
  }
}
