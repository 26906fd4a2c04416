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
import { goAwayFrame, MAX_STREAM_ID, settingsFrame } from '../inspect/http2/encode.js';
import { ErrorCode } from '../inspect/http2/http2-frame.js';
import { MAX_HEADER_FIELDS, MAX_HTTP2_REQUESTS } from '../limits.js';
import { TappedStream } from '../tls/tapped-stream.js';
import { isHost } from './host.js';
import type { Exchanged, Expectation } from './message.js';

/** Who takes what the parsers of one connection find. */
export interface RequestReceiver extends ClientFrameEvents {
  request(exchanged: Exchanged, expectation: Expectation): void;
  /** The frames of an HTTP/2 client cannot be followed, or exceed a limit. The client was sent GOAWAY. */
  unfollowed(fault: FramesFault): void;
  /** What came is no HTTP, or none that is taken. Nothing more is parsed. `code`: Node's. */
  unreadable(code: string): void;
  /** An HTTP/1.1 client wants a tunnel. Nothing more is parsed. */
  tunnel(): void;
  /** An exception was thrown in one of the above. */
  failed(fault: unknown): void;
}

/** An HTTP/2 connection as it is served. */
export interface Http2Service {
  readonly session: ServerHttp2Session;
  /**
   * Whether the session neither reads nor has anything to write. For longer than a moment that is so of one alone that nghttp2
   * has ended by GOAWAY, for an error of the client's: Node does not close its connection while a stream is open (nghttp2's
   * `nghttp2_session_want_read`: "the application should drop the connection").
   */
  standsStill(): boolean;
  /**
   * Tells the client to make no new requests here, and serves those that it made before it knew: GOAWAY that names no last
   * stream (RFC 9113 section 6.8). After Node's own `goaway`, nghttp2 would silently ignore new streams.
   */
  announceShutdown(): void;
}

/** Node's parsers of HTTP, which are handed connections; of an HTTP/2 connection there is a session then. */
export class Frontend {
  readonly #receivers = new WeakMap<object, RequestReceiver>();
  readonly #http1 = this.#createHttp1();
  readonly #http2 = this.#createHttp2();

  /** Has HTTP/1.1 read from a stream that is paused, and may hold bytes that have been read. */
  serveHttp1(stream: Socket, receiver: RequestReceiver): void {
    this.#receivers.set(stream, receiver);
    this.#http1.emit('connection', stream);
    stream.resume();
  }

  /** The same of HTTP/2, whose frames are looked at before Node's parser has them. */
  serveHttp2(stream: Socket, receiver: RequestReceiver, limits: AbuseLimits): Http2Service {
    let session: ServerHttp2Session | undefined;
    const frames = new ClientFrames(receiver, isHost, limits);
    const tapped = new TappedStream(stream, (bytes) => {
      // What comes yet is nobody's.
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
    if (!session) throw new Error('Node made no HTTP/2 session of a connection');
    this.#receivers.set(session, receiver);
    // Node reads on as soon as what it wrote has been taken.
    return {
      session,
      standsStill: () => tapped.isPaused() && tapped.writableLength === 0,
      announceShutdown: () => tapped.insert(goAwayFrame(MAX_STREAM_ID, ErrorCode.none)),
    };
  }

  /** Node's servers are shared: an exception in the code of one connection would leave its handler with nobody's connection. */
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
      // Deadlines are the connection's own: Node looks for these only on a server that listens. There is none on a
      // whole request or answer.
      headersTimeout: 0,
      requestTimeout: 0,
      keepAliveTimeout: 0,
      insecureHTTPParser: false,
    });
    // Of more than this Node would take the first and forget the others, one of which may be a second Host. The size
    // is bounded (16 KiB), and the exchange counts.
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
    // Else Node answers CONNECT itself, uncounted.
    server.on('connect', (request: Http2ServerRequest, response: Http2ServerResponse) =>
      on(request, response, 'none'),
    );
    server.on('sessionError', (error, session) => {
      this.#tell(session, (receiver) => receiver.unreadable(codeOf(error)));
    });
    return server;
  }
}
