import { request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';

import { codeOf, tlsFaultOf } from '../error-codes.js';
import { ConnectionEnd, internalError } from '../connection/connection-end.js';
import type { ConnectionFacts } from '../connection/connection-status.js';
import { formatEnd } from '../connection/peer-address.js';
import type { OpenRequest } from '../connection/connection-status.js';
import { WriteStall } from '../connection/relay/write-stall.js';
import { MAX_HTTP2_QUEUED_BYTES, MAX_QUEUED_BYTES, READ_BUFFER_BYTES } from '../limits.js';
import { ClientSide } from './client-side.js';
import { ContentFlow } from './content-flow.js';
import type { ExchangeEnder } from './http-events.js';
import {
  fieldsOf,
  foreignCodings,
  outgoing,
  passedTrailers,
  valuesOf,
  type HeaderField,
} from './hop-by-hop.js';
import { describeRequest, type Exchanged, type Expectation, type HttpRequest } from './message.js';
import { isVersionServed, reasonToRefuse } from './reason-to-refuse.js';
import {
  BAD_GATEWAY,
  REFUSALS,
  type RefusalAnswer,
  type Refusal,
  type RefusalReason,
  type UpstreamFault,
} from './refusal.js';
import { passesContent, upstreamHeader } from './request-headers.js';
import { pathOf, requestTarget, type RequestTarget } from './request-target.js';
import { clientHeader, clientTrailers, hasContent, isEndless } from './response-headers.js';
import type { HttpService } from './service.js';
import {
  EndlessAnswer,
  UnaskedCoding,
  UnknownVersion,
  upstreamFault,
  UpstreamStalled,
} from './upstream-fault.js';
import type { PooledRequest } from './upstream-pool.js';
import { passThrough } from './web.js';

/** The connection of a request. */
export interface ExchangeConnection {
  readonly facts: Readonly<ConnectionFacts>;
  readonly scheme: 'https' | 'http';
  /** X-SSL-Client-* of the client. */
  readonly certificateFields: readonly HeaderField[];
  /** Set while all of its requests are refused: the reason. */
  readonly refusal: RefusalReason | undefined;
  /** Whether it ends after its open requests. */
  readonly isClosing: boolean;
  /** Set once the proxy has ended the connection: how it ended. */
  readonly brokenOffBy: ConnectionEnd | undefined;
  /** Resets the connection, with all of its open requests. */
  breakOff(end: ConnectionEnd): void;
}

/** Leaves room for one read, which may still follow after reading was stopped. */
const MAX_COST = MAX_QUEUED_BYTES - READ_BUFFER_BYTES;

const NO_TRAILERS: readonly string[] = [];

/** One request, from its header to the end of its answer. */
export class Exchange {
  readonly #exchanged: Exchanged;
  readonly #message: HttpRequest;
  readonly #service: HttpService;
  readonly #connection: ExchangeConnection;
  readonly #target: RequestTarget | undefined;
  readonly #startedAtMs = performance.now();
  readonly #client: ClientSide;
  #sent: ClientRequest | undefined;
  /** The dial of the connection for `#sent`, unless a kept one is used. */
  #dial: AbortController | undefined;
  /** The content of the request, if any is forwarded, and that of the answer. */
  readonly #content: ContentFlow | undefined;
  #answerContent: ContentFlow | undefined;
  /** Whether 100 Continue was sent. */
  #continued = false;
  #hasUpstreamFailed = false;
  /** Whether upstream has sent the complete answer. */
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
    this.#client = new ClientSide(exchanged);
    this.#content = passesContent(this.#message) ? this.#readContent() : undefined;
    service.requests.requestBegan();
  }

  /** The current state of the request. */
  get status(): OpenRequest {
    return {
      method: this.#message.method,
      path: this.#path,
      startedAtMs: this.#startedAtMs,
      status: this.#client.status,
      requestBytes: this.#requestBytes,
      responseBytes: this.#responseBytes,
      correlationId: this.#correlationId,
    };
  }

  /** Bytes in this process that a side has not read yet. */
  get queuedBytes(): { readonly toUpstream: number; readonly toClient: number } {
    const toClient = this.#answerContent?.queuedBytes ?? this.#client.queuedBytes;
    return {
      toUpstream: this.#content?.queuedBytes ?? this.#sent?.writableLength ?? 0,
      toClient: this.#client.isClosed ? 0 : toClient,
    };
  }

  /** The id of the HTTP/2 stream of the request. */
  get streamId(): number | undefined {
    const { protocol, response } = this.#exchanged;
    return protocol === 'http2' ? response.stream.id : undefined;
  }

  /** Serves the request; settles when it has ended and was reported. */
  async run(): Promise<void> {
    // The client may have disconnected while the request waited for its turn. http2-proxy would never notice that.
    if (!this.#client.isClosed) await this.#serve();
    await this.#client.closed;
    this.#report();
  }

  async #serve(): Promise<void> {
    try {
      this.#refusal ??= this.#reasonToRefuse();
      if (this.#refusal === undefined) await this.#awaitNoContent();
      if (this.#refusal !== undefined) this.#answer(REFUSALS[this.#refusal]);
      else if (this.#target && !this.#client.isClosed) await this.#pass(this.#target);
    } catch (error) {
      this.#connection.breakOff(internalError(error));
    }
  }

  /** The connection is closed, or the last answer on it was written: no more can be sent. */
  connectionClosed(): void {
    this.#client.close();
  }

  /**
   * Refuses the request while its content is being received.
   * @returns whether that was possible: the content must be incomplete, and the answer not begun
   */
  refuse(refusal: Refusal): boolean {
    if (this.#exchanged.request.complete || this.#client.status !== undefined) return false;
    this.refuseUnseen(refusal);
    this.#abandon();
    return true;
  }

  /** Refuses the request before it is served, regardless of its header. */
  refuseUnseen({ reason, detail = '' }: Refusal): void {
    this.#refusal = reason;
    this.#detail = detail;
  }

  /** Refuses an HTTP/2 request because of its trailers. An answer that has begun is aborted. */
  refuseTrailers(refusal: Refusal): void {
    if (this.refuse(refusal)) return;
    this.refuseUnseen(refusal);
    this.#client.breakOff(() => undefined);
  }

  /** Adds `Connection: close` to an HTTP/1.1 answer that has not begun. */
  closeAfterwards(): void {
    this.#client.closeAfterwards();
  }

  /** Ends the exchange if a side is stalled. Called periodically. */
  sweep(nowMs: number): void {
    const { writeStallMs } = this.#service.configuration.timeouts;
    const { toUpstream, toClient } = this.queuedBytes;
    if (this.#stalls.upstream.stalledMs(nowMs, toUpstream, this.#requestBytes - toUpstream) >= writeStallMs) {
      this.#abandon(new UpstreamStalled('it stopped reading the request (timeouts.write_stall)'));
    }
    if (this.#stalls.client.stalledMs(nowMs, toClient, this.#responseBytes - toClient) >= writeStallMs) {
      this.#breakOff(
        new ConnectionEnd('write_stall', 'proxy', 'the client stopped reading (timeouts.write_stall)'),
      );
    }
  }

  get #path(): string | undefined {
    return this.#target && pathOf(this.#target);
  }

  /** Whether the client waits for 100 Continue before it sends its content. */
  get #waits(): boolean {
    return this.#message.expectation === 'continue' && !this.#continued;
  }

  get #correlationId(): string | undefined {
    const [id] = valuesOf(fieldsOf(this.#message.rawHeaders), 'x-request-id');
    return id !== undefined && /^[\w.:-]{1,255}$/u.test(id) ? id : undefined;
  }

  #reasonToRefuse(): RefusalReason | undefined {
    // A refused client must not learn any other reason.
    return (
      this.#connection.refusal ??
      reasonToRefuse(this.#message, this.#target, this.#service.configuration.http?.paths)
    );
  }

  /** Refuses content that would not be forwarded. Dropping it silently would help a smuggling attempt. */
  async #awaitNoContent(): Promise<void> {
    if (passesContent(this.#message) || !this.#message.hasContent) return;
    if (await this.#client.endsWithoutContent(this.#service.configuration.timeouts.prefaceMs)) return;
    this.refuseUnseen({
      reason: 'malformed',
      detail: `a ${this.#message.method} request had content, or did not end within timeouts.preface`,
    });
  }

  async #pass(target: RequestTarget): Promise<void> {
    for (;;) {
      try {
        await this.#passOnce(target);
        return;
      } catch (error) {
        // The request was sent on a kept connection, which upstream closed at the same time. Each attempt uses up one kept
        // connection; after the last, a new one is dialled.
        if (this.#mayRepeat(error)) continue;
        this.#failed(error);
        return;
      }
    }
  }

  async #passOnce(target: RequestTarget): Promise<void> {
    const passed = passThrough(this.#exchanged, {
      onReq: () => this.#send(target),
      onRes: (answer) => this.#receive(answer),
    });
    // http2-proxy does not notice a client that disconnects while an earlier answer is still being sent, or after the answer to this
    // request, which can no longer be delivered, is complete.
    await Promise.race([passed, this.#client.closed.then(() => this.#abandon())]);
  }

  /** Ends the request to upstream, whether or not it is connected. */
  #abandon(error?: Error): void {
    this.#sent?.destroy(error);
    this.#dial?.abort(error);
  }

  /** RFC 9110 section 9.2.2: idempotent requests may be sent again. Requests with content are not, because it is not kept. */
  #mayRepeat(error: unknown): boolean {
    const reused = error instanceof Error && 'reusedSocket' in error && error.reusedSocket === true;
    if (!reused || upstreamFault(error, false) !== 'closed' || this.#refusal !== undefined) return false;
    return !passesContent(this.#message) && this.#client.status === undefined && !this.#client.isClosed;
  }

  #send(target: RequestTarget): ClientRequest {
    const { upstream, pool } = this.#service;
    const { facts, scheme, certificateFields } = this.#connection;
    const client = { end: facts.clientEnd, scheme, host: target.host, certificate: certificateFields };
    const options: PooledRequest = {
      method: this.#message.method,
      path: target.path,
      headers: upstreamHeader(this.#message, client, upstream),
      agent: pool,
      dialling: (dial) => (this.#dial = dial),
    };
    const sent = httpRequest(options);
    this.#sent = sent;
    this.#hasUpstreamFailed = false;
    // http2-proxy adds its listener later, and adds none if the client disconnects at this moment.
    sent.on('error', () => (this.#hasUpstreamFailed = true));
    if (this.#content) this.#passContent(this.#content, sent);
    else this.#sendNoContent(sent);
    sent.once('continue', () => {
      if (!this.#waits || this.#client.isClosed) return;
      this.#continued = true;
      this.#exchanged.response.writeContinue();
    });
    return sent;
  }

  /** Starts to read the content. Content that arrives before it can be sent must not wait in Node's queues. */
  #readContent(): ContentFlow {
    const { protocol, request } = this.#exchanged;
    return new ContentFlow({
      source: request,
      held: protocol === 'http2' ? request.stream : request,
      maxCost: protocol === 'http2' ? MAX_HTTP2_QUEUED_BYTES : MAX_COST,
      onChunk: (chunk) => (this.#requestBytes += chunk.length),
      onFault: (error) => this.#connection.breakOff(internalError(error)),
    });
  }

  #sendNoContent(sent: ClientRequest): void {
    this.#exchanged.request.resume();
    sent.end();
  }

  #passContent(content: ContentFlow, sent: ClientRequest): void {
    const { request } = this.#exchanged;
    sent.once('close', () => content.drop());
    content.start(sent, () => {
      if (sent.destroyed) return;
      const chunked = sent.getHeader('transfer-encoding') !== undefined;
      if (chunked) sent.addTrailers(outgoing(passedTrailers(request.rawTrailers)));
      sent.end();
    });
    setImmediate(() => {
      // A client may wait for the answer before it sends the content.
      if (this.#requestBytes === 0 && !sent.writableEnded && !sent.destroyed) sent.flushHeaders();
    });
  }

  #receive(answer: IncomingMessage): void {
    const { protocol, response } = this.#exchanged;
    if (this.#client.isClosed) return;
    const { upstream, pool } = this.#service;
    pool.heard(answer);
    const carriesContent = hasContent(answer.statusCode, this.#message.method);
    if (!isVersionServed(answer.httpVersion))
      throw new UnknownVersion(`it has HTTP version ${answer.httpVersion}`);
    const codings = foreignCodings(fieldsOf(answer.rawHeaders));
    if (codings.length > 0)
      throw new UnaskedCoding(`it has the transfer coding ${JSON.stringify(codings.join())}`);
    if (carriesContent && upstream.scheme === 'https' && isEndless(answer))
      throw new EndlessAnswer(
        'it has neither a length nor chunks, so a truncated answer could not be detected',
      );
    const takesTrailers = carriesContent && this.#message.httpVersion !== '1.0';
    for (const [name, value] of Object.entries(clientHeader(answer, protocol, takesTrailers)))
      response.setHeader(name, value);
    // RFC 9110 section 10.1.1: a client that got no 100 Continue may or may not send its content. The next bytes could be content or
    // another request.
    if (this.#connection.isClosing || this.#waits) this.closeAfterwards();
    // Written immediately, so that a header that cannot be written throws here.
    if (protocol === 'http1') response.writeHead(answer.statusCode ?? 0, reasonOf(answer));
    else response.writeHead(answer.statusCode ?? 0);
    const ended = (): void => {
      // If an answer ends with its connection, Node emits `end` no matter how the connection ended.
      if (this.#hasUpstreamFailed || this.#client.isClosed) return;
      this.#isAnswered = true;
      const trailers = takesTrailers ? answer.rawTrailers : NO_TRAILERS;
      if (trailers.length > 0) response.addTrailers(clientTrailers(trailers, protocol));
      this.#content?.dropWhenFull();
      void this.#client.finish(this.#waits);
    };
    if (carriesContent) {
      this.#passAnswer(answer, ended);
    } else {
      // Bytes that upstream sends after the header are not forwarded.
      this.#isAnswered = true;
      answer.once('end', ended).resume();
    }
    // An answer may begin long before its content does. If the content has arrived already, both are sent together.
    setImmediate(() => {
      if (protocol === 'http1' && this.#responseBytes === 0 && !this.#client.isClosed)
        response.flushHeaders();
    });
  }

  #passAnswer(answer: IncomingMessage, onEnd: () => void): void {
    const content = new ContentFlow({
      source: answer,
      held: answer.socket,
      maxCost: MAX_COST,
      onChunk: (chunk) => (this.#responseBytes += chunk.length),
      onFault: (error) => this.#connection.breakOff(internalError(error)),
    });
    this.#answerContent = content;
    answer.once('close', () => content.drop());
    void this.#client.closed.then(() => content.drop());
    content.start(this.#exchanged.response, onEnd);
  }

  #failed(error: unknown): void {
    // Once the answer is complete, it does not matter whether upstream reads the rest of the request.
    if (this.#client.isGone) return;
    if (this.#isAnswered) {
      // An answer that must not have content, but was followed by content, is not ended yet.
      if (!this.#exchanged.response.writableEnded) void this.#client.finish(this.#waits);
      return;
    }
    if (this.#refusal !== undefined) {
      this.#answer(REFUSALS[this.#refusal]);
      return;
    }
    const isAnswering = this.#client.status !== undefined;
    this.#fault = upstreamFault(error, isAnswering);
    this.#detail = error instanceof Error ? error.message : String(error);
    if (tlsFaultOf(codeOf(error)) === 'refused_certificate')
      this.#service.events.upstreamFailed(this.#service.upstream.url, 'client_certificate_refused');
    if (isAnswering)
      this.#breakOff(new ConnectionEnd('reset', 'upstream', `within an answer: ${this.#detail}`));
    else this.#answer(BAD_GATEWAY);
  }

  /** Aborts an answer that has begun, so that the client does not take it for complete. */
  #breakOff(end: ConnectionEnd): void {
    this.#client.breakOff(() => this.#connection.breakOff(end));
  }

  /** Answers on behalf of the proxy. */
  #answer(answer: RefusalAnswer): void {
    const isLast = (): boolean =>
      this.#refusal === 'client_certificate' || this.#refusal === 'version' || this.#connection.isClosing;
    const end = new ConnectionEnd(
      'write_stall',
      'proxy',
      'the client did not read the answer to its request',
    );
    this.#content?.drop();
    this.#responseBytes = this.#client.answer(answer, isLast, () => this.#breakOff(end));
  }

  #report(): void {
    const { facts } = this.#connection;
    this.#service.requests.requestEnded({
      protocol: this.#exchanged.protocol,
      peerAddress: formatEnd(facts.clientEnd),
      identity: facts.identity,
      isAuthenticated: facts.isAuthenticated || authenticates(this.#client.status ?? 0),
      method: this.#message.method,
      path: this.#path,
      correlationId: this.#correlationId,
      status: this.#client.status,
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
    if (this.#client.wasEnded) return 'proxy';
    if (this.#fault !== undefined) return 'upstream';
    return this.#connection.brokenOffBy?.initiator ?? 'client';
  }

  /** Whether the answer has `Connection: close`. */
  get isLast(): boolean {
    return this.#client.isLast;
  }

  /** Whether the complete answer was written. */
  get isComplete(): boolean {
    return this.#client.isComplete;
  }
}

/** Whether an answer with this status authenticates its client. Upstream answers a client without a token with an error. */
export function authenticates(status: number): boolean {
  return status >= 200 && status < 400;
}

/** Returns the reason phrase of the status line, or an empty string if Node would refuse to write it. */
function reasonOf({ statusMessage = '' }: IncomingMessage): string {
  return /^[\t -~]*$/u.test(statusMessage) ? statusMessage : '';
}
