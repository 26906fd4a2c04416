import { constants } from 'node:http2';

import { deferred } from '../deferred.js';
import { FAREWELL_MS } from '../limits.js';
import type { Exchanged } from './message.js';
import { answerBody, REFUSALS, type RefusalAnswer } from './refusal.js';

/** The client's side of an exchange, over HTTP/1.1 or HTTP/2: sends the answer, and records whether it was written completely. */
export class ClientSide {
  /** Settles when no more can be sent: the answer was written, or the connection is closed. */
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

  /** No more can be sent to the client. */
  close(): void {
    this.#isClosed = true;
    this.#closed.resolve();
  }

  /** The status code of the answer, once that has begun. */
  get status(): number | undefined {
    const { response } = this.#exchanged;
    return response.headersSent ? response.statusCode : undefined;
  }

  /** Whether the complete answer was written. A client that disconnects afterwards has received it. */
  get isComplete(): boolean {
    const { protocol, response } = this.#exchanged;
    if (this.#isWritten) return true;
    return protocol === 'http1' ? response.writableFinished : this.#isStreamFinished;
  }

  /** Node also finishes an HTTP/2 answer that was aborted, and one whose client did not wait for it. */
  get #isStreamFinished(): boolean {
    const { protocol, response } = this.#exchanged;
    if (protocol === 'http1') return false;
    const { stream, writableEnded } = response;
    return writableEnded && stream.writableFinished && stream.rstCode === constants.NGHTTP2_NO_ERROR;
  }

  /** Whether the client can no longer be answered. */
  get isGone(): boolean {
    const { protocol, request, response } = this.#exchanged;
    return this.#isClosed || (protocol === 'http1' ? request.socket.destroyed : response.stream.destroyed);
  }

  /** Bytes of the answer that the client has not read yet. */
  get queuedBytes(): number {
    return this.#isClosed ? 0 : this.#exchanged.response.writableLength;
  }

  /** Adds `Connection: close` to an HTTP/1.1 answer that has not begun. */
  closeAfterwards(): void {
    const { protocol, response } = this.#exchanged;
    if (protocol !== 'http1' || response.headersSent) return;
    response.setHeader('connection', 'close');
    this.#isLast = true;
  }

  /** Whether the answer has `Connection: close`. */
  get isLast(): boolean {
    return this.#isLast;
  }

  /** Aborts an answer that has begun, so that the client does not take it for complete. `end` aborts an HTTP/1.1 connection. */
  breakOff(end: () => void): void {
    const { protocol, response } = this.#exchanged;
    if (protocol === 'http1') end();
    else response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }

  /**
   * Answers immediately on behalf of the proxy. `isLast` returns whether the connection ends after this answer; it is called when
   * the answer begins.
   *
   * The client has `FAREWELL_MS` to read it and to end its request, whose content is dropped meanwhile. Then the stream, or the
   * HTTP/1.1 connection, is ended, so that a refusal never stays open.
   * @returns the bytes of the answer's content, or 0 if the client has disconnected
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
   * Ends an answer of upstream, which needs no more of the request. `sendsNothing`: whether the client holds its content back.
   * Content that still arrives is dropped for `FAREWELL_MS`; then an HTTP/2 client is asked to stop.
   */
  async finish(sendsNothing: boolean): Promise<void> {
    const { protocol, request, response } = this.#exchanged;
    this.#dropContent();
    if (!request.readableEnded && !request.complete && !sendsNothing) await this.#contentDropped();
    // The response emits `finish` only when its stream is closed.
    if (protocol === 'http2') response.stream.once('finish', () => this.#endLater(() => undefined));
    response.end();
  }

  /** Whether the proxy had to end the exchange, because the client did not read the answer. */
  get wasEnded(): boolean {
    return this.#wasEnded;
  }

  /** Ends the exchange after `FAREWELL_MS`. `breakOff` aborts an HTTP/1.1 connection whose client is not reading. */
  #endLater(breakOff: () => void): void {
    const timer = setTimeout(() => this.#endNow(breakOff), FAREWELL_MS);
    void this.closed.then(() => clearTimeout(timer));
  }

  #endNow(breakOff: () => void): void {
    const { protocol, response } = this.#exchanged;
    if (protocol === 'http2') {
      this.#wasEnded = !this.#isWritten;
      // RFC 9113 section 8.1: NO_ERROR after a complete answer asks the client to stop sending.
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
    // Node keeps an HTTP/2 stream until all its content was read, and serves at most MAX_HTTP2_REQUESTS streams.
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
   * @returns whether it ended without content within `withinMs`
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
