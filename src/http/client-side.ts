import { constants } from 'node:http2';

import { deferred } from '../deferred.js';
import { FAREWELL_MS } from '../limits.js';
import type { Exchanged } from './message.js';
import { answerBody, REFUSALS, type RefusalAnswer } from './refusal.js';

/** The client's side of an exchange: what can be said to it still, over HTTP/1.1 or HTTP/2, and whether it has had it. */
export class ClientSide {
  /** Settles when nothing more can be said: the answer was written, or the connection is gone. */
  readonly closed: Promise<void>;
  readonly #closed = deferred();
  readonly #exchanged: Exchanged;
  #isClosed = false;
  #isLast = false;
  #isWritten = false;
  #wasEnded = false;

  constructor(exchanged: Exchanged) {
    this.#exchanged = exchanged;
    this.closed = this.#closed.promise;
    const { protocol, response } = exchanged;
    response.once('close', () => this.close());
    if (protocol !== 'http2') return;
    response.stream.once('finish', () => (this.#isWritten ||= this.#isStreamFinished));
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Nothing more can be said. */
  close(): void {
    this.#isClosed = true;
    this.#closed.resolve();
  }

  /** The status of the answer, once that has begun. */
  get status(): number | undefined {
    const { response } = this.#exchanged;
    return response.headersSent ? response.statusCode : undefined;
  }

  /** Whether the whole answer was written; a client that leaves afterwards has had it. */
  get isComplete(): boolean {
    const { protocol, response } = this.#exchanged;
    if (this.#isWritten) return true;
    return protocol === 'http1' ? response.writableFinished : this.#isStreamFinished;
  }

  /** Node finishes an HTTP/2 answer that was broken off, too, and one that the client did not wait for. */
  get #isStreamFinished(): boolean {
    const { protocol, response } = this.#exchanged;
    if (protocol === 'http1') return false;
    const { stream, writableEnded } = response;
    return writableEnded && stream.writableFinished && stream.rstCode === constants.NGHTTP2_NO_ERROR;
  }

  /** Whether nobody is there to be answered. */
  get isGone(): boolean {
    const { protocol, request, response } = this.#exchanged;
    return this.#isClosed || (protocol === 'http1' ? request.socket.destroyed : response.stream.destroyed);
  }

  /** Bytes of the answer that it has not taken yet. */
  get queuedBytes(): number {
    return this.#isClosed ? 0 : this.#exchanged.response.writableLength;
  }

  /** An answer that has not begun tells an HTTP/1.1 client that the connection ends after it. */
  closeAfterwards(): void {
    const { protocol, response } = this.#exchanged;
    if (protocol !== 'http1' || response.headersSent) return;
    response.setHeader('connection', 'close');
    this.#isLast = true;
  }

  /** Whether it was told so. */
  get isLast(): boolean {
    return this.#isLast;
  }

  /** What has begun cannot end well any more: the client must see that. `end` is what to do with HTTP/1.1. */
  breakOff(end: () => void): void {
    const { protocol, response } = this.#exchanged;
    if (protocol === 'http1') end();
    else response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }

  /**
   * Answers on behalf of the proxy, at once. `isLast`: whether the connection ends after this answer; asked when it begins.
   *
   * The client has `FAREWELL_MS` to read it and to end its request, whose content is dropped meanwhile. Then the stream, or
   * the connection of HTTP/1.1, is ended, so that a refusal never stays open.
   * @returns the bytes of the answer's content, or 0 if the client has left
   */
  answer(answer: RefusalAnswer, isLast: () => boolean, breakOff: () => void): number {
    const { protocol, request, response } = this.#exchanged;
    if (this.#isClosed) return 0;
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    const body = answerBody(answer);
    response.statusCode = answer.status;
    response.setHeader('content-type', 'application/json');
    response.setHeader('content-length', Buffer.byteLength(body));
    response.setHeader('cache-control', 'no-store');
    if (answer === REFUSALS.method)
      response.setHeader('allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS');
    const isWhole = request.complete;
    if (isLast() || !isWhole) this.closeAfterwards();
    this.#dropContent();
    if (protocol === 'http2' || isWhole) {
      response.end(body);
    } else {
      // Node closes the connection when the answer has ended, and a reset for unread content could overtake the answer.
      response.write(body, (error) => (this.#isWritten = !error));
      response.flushHeaders();
      request.once('end', () => response.end());
    }
    this.#endLater(breakOff);
    return Buffer.byteLength(body);
  }

  /**
   * Ends an answer of upstream's, which needs no more of the request. `sendsNothing`: whether the client holds its content
   * back. What it still sends is dropped for `FAREWELL_MS`; then an HTTP/2 client is asked to stop.
   */
  async finish(sendsNothing: boolean): Promise<void> {
    const { protocol, request, response } = this.#exchanged;
    this.#dropContent();
    if (!request.readableEnded && !request.complete && !sendsNothing) await this.#contentDropped();
    // `finish` of the response comes only when its stream is closed.
    if (protocol === 'http2') response.stream.once('finish', () => this.#endLater(() => undefined));
    response.end();
  }

  /** Whether the proxy had to end the exchange, because the client did not read the answer. */
  get wasEnded(): boolean {
    return this.#wasEnded;
  }

  /** Ends the exchange after `FAREWELL_MS`. `breakOff` ends an HTTP/1.1 connection whose client reads nothing. */
  #endLater(breakOff: () => void): void {
    const timer = setTimeout(() => this.#endNow(breakOff), FAREWELL_MS);
    void this.closed.then(() => clearTimeout(timer));
  }

  #endNow(breakOff: () => void): void {
    const { protocol, response } = this.#exchanged;
    if (protocol === 'http2') {
      this.#wasEnded = !this.#isWritten;
      // RFC 9113 section 8.1: NO_ERROR behind a whole answer asks the client to stop sending.
      response.stream.close(this.#isWritten ? constants.NGHTTP2_NO_ERROR : constants.NGHTTP2_CANCEL);
    } else if (response.writableLength > 0) {
      breakOff();
    } else {
      response.end();
    }
  }

  /** Reads and drops the content of the request. http2-proxy may have paused it, and pauses it again. */
  #dropContent(): void {
    const { request, response } = this.#exchanged;
    // Node keeps an HTTP/2 stream until all its content was read, and serves MAX_HTTP2_REQUESTS of them.
    request.on('pause', () => process.nextTick(() => request.resume()));
    response.once('finish', () => request.resume());
    request.resume();
  }

  /** Settles when the request has ended, at the latest after `FAREWELL_MS`. */
  #contentDropped(): Promise<void> {
    const { request } = this.#exchanged;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, FAREWELL_MS);
      const done = (): void => {
        clearTimeout(timer);
        resolve();
      };
      request.once('end', done);
      void this.closed.then(done);
    });
  }

  /**
   * Waits for the end of an HTTP/2 request whose method has no content, but whose header did not end it.
   * @returns whether it ended without content, and in time
   */
  endsWithoutContent(withinMs: number): Promise<boolean> {
    const { request } = this.#exchanged;
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), withinMs);
      request.once('data', () => resolve(false)).once('end', () => resolve(true));
      void this.closed.then(() => resolve(true));
      void this.closed.then(() => clearTimeout(timer));
    });
  }
}
