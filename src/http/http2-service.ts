import type { ServerHttp2Session } from 'node:http2';

import { goAwayFrame, MAX_STREAM_ID } from '../inspect/http2/encode.js';
import { ErrorCode } from '../inspect/http2/http2-frame.js';
import type { TappedStream } from '../tls/tapped-stream.js';

/** An HTTP/2 connection that is being served. */
export class Http2Service {
  readonly session: ServerHttp2Session;
  readonly #stream: TappedStream;

  constructor(session: ServerHttp2Session, stream: TappedStream) {
    this.session = session;
    this.#stream = stream;
  }

  /**
   * Whether the session neither reads nor has bytes to write. This lasts only if nghttp2 has ended the session with GOAWAY because
   * of an error of the client. Node does not close such a connection while a stream is open (nghttp2's `nghttp2_session_want_read`:
   * "the application should drop the connection").
   */
  standsStill(): boolean {
    // Node continues to read as soon as its writes have been accepted.
    return this.#stream.isPaused() && this.#stream.writableLength === 0;
  }

  /**
   * Asks the client to make no new requests here, and closes the session for new ones after a round trip, at the latest after `pingMs`.
   * Then `onClosed` is called; open requests are still served.
   *
   * RFC 9113 section 6.8: a GOAWAY with the maximum stream id, and one with the real last stream once the client has received it.
   * Requests that the client made before that are served. After Node's own `goaway`, nghttp2 would silently ignore new streams.
   */
  drain(pingMs: number, onClosed: () => void): void {
    const { session } = this;
    if (session.destroyed || session.closed) return;
    this.#stream.insert(goAwayFrame(MAX_STREAM_ID, ErrorCode.none));
    const close = (): void => {
      clearTimeout(timer);
      if (!session.destroyed) session.close();
      onClosed();
    };
    // A client that does not acknowledge the PING could make new requests indefinitely.
    const timer = setTimeout(close, pingMs);
    this.#stream.once('close', () => clearTimeout(timer));
    if (!session.ping(close)) close();
  }
}
