import { codeOf, tlsFaultOf } from '../error-codes.js';
import { ConnectionEnd, internalError } from '../connection/connection-end.js';
import { formatEnd } from '../connection/peer-address.js';
import type { OpenRequest } from '../connection/connection-status.js';
import { WriteStall } from '../connection/relay/write-stall.js';
import { MAX_REQUEST_ID_LENGTH } from '../limits.js';
import { ClientSide } from './client-side.js';
import type { ExchangeConnection } from './exchange-connection.js';
import { fieldsOf, valuesOf } from './hop-by-hop.js';
import type { ExchangeEnder } from './http-events.js';
import { describeRequest, type Exchanged, type Expectation, type HttpRequest } from './message.js';
import { reasonToRefuse } from './reason-to-refuse.js';
import {
  BAD_GATEWAY,
  REFUSALS,
  type RefusalAnswer,
  type Refusal,
  type RefusalReason,
  type UpstreamFault,
} from './refusal.js';
import { passesContent } from './request-headers.js';
import { pathOf, requestTarget, type RequestTarget } from './request-target.js';
import type { HttpService } from './service.js';
import { upstreamFault, UpstreamStalled } from './upstream-fault.js';
import { UpstreamSide } from './upstream-side.js';

/** One request, from its header to the end of its answer. */
export class Exchange {
  readonly #exchanged: Exchanged;
  readonly #message: HttpRequest;
  readonly #service: HttpService;
  readonly #connection: ExchangeConnection;
  readonly #target: RequestTarget | undefined;
  readonly #startedAtMs = performance.now();
  readonly #client: ClientSide;
  readonly #upstream: UpstreamSide;
  #refusal: RefusalReason | undefined;
  #fault: UpstreamFault | undefined;
  #detail = '';
  /** The bytes of the proxy's own answer, if it has sent one. */
  #ownAnswerBytes: number | undefined;
  readonly #stalls = { client: new WriteStall(), upstream: new WriteStall() };

  constructor(
    exchanged: Exchanged,
    expectation: Expectation,
    service: HttpService,
    connection: ExchangeConnection,
  ) {
    this.#exchanged = exchanged;
    const message = describeRequest(exchanged, expectation);
    this.#message = message;
    this.#service = service;
    this.#connection = connection;
    this.#target = requestTarget(message);
    const client = new ClientSide(exchanged);
    this.#client = client;
    this.#upstream = new UpstreamSide({ exchanged, message, client, connection }, service);
    service.requests.requestBegan();
  }

  /** The current state of the request. */
  get status(): OpenRequest {
    return {
      method: this.#message.method,
      path: this.#path,
      startedAtMs: this.#startedAtMs,
      status: this.#client.status,
      requestBytes: this.#upstream.requestBytes,
      responseBytes: this.#responseBytes,
      correlationId: this.#correlationId,
    };
  }

  /** Bytes in this process that a side has not read yet. */
  get queuedBytes(): { readonly toUpstream: number; readonly toClient: number } {
    return this.#upstream.queuedBytes;
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
      this.#connection.cut(internalError(error));
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
    this.#upstream.stop();
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
    if (
      this.#stalls.upstream.stalledMs(nowMs, toUpstream, this.#upstream.requestBytes - toUpstream) >=
      writeStallMs
    ) {
      this.#upstream.stop(new UpstreamStalled('it stopped reading the request (timeouts.write_stall)'));
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

  get #responseBytes(): number {
    return this.#ownAnswerBytes ?? this.#upstream.answerBytes;
  }

  get #correlationId(): string | undefined {
    const [id] = valuesOf(fieldsOf(this.#message.rawHeaders), 'x-request-id');
    const isLogged = id !== undefined && id.length <= MAX_REQUEST_ID_LENGTH && /^[\w.:-]+$/u.test(id);
    return isLogged ? id : undefined;
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
        await this.#upstream.pass(target);
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

  /** RFC 9110 section 9.2.2: idempotent requests may be sent again. Requests with content are not, because it is not kept. */
  #mayRepeat(error: unknown): boolean {
    const reused = error instanceof Error && 'reusedSocket' in error && error.reusedSocket === true;
    if (!reused || upstreamFault(error, false) !== 'closed' || this.#refusal !== undefined) return false;
    return !passesContent(this.#message) && this.#client.status === undefined && !this.#client.isClosed;
  }

  #failed(error: unknown): void {
    // Once the answer is complete, it does not matter whether upstream reads the rest of the request.
    if (this.#client.isGone) return;
    if (this.#upstream.isAnswered) {
      this.#upstream.finishAnswer();
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
    this.#client.breakOff(() => this.#connection.cut(end));
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
    this.#upstream.dropContent();
    this.#ownAnswerBytes = this.#client.answer(answer, isLast, () => this.#breakOff(end));
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
      requestBytes: this.#upstream.requestBytes,
      responseBytes: this.#responseBytes,
      durationMs: performance.now() - this.#startedAtMs,
    });
  }

  #endedBy(): ExchangeEnder {
    if (this.isComplete)
      return this.#refusal === undefined && this.#fault === undefined ? 'upstream' : 'proxy';
    if (this.#client.wasEnded) return 'proxy';
    if (this.#fault !== undefined) return 'upstream';
    return this.#connection.cutBy?.initiator ?? 'client';
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
