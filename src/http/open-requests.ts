import type { ConnectionStatus } from '../connection/connection-status.js';
import { formatEnd } from '../connection/peer-address.js';
import type { HeaderFault } from '../inspect/http2/client-frames.js';
import { RateBucket } from '../inspect/rate-bucket.js';
import { ABANDONED_REQUESTS, MAX_HTTP2_REQUESTS, MAX_PIPELINED_REQUESTS } from '../limits.js';
import type { ExchangeConnection } from './exchange-connection.js';
import { authenticates, Exchange } from './exchange.js';
import type { GateLimit } from './gate-limits.js';
import type { Exchanged, Expectation } from './message.js';
import { HEADER_FAULTS, rawAnswer, REFUSALS, type Refusal, type RefusalReason } from './refusal.js';
import type { CurrentService } from './service.js';

/** The events of the requests of one connection. */
export interface RequestsEvents {
  /** The client is authenticated by an answer that is not an error: a client without a token, or one that is refused, gets an error. */
  authenticated(): void;
  /** The client exceeded a limit. */
  exceeded(limit: GateLimit): void;
  /** A request has ended and was reported. */
  ended(exchange: Exchange): void;
}

/** The requests of one connection: serves each in its turn, and limits what the client may start and abandon. */
export class OpenRequests {
  readonly #connection: ExchangeConnection;
  readonly #current: CurrentService;
  readonly #events: RequestsEvents;
  /** The open requests, each with a promise that settles when it has ended. */
  readonly #exchanges = new Map<Exchange, Promise<void>>();
  /** Settles when the last request has ended. An HTTP/1.1 request is served when the previous one has its answer. */
  #turn: Promise<void> = Promise.resolve();
  #isLastAnswered = false;
  #count = 0;
  readonly #refusedStreams = new RefusedStreams();
  /** Token buckets: for requests that either side ended before their answer, and for streams that the client has reset. */
  readonly #abandoned = new RateBucket(ABANDONED_REQUESTS);
  readonly #resets = new RateBucket(ABANDONED_REQUESTS);

  constructor(connection: ExchangeConnection, current: CurrentService, events: RequestsEvents) {
    this.#connection = connection;
    this.#current = current;
    this.#events = events;
  }

  /** The number of open requests. */
  get open(): number {
    return this.#exchanges.size;
  }

  /** The number of requests since the connection began. */
  get count(): number {
    return this.#count;
  }

  /** Whether an answer with `Connection: close` was sent. */
  get isLastAnswered(): boolean {
    return this.#isLastAnswered;
  }

