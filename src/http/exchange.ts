import { METHODS, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { constants } from 'node:http2';

import type { Address } from '../config/model.js';
import { ConnectionEnd } from '../connection/close-reason.js';
import type { ConnectionFacts } from '../connection/facts.js';
import { formatEnd } from '../connection/peer-address.js';
import { endFrom } from '../connection/relay.js';
import type { OpenRequest } from '../connection/status.js';
import { WriteStall } from '../connection/write-stall.js';
import { FAREWELL_MS, MAX_HEADER_FIELDS } from '../limits.js';
import { isClientCertificateRefusal } from '../upstream/failure.js';
import type { ExchangeEnder } from './events.js';
import { fieldsOf, outgoing, passedTrailers, valuesOf, type Field } from './hop-by-hop.js';
import { describeRequest, type Exchanged, type Expectation, type HttpRequest } from './message.js';
import { isBelow } from './path-rule.js';
import {
  answerBody,
  BAD_GATEWAY,
  REFUSALS,
  type Answer,
  type RefusalReason,
  type UpstreamFault,
} from './refusal.js';
import { passesContent, upstreamHeader } from './request-headers.js';
import { requestTarget, type RequestTarget } from './request-target.js';
import { clientHeader } from './response-headers.js';
import type { HttpService } from './service.js';
import { errorCode, upstreamFault, UpstreamStalled } from './upstream-fault.js';
import { passThrough } from './web.js';

/** The connection that a request came on. */
export interface ExchangeConnection {
  readonly facts: Readonly<ConnectionFacts>;
  readonly scheme: 'https' | 'http';
  /** X-SSL-Client-* of the client. */
  readonly certificateFields: readonly Field[];
  /** Why none of its requests is passed on now, if so. */
  readonly refusal: RefusalReason | undefined;
  /** Whether it ends when the requests have that are open. */
  readonly isClosing: boolean;
  /** Why the proxy has ended it, once it has. */
  readonly brokenOffBy: ConnectionEnd | undefined;
  /** Breaks it off, with all that is open on it. */
  breakOff(end: ConnectionEnd): void;
}

const NO_TRAILERS: readonly string[] = [];

/** One request, from its header to the end of its answer. */
export class Exchange {
  readonly #exchanged: Exchanged;
  readonly #message: HttpRequest;
  readonly #service: HttpService;
  readonly #connection: ExchangeConnection;
  readonly #target: RequestTarget | undefined;
  readonly #startedAtMs = performance.now();
  readonly #closed: Promise<void>;
  #settleClosed: () => void = () => undefined;
  #isClosed = false;
  #sent: ClientRequest | undefined;
  /** Whether a client that waits for 100 was told to go on. */
  #continued = false;
  #hasUpstreamFailed = false;
  /** Whether the whole answer has come from upstream. */
  #isAnswered = false;
  #refusal: RefusalReason | undefined;
  #fault: UpstreamFault | undefined;
  #detail = '';
  #requestBytes = 0;
  #responseBytes = 0;
  readonly #stalls = { client: new WriteStall(), upstream: new WriteStall() };

  constructor(
    exchanged: Exchanged,
    expectation: Expectation,
    service: HttpService,
    connection: ExchangeConnection,
  ) {
    this.#exchanged = exchanged;
    this.#message = describeRequest(exchanged, expectation);
    this.#service = service;
    this.#connection = connection;
    this.#target = requestTarget(this.#message);
    this.#closed = new Promise((resolve) => (this.#settleClosed = resolve));
    exchanged.response.once('close', () => this.connectionClosed());
    service.requests.requestBegan();
  }

  /** How it is at the moment. */
  get status(): OpenRequest {
    return {
      method: this.#message.method,
      path: this.#path,
      startedAtMs: this.#startedAtMs,
      status: this.#answered,
      requestBytes: this.#requestBytes,
      responseBytes: this.#responseBytes,
      correlationId: this.#correlationId,
    };
  }

  /** Bytes in this process that a side has not taken yet. */
  get queuedBytes(): { readonly toUpstream: number; readonly toClient: number } {
    const toClient = this.#isClosed ? 0 : this.#exchanged.response.writableLength;
    return { toUpstream: this.#sent?.writableLength ?? 0, toClient };
  }

  /** Serves the request; settles when it has ended and was reported. `refusal`: why it is refused whatever it says. */
  async run(refusal?: RefusalReason): Promise<void> {
    // Its client may have left while it waited for its turn; http2-proxy would never hear of that.
    if (!this.#isClosed) await this.#serve(refusal);
    await this.#closed;
    this.#report();
  }

  async #serve(refusal?: RefusalReason): Promise<void> {
    try {
      this.#refusal ??= refusal ?? this.#reasonToRefuse();
      if (this.#refusal !== undefined) await this.#answer(REFUSALS[this.#refusal]);
      else if (this.#target) await this.#pass(this.#target);
    } catch (error) {
      this.#connection.breakOff(endFrom(error));
    }
  }

  /** The connection is gone, or the answer was written: nothing more can be said. */
  connectionClosed(): void {
    this.#isClosed = true;
    this.#settleClosed();
  }

  /**
   * Refuses it in the midst of its content.
   * @returns whether that is possible: neither the content is whole nor has the answer begun
   */
  refuse(reason: RefusalReason, detail: string): boolean {
    if (this.#exchanged.request.complete || this.#answered !== undefined) return false;
    this.#refuseLate(reason, detail);
    return true;
  }

  /** An answer that has not begun tells an HTTP/1.1 client that the connection ends after it. */
  closeAfterwards(): void {
    const { protocol, response } = this.#exchanged;
    if (protocol === 'http1' && !response.headersSent) response.setHeader('connection', 'close');
  }

  /** Ends it if a side takes nothing of what waits for it; called now and then. */
  sweep(nowMs: number): void {
    const { writeStallMs } = this.#service.configuration.timeouts;
    const { toUpstream, toClient } = this.queuedBytes;
    if (this.#stalls.upstream.stalledMs(nowMs, toUpstream, this.#requestBytes - toUpstream) >= writeStallMs) {
      this.#sent?.destroy(new UpstreamStalled('it took nothing of the request for timeouts.write_stall'));
    }
    if (this.#stalls.client.stalledMs(nowMs, toClient, this.#responseBytes - toClient) >= writeStallMs) {
      this.#breakOff(
        new ConnectionEnd('write_stall', 'proxy', 'the client read nothing for timeouts.write_stall'),
      );
    }
  }

  get #path(): string | undefined {
    return this.#target?.path.split('?', 1)[0];
  }

  /** Whether the client waits to be told that it may send its content. */
  get #waits(): boolean {
    return this.#message.expectation === 'continue' && !this.#continued;
  }

  /** The status of the answer, once that has begun. */
  get #answered(): number | undefined {
    const { response } = this.#exchanged;
    return response.headersSent ? response.statusCode : undefined;
  }

  get #correlationId(): string | undefined {
    const [id] = valuesOf(fieldsOf(this.#message.rawHeaders), 'x-request-id');
    return id !== undefined && /^[\w.:-]{1,255}$/u.test(id) ? id : undefined;
  }

  #reasonToRefuse(): RefusalReason | undefined {
    const { method, httpVersion, rawHeaders, hasContent } = this.#message;
    // Whoever may not come in at all learns nothing else.
    if (this.#connection.refusal !== undefined) return this.#connection.refusal;
    if (rawHeaders.length > 2 * MAX_HEADER_FIELDS) return 'header_too_large';
    // HTTP/0.9 has no header; HTTP/1.0 knows no chunks, and who sends them wants to be misunderstood by somebody.
    const chunked = fieldsOf(rawHeaders).some(([name]) => name === 'transfer-encoding');
    if (httpVersion === '0.9' || (httpVersion === '1.0' && chunked)) return 'malformed';
    if (this.#message.expectation === 'unknown') return 'expectation';
    if (!METHODS.includes(method) || method === 'CONNECT' || method === 'TRACE') return 'method';
    if (!this.#target) return 'malformed';
    // RFC 9110 section 9.3.1: content of a GET has no meaning, and is an attempt at smuggling. An HTTP/2 client need not
    // say with the header that there is none: see #watchContent.
    if (!passesContent(this.#message) && this.#statesContent(hasContent)) return 'malformed';
    const { paths } = this.#service.configuration.http ?? {};
    if (paths && !isBelow(this.#path ?? '', paths)) return 'path';
    return undefined;
  }

  #statesContent(hasContent: boolean): boolean {
    const [length] = valuesOf(fieldsOf(this.#message.rawHeaders), 'content-length');
    return this.#exchanged.protocol === 'http2' ? Number(length ?? 0) > 0 : hasContent;
  }

  #refuseLate(reason: RefusalReason, detail: string): void {
    this.#refusal = reason;
    this.#detail = detail;
    this.#sent?.destroy();
  }

  async #pass(target: RequestTarget): Promise<void> {
    try {
      await this.#passOnce(target);
    } catch (error) {
      if (!this.#mayRepeat(error)) return this.#failed(error);
      // The connection had been kept, and upstream closed it as the request was on its way.
      await this.#passOnce(target).catch((again: unknown) => this.#failed(again));
    }
  }

  #passOnce(target: RequestTarget): Promise<void> {
    return passThrough(this.#exchanged, {
      onReq: () => this.#send(target),
      onRes: (answer) => this.#receive(answer),
    });
  }

  /** RFC 9110 section 9.2.2: what is idempotent may be sent again; and it has no content that is gone. */
  #mayRepeat(error: unknown): boolean {
    const reused = error instanceof Error && 'reusedSocket' in error && error.reusedSocket === true;
    return reused && !passesContent(this.#message) && this.#answered === undefined && !this.#isClosed;
  }

  #send(target: RequestTarget): ClientRequest {
    const { upstream, pool } = this.#service;
    const { facts, scheme, certificateFields } = this.#connection;
    const client = { end: facts.clientEnd, scheme, host: target.host, certificate: certificateFields };
    const sent = httpRequest({
      method: this.#message.method,
      path: target.path,
      headers: upstreamHeader(this.#message, client, hostFor(upstream, target.host)),
      agent: pool,
    });
    this.#sent = sent;
    // http2-proxy listens too, but later, and not if the client leaves at this very moment.
    sent.on('error', () => (this.#hasUpstreamFailed = true));
    sent.once('socket', () => this.#watchContent(sent));
    sent.once('continue', () => {
      if (!this.#waits || this.#isClosed) return;
      this.#continued = true;
      this.#exchanged.response.writeContinue();
    });
    return sent;
  }

  /** From here on http2-proxy reads the content. */
  #watchContent(sent: ClientRequest): void {
    const { request } = this.#exchanged;
    request.on('data', (chunk: Buffer) => {
      this.#requestBytes += chunk.length;
      // It is not passed on, and must not be dropped in silence.
      if (!passesContent(this.#message)) this.#refuseLate('malformed', 'content of a request that has none');
    });
    // Before http2-proxy ends the request.
    request.on('end', () => {
      const chunked = sent.getHeader('transfer-encoding') !== undefined;
      if (chunked) sent.addTrailers(outgoing(passedTrailers(request.rawTrailers)));
    });
    setImmediate(() => {
      // A client may wait for the answer before it sends the content.
      if (this.#requestBytes === 0 && !sent.writableEnded && !sent.destroyed) sent.flushHeaders();
    });
  }

  #receive(answer: IncomingMessage): void {
    const { protocol, response } = this.#exchanged;
    if (this.#isClosed) return;
    const hasContent = this.#message.method !== 'HEAD' && ![204, 304].includes(answer.statusCode ?? 0);
    const takesTrailers = hasContent && this.#message.httpVersion !== '1.0';
    for (const [name, value] of Object.entries(clientHeader(answer, takesTrailers)))
      response.setHeader(name, value);
    // RFC 9110 section 10.1.1: a client that was not told to go on may or may not send its content: what comes next
    // could be either.
    if (this.#connection.isClosing || this.#waits) this.closeAfterwards();
    // Now, as what cannot be written must be found here.
    if (protocol === 'http1') response.writeHead(answer.statusCode ?? 0, reasonOf(answer));
    else response.writeHead(answer.statusCode ?? 0);
    answer.on('data', (chunk: Buffer) => (this.#responseBytes += chunk.length));
    answer.on('end', () => {
      // Node says of an answer that lasts as long as its connection that it has ended, however the connection did.
      if (this.#hasUpstreamFailed) return;
      this.#isAnswered = true;
      const trailers = takesTrailers ? answer.rawTrailers : NO_TRAILERS;
      if (trailers.length > 0) response.addTrailers(outgoing(passedTrailers(trailers)));
      void this.#readOut().then(() => response.end());
    });
    answer.pipe(response, { end: false });
    // An answer may begin long before its content does; if not, both leave together.
    setImmediate(() => {
      if (protocol === 'http1' && this.#responseBytes === 0 && !this.#isClosed) response.flushHeaders();
    });
  }

  /** Upstream has failed. */
  async #failed(error: unknown): Promise<void> {
    // What upstream does when its answer is whole, to the rest of the request for one, is its own affair.
    if (this.#isClientGone() || this.#isAnswered) return;
    if (this.#refusal !== undefined) return this.#answer(REFUSALS[this.#refusal]);
    const answering = this.#answered !== undefined;
    this.#fault = upstreamFault(error, answering);
    this.#detail = error instanceof Error ? error.message : String(error);
    if (isClientCertificateRefusal(errorCode(error)))
      this.#service.events.upstreamFailed(this.#service.upstream.url, 'client_certificate_refused');
    if (!answering) return this.#answer(BAD_GATEWAY);
    this.#breakOff(new ConnectionEnd('reset', 'upstream', `within an answer: ${this.#detail}`));
  }

  /** What has begun cannot end well any more: the client must see that. */
  #breakOff(end: ConnectionEnd): void {
    if (this.#exchanged.protocol === 'http1') this.#connection.breakOff(end);
    else this.#exchanged.response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }

  /** Answers in the proxy's own words. */
  async #answer(answer: Answer): Promise<void> {
    const { request, response } = this.#exchanged;
    await this.#readOut();
    if (this.#isClosed) return;
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    const body = answerBody(answer);
    response.statusCode = answer.status;
    response.setHeader('content-type', 'application/json');
    response.setHeader('content-length', Buffer.byteLength(body));
    response.setHeader('cache-control', 'no-store');
    if (answer === REFUSALS.method)
      response.setHeader('allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS');
    if (this.#refusal === 'client_certificate' || this.#connection.isClosing || !request.complete)
      this.closeAfterwards();
    this.#responseBytes = Buffer.byteLength(body);
    response.end(body);
  }

  /**
   * Before an answer ends: reads what the client sends still and drops it, as long as a farewell may take. What is not
   * read when the connection closes could make the kernel reset it, and the answer would be lost. http2-proxy leaves the
   * content where it was, paused perhaps.
   */
  #readOut(): Promise<void> {
    const { request, response } = this.#exchanged;
    response.once('finish', () => request.resume());
    // Who has not been told to go on sends nothing.
    if (request.readableEnded || request.complete || this.#waits) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, FAREWELL_MS);
      const done = (): void => {
        clearTimeout(timer);
        resolve();
      };
      request.once('end', done);
      void this.#closed.then(done);
      request.resume();
    });
  }

  #report(): void {
    const { facts } = this.#connection;
    this.#service.requests.requestEnded({
      protocol: this.#exchanged.protocol,
      peerAddress: formatEnd(facts.clientEnd),
      identity: facts.identity,
      method: this.#message.method,
      path: this.#path,
      correlationId: this.#correlationId,
      status: this.#answered,
      refusal: this.#refusal,
      fault: this.#fault,
      detail: this.#detail,
      endedBy: this.#endedBy(),
      requestBytes: this.#requestBytes,
      responseBytes: this.#responseBytes,
      durationMs: performance.now() - this.#startedAtMs,
    });
  }

  #endedBy(): ExchangeEnder {
    if (this.isComplete)
      return this.#refusal === undefined && this.#fault === undefined ? 'upstream' : 'proxy';
    if (this.#fault !== undefined) return 'upstream';
    return this.#connection.brokenOffBy?.initiator ?? 'client';
  }

  #isClientGone(): boolean {
    const { protocol, request, response } = this.#exchanged;
    return this.#isClosed || (protocol === 'http1' ? request.socket.destroyed : response.stream.destroyed);
  }

  /** Whether the whole answer was written. */
  get isComplete(): boolean {
    const { protocol, response } = this.#exchanged;
    if (protocol === 'http1') return response.writableFinished;
    // Node says that an answer has finished which was broken off, too.
    const { stream, writableEnded } = response;
    return writableEnded && stream.writableFinished && stream.rstCode === constants.NGHTTP2_NO_ERROR;
  }
}

/** The words beside the status, where they are such that Node writes them. */
function reasonOf({ statusMessage = '' }: IncomingMessage): string {
  return /^[\t -~]*$/u.test(statusMessage) ? statusMessage : '';
}

/** RFC 9110 section 7.2: what upstream is asked for. One that is verified by name is asked for that name. */
function hostFor(upstream: Address, named: string | undefined): string {
  if (upstream.scheme === 'https' || (named === undefined && upstream.scheme !== 'unix'))
    return upstream.url.slice(upstream.url.indexOf('//') + 2);
  return named ?? 'localhost';
}
