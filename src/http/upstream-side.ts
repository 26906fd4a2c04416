import { request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';

import { internalError } from '../connection/connection-end.js';
import { MAX_HTTP2_QUEUED_BYTES, MAX_QUEUED_BYTES, READ_BUFFER_BYTES } from '../limits.js';
import type { ClientSide } from './client-side.js';
import { ContentFlow } from './content-flow.js';
import type { ExchangeConnection } from './exchange-connection.js';
import { fieldsOf, foreignCodings, outgoing, passedTrailers } from './hop-by-hop.js';
import type { Exchanged, HttpRequest } from './message.js';
import { isVersionServed } from './reason-to-refuse.js';
import { passesContent, upstreamHeader } from './request-headers.js';
import type { RequestTarget } from './request-target.js';
import { clientHeader, clientTrailers, hasContent, isEndless } from './response-headers.js';
import type { HttpService } from './service.js';
import { EndlessAnswer, UnaskedCoding, UnknownVersion } from './upstream-fault.js';
import type { PooledRequest } from './upstream-pool.js';
import { passThrough } from './web.js';

/** Leaves room for one read, which may still follow after reading was stopped. */
const MAX_COST = MAX_QUEUED_BYTES - READ_BUFFER_BYTES;

const NO_TRAILERS: readonly string[] = [];

/** The request that a client has made, and the way back to the client. */
interface ReceivedRequest {
  readonly exchanged: Exchanged;
  readonly message: HttpRequest;
  readonly client: ClientSide;
  readonly connection: ExchangeConnection;
}

/** The upstream's side of an exchange: sends the request by http2-proxy, and passes the answer to the client as it arrives. */
export class UpstreamSide {
  readonly #exchanged: Exchanged;
  readonly #message: HttpRequest;
  readonly #client: ClientSide;
  readonly #connection: ExchangeConnection;
  readonly #service: HttpService;
  #sent: ClientRequest | undefined;
  /** The dial of the connection for `#sent`, unless a kept one is used. */
  #dial: AbortController | undefined;
  /** The content of the request, if any is forwarded, and that of the answer. */
  readonly #content: ContentFlow | undefined;
  #answerContent: ContentFlow | undefined;
  /** Whether 100 Continue was sent. */
  #continued = false;
  #hasFailed = false;
  #isAnswered = false;
  #requestBytes = 0;
  #answerBytes = 0;

  constructor({ exchanged, message, client, connection }: ReceivedRequest, service: HttpService) {
    this.#exchanged = exchanged;
    this.#message = message;
    this.#client = client;
    this.#connection = connection;
    this.#service = service;
    this.#content = passesContent(message) ? this.#readContent() : undefined;
  }

  /** Whether upstream has sent the complete answer. */
  get isAnswered(): boolean {
    return this.#isAnswered;
  }

  /** Bytes of content received so far, from the client and from upstream. */
  get requestBytes(): number {
    return this.#requestBytes;
  }

  get answerBytes(): number {
    return this.#answerBytes;
  }

  /** Bytes in this process that a side has not read yet. */
  get queuedBytes(): { readonly toUpstream: number; readonly toClient: number } {
    return {
      toUpstream: this.#content?.queuedBytes ?? this.#sent?.writableLength ?? 0,
      toClient: this.#client.isClosed ? 0 : (this.#answerContent?.queuedBytes ?? this.#client.queuedBytes),
    };
  }

  /** Sends the request, and passes the answer on. Rejects if upstream has failed, and may be called again then. */
  async pass(target: RequestTarget): Promise<void> {
    const passed = passThrough(this.#exchanged, {
      onReq: () => this.#send(target),
      onRes: (answer) => this.#receive(answer),
    });
    // http2-proxy does not notice a client that disconnects while an earlier answer is still being sent, or after the answer to this
    // request, which can no longer be delivered, is complete.
    await Promise.race([passed, this.#client.closed.then(() => this.stop())]);
  }

  /** Aborts the request to upstream, whether or not it is connected. With an error, `pass` rejects with it. */
  stop(error?: Error): void {
    this.#sent?.destroy(error);
    this.#dial?.abort(error);
  }

  /** The request is answered without upstream: reads and drops its content. */
  dropContent(): void {
    this.#content?.drop();
  }

  /** Ends the answer if upstream has failed after it was complete: one that must not have content may have been followed by content. */
  finishAnswer(): void {
    if (!this.#exchanged.response.writableEnded) void this.#client.finish(this.#waits);
  }

  /** Whether the client waits for 100 Continue before it sends its content. */
  get #waits(): boolean {
    return this.#message.expectation === 'continue' && !this.#continued;
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
    this.#hasFailed = false;
    // http2-proxy adds its listener later, and adds none if the client disconnects at this moment.
    sent.on('error', () => (this.#hasFailed = true));
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
      onFault: (error) => this.#connection.cut(internalError(error)),
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
    assertForwardable(answer, carriesContent && upstream.scheme === 'https');
    const takesTrailers = carriesContent && this.#message.httpVersion !== '1.0';
    for (const [name, value] of Object.entries(clientHeader(answer, protocol, takesTrailers)))
      response.setHeader(name, value);
    // RFC 9110 section 10.1.1: a client that got no 100 Continue may or may not send its content. The next bytes could be content or
    // another request.
    if (this.#connection.isClosing || this.#waits) this.#client.closeAfterwards();
    // Written immediately, so that a header that cannot be written throws here.
    if (protocol === 'http1') response.writeHead(answer.statusCode ?? 0, reasonOf(answer));
    else response.writeHead(answer.statusCode ?? 0);
    const ended = (): void => {
      // If an answer ends with its connection, Node emits `end` no matter how the connection ended.
      if (this.#hasFailed || this.#client.isClosed) return;
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
      if (protocol === 'http1' && this.#answerBytes === 0 && !this.#client.isClosed) response.flushHeaders();
    });
  }

  #passAnswer(answer: IncomingMessage, onEnd: () => void): void {
    const content = new ContentFlow({
      source: answer,
      held: answer.socket,
      maxCost: MAX_COST,
      onChunk: (chunk) => (this.#answerBytes += chunk.length),
      onFault: (error) => this.#connection.cut(internalError(error)),
    });
    this.#answerContent = content;
    answer.once('close', () => content.drop());
    void this.#client.closed.then(() => content.drop());
    content.start(this.#exchanged.response, onEnd);
  }
}

/** @throws the reason that an answer cannot be forwarded. `needsEnd`: whether it must state where its content ends. */
function assertForwardable(answer: IncomingMessage, needsEnd: boolean): void {
  if (!isVersionServed(answer.httpVersion))
    throw new UnknownVersion(`it has HTTP version ${answer.httpVersion}`);
  const codings = foreignCodings(fieldsOf(answer.rawHeaders));
  if (codings.length > 0)
    throw new UnaskedCoding(`it has the transfer coding ${JSON.stringify(codings.join())}`);
  if (needsEnd && isEndless(answer))
    throw new EndlessAnswer(
      'it has neither a length nor chunks, so a truncated answer could not be detected',
    );
}

/** Returns the reason phrase of the status line, or an empty string if Node would refuse to write it. */
function reasonOf({ statusMessage = '' }: IncomingMessage): string {
  return /^[\t -~]*$/u.test(statusMessage) ? statusMessage : '';
}