  /** Whether the answer to an open request is incomplete. */
  get isUnanswered(): boolean {
    return [...this.#exchanges.keys()].some(({ isComplete }) => !isComplete);
  }

  /** The part of the connection's status that is about requests. */
  get status(): Pick<ConnectionStatus, 'queuedToUpstream' | 'queuedToClient' | 'requests'> {
    const exchanges = [...this.#exchanges.keys()];
    const queued = exchanges.map(({ queuedBytes }) => queuedBytes);
    return {
      queuedToUpstream: queued.reduce((sum, { toUpstream }) => sum + toUpstream, 0),
      queuedToClient: queued.reduce((sum, { toClient }) => sum + toClient, 0),
      requests: exchanges.map(({ status }) => status),
    };
  }

  /** Serves a request, or refuses it. */
  serve(exchanged: Exchanged, expectation: Expectation): void {
    this.#count++;
    const isHttp2 = exchanged.protocol === 'http2';
    if (!isHttp2 && this.#exchanges.size > MAX_PIPELINED_REQUESTS) {
      this.#events.exceeded('pipelining');
      return;
    }
    const { service } = this.#current;
    const exchange = new Exchange(exchanged, expectation, service, this.#connection);
    const fault = exchange.streamId === undefined ? undefined : this.#refusedStreams.take(exchange.streamId);
    // A refused client must not learn any other reason.
    if (fault && this.#connection.refusal === undefined) exchange.refuseUnseen(HEADER_FAULTS[fault]);
    // The first request uses the descriptor that the connection has already reserved for upstream.
    const extra = this.#exchanges.size > 0 && isHttp2;
    const { budget } = service;
    const paid = extra && !budget.isMemoryLow && budget.take();
    if (extra && !paid) exchange.refuseUnseen({ reason: budget.isMemoryLow ? 'memory' : 'descriptors' });
    const served = isHttp2 ? exchange.run() : this.#turn.then(() => exchange.run());
    this.#turn = served;
    const ended = served.then(() => {
      if (paid) budget.giveBack();
      this.#ended(exchange, isHttp2);
    });
    this.#exchanges.set(exchange, ended);
  }

  #ended(exchange: Exchange, isHttp2: boolean): void {
    this.#exchanges.delete(exchange);
    this.#noteAnswer(exchange);
    if (exchange.isLast) this.#serveNoMore();
    if (isHttp2 && !exchange.isComplete && !this.#abandoned.take(1, performance.now()))
      this.#events.exceeded('reset_flood');
    this.#events.ended(exchange);
  }

  #noteAnswer({ status: { status = 0 } }: Exchange): void {
    if (authenticates(status)) this.#events.authenticated();
  }

  /** RFC 9112 section 9.6: "A server that sends a "close" connection option [...] MUST NOT process any further requests". */
  #serveNoMore(): void {
    this.#isLastAnswered = true;
    for (const exchange of this.#exchanges.keys()) exchange.connectionClosed();
  }

  /** The header or the trailers of an HTTP/2 request must not be forwarded. */
  headerRefused(streamId: number, fault: HeaderFault): void {
    const exchange = [...this.#exchanges.keys()].find((open) => open.streamId === streamId);
    if (exchange) exchange.refuseTrailers(HEADER_FAULTS[fault]);
    else if (!this.#refusedStreams.add(streamId, fault)) this.#events.exceeded('malformed_headers');
  }

  /** The client has reset a stream. */
  streamReset(): void {
    if (!this.#resets.take(1, performance.now())) this.#events.exceeded('reset_flood');
  }

  /**
   * Refuses the only open request while its content is being received.
   * @returns whether that was possible
   */
  refuseOnly(refusal: Refusal): boolean {
    const [exchange, ...others] = this.#exchanges.keys();
    return exchange !== undefined && others.length === 0 && exchange.refuse(refusal);
  }

  /** Reports an HTTP/1.1 request that could not be parsed as refused, and returns the answer to it. */
  refuseUnread(reason: RefusalReason, detail: string): Buffer {
    const { facts } = this.#connection;
    const { requests } = this.#current.service;
    const refusal = this.#connection.refusal ?? reason;
    requests.requestBegan();
    requests.requestEnded({
      protocol: 'http1',
      peerAddress: formatEnd(facts.clientEnd),
      identity: facts.identity,
      isAuthenticated: facts.isAuthenticated,
      method: '',
      path: undefined,
      correlationId: undefined,
      status: REFUSALS[refusal].status,
      refusal,
      fault: undefined,
      detail,
      endedBy: 'proxy',
      requestBytes: 0,
      responseBytes: 0,
      durationMs: 0,
    });
    return rawAnswer(REFUSALS[refusal]);
  }

  /** Adds `Connection: close` to each HTTP/1.1 answer that has not begun. */
  closeAfterwards(): void {
    for (const exchange of this.#exchanges.keys()) exchange.closeAfterwards();
  }

  /** Ends each request of which a side is stalled. Called periodically. */
  sweep(nowMs: number): void {
    for (const exchange of this.#exchanges.keys()) {
      exchange.sweep(nowMs);
      this.#noteAnswer(exchange);
    }
  }

  /** The connection is closed. Settles when all requests have ended. */
  async connectionClosed(): Promise<void> {
    // Requests that wait for their turn are not notified otherwise.
    for (const exchange of this.#exchanges.keys()) exchange.connectionClosed();
    await Promise.all(this.#exchanges.values());
  }
}

/**
 * HTTP/2 streams whose header must not be forwarded, until Node emits the request. Node emits none if the header is invalid in other
 * ways, too.
 */
class RefusedStreams {
  readonly #faults = new Map<number, HeaderFault>();

  /** @returns false if more than `MAX_HTTP2_REQUESTS` streams wait */
  add(streamId: number, fault: HeaderFault): boolean {
    this.#faults.set(streamId, fault);
    return this.#faults.size <= MAX_HTTP2_REQUESTS;
  }

  /** Returns and removes the fault of a stream. Requests are emitted in the order of their streams. */
  take(streamId: number): HeaderFault | undefined {
    const fault = this.#faults.get(streamId);
    for (const id of this.#faults.keys()) if (id <= streamId) this.#faults.delete(id);
    return fault;
  }
}
