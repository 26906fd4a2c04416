import { constants } from 'node:http2';

import { FAREWELL_MS } from '../limits.js';
import type { Exchanged } from './message.js';
import { answerBody, REFUSALS, type Answer } from './refusal.js';

/** The client's side of an exchange: what can be said to it still, over HTTP/1.1 or HTTP/2, and whether it has had it. */
export class ClientSide {
  /** Settles when nothing more can be said: the answer was written, or the connection is gone. */
  readonly closed: Promise<void>;
  readonly #exchanged: Exchanged;
  #settleClosed: () => void = () => undefined;
  #isClosed = false;
  #isLast = false;

  constructor(exchanged: Exchanged) {
    this.#exchanged = exchanged;
    this.closed = new Promise((resolve) => (this.#settleClosed = resolve));
    exchanged.response.once('close', () => this.close());
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Nothing more can be said. */
  close(): void {
    this.#isClosed = true;
    this.#settleClosed();
  }

  /** The status of the answer, once that has begun. */
  get status(): number | undefined {
    const { response } = this.#exchanged;
    return response.headersSent ? response.statusCode : undefined;
  }

  /** Whether the whole answer was written. */
  get isComplete(): boolean {
    const { protocol, response } = this.#exchanged;
    if (protocol === 'http1') return response.writableFinished;
    // Node says that an answer has finished which was broken off, too.
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
   * Answers in the proxy's own words. `sendsNothing`: whether the client holds its content back. `isLast`: whether
   * the connection ends after this; asked when the answer begins.
   * @returns the bytes of the answer's content, or 0 if nobody was there any more
   */
  async answer(answer: Answer, sendsNothing: boolean, isLast: () => boolean): Promise<number> {
    const { request, response } = this.#exchanged;
    await this.readOut(sendsNothing);
    if (this.#isClosed) return 0;
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    const body = answerBody(answer);
    response.statusCode = answer.status;
    response.setHeader('content-type', 'application/json');
    response.setHeader('content-length', Buffer.byteLength(body));
    response.setHeader('cache-control', 'no-store');
    if (answer === REFUSALS.method)
      response.setHeader('allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS');
    if (isLast() || !request.complete) this.closeAfterwards();
    response.end(body);
    return Buffer.byteLength(body);
  }

  /**
   * Before an answer ends: reads what the client sends still and drops it, as long as a farewell may take. What is not
   * read when the connection closes could make the kernel reset it, and the answer would be lost. http2-proxy leaves the
   * content where it was, paused perhaps.
   */
  readOut(sendsNothing: boolean): Promise<void> {
    const { request, response } = this.#exchanged;
    // And http2-proxy pauses it again: Node keeps a stream of HTTP/2 until all that came on it was read, and no more than
    // MAX_HTTP2_REQUESTS of them.
    request.on('pause', () => process.nextTick(() => request.resume()));
    response.once('finish', () => request.resume());
    if (request.readableEnded || request.complete || sendsNothing) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, FAREWELL_MS);
      const done = (): void => {
        clearTimeout(timer);
        resolve();
      };
      request.once('end', done);
      void this.closed.then(done);
      request.resume();
    });
  }

  /**
   * Waits for the end of a request that is to have no content, and may by its header: over HTTP/2.
   * @returns whether it had none
   */
  endsWithoutContent(): Promise<boolean> {
    const { request } = this.#exchanged;
    return new Promise((resolve) => {
      request.once('data', () => resolve(false)).once('end', () => resolve(true));
      void this.closed.then(() => resolve(true));
    });
  }
}
