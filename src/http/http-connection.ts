import type { ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';

import { deferred } from '../deferred.js';
import { isHttpParserCode } from '../error-codes.js';
import { abort, destroyOnceEnded, endGently, farewell, leaveAfterwards } from '../connection/relay/abort.js';
import type { Accepted } from '../connection/accepted.js';
import type { Admission } from '../connection/admission.js';
import { AgeLimit, drainPingMs } from '../connection/age-limit.js';
import { ConnectionEnd, internalError } from '../connection/connection-end.js';
import type { ConnectionFacts } from '../connection/connection-status.js';
import {
  CLIENT_LEFT,
  ConnectionContext,
  unlessAborted,
  type Interruption,
} from '../connection/connection-context.js';
import { identifyClient } from '../connection/stages/identify-client.js';
import { readProxyHeader } from '../connection/stages/read-proxy-header.js';
import { terminateTls, type OpenClient } from '../connection/stages/terminate-tls.js';
import { withDeadline } from '../deadline.js';
import { formatEnd } from '../connection/peer-address.js';
import type { ServedConnection, ConnectionStatus } from '../connection/connection-status.js';
import type { OpeningSettings } from '../connection/opening-settings.js';
import { WriteStall } from '../connection/relay/write-stall.js';
import type { FramesFault, HeaderFault } from '../inspect/http2/client-frames.js';
import { RateBucket } from '../inspect/rate-bucket.js';
import { ABANDONED_REQUESTS, FAREWELL_MS, MAX_PIPELINED_REQUESTS } from '../limits.js';
import { peerCertificate } from '../x509/certificate.js';
import { ALPN_H2 } from '../tls/parameters.js';
import { clientCertificateFields } from './client-certificate-headers.js';
import { authenticates, Exchange, type ExchangeConnection } from './exchange.js';
import type { Frontend, Http2Service, RequestReceiver } from './frontend.js';
import { gateLimitAdvice, type GateLimit } from './gate-limits.js';
import type { HeaderField } from './hop-by-hop.js';
import {
  HTTP_OPENING,
  nextHttpState,
  type HttpClient,
  type HttpConnectionState,
  type HttpDrain,
  type HttpTransition,
} from './http-connection-state.js';
import type { Exchanged, Expectation } from './message.js';
import { HEADER_FAULTS, rawAnswer, REFUSALS, type RefusalReason } from './refusal.js';
import { RefusedStreams } from './refused-streams.js';
import type { CurrentService } from './service.js';
import { Silence } from './silence.js';

const NOTHING = Buffer.alloc(0);

export interface HttpConnectionSettings extends OpeningSettings {
  readonly frontend: Frontend;
  readonly current: CurrentService;
}

/** The HTTP connection of a client. */
export class HttpConnection implements ServedConnection, ExchangeConnection, RequestReceiver {
  readonly #raw: Socket;
  readonly #settings: HttpConnectionSettings;
  readonly #context: ConnectionContext;
  readonly #silence: Silence;
  readonly #stall = new WriteStall();
  /** The open requests, each with a promise that settles when it has ended. */
  readonly #exchanges = new Map<Exchange, Promise<void>>();
  #state: HttpConnectionState = HTTP_OPENING;
  /** Settles when the last request has ended. An HTTP/1.1 request is served when the previous one has its answer. */
  #turn: Promise<void> = Promise.resolve();
  /** Whether an answer with `Connection: close` was sent. */
  #lastAnswered = false;
  #requests = 0;
  readonly #refusedStreams = new RefusedStreams();
  /** Token buckets: for requests that either side ended before their answer, and for streams that the client has reset. */
  readonly #abandoned = new RateBucket(ABANDONED_REQUESTS);
  readonly #resets = new RateBucket(ABANDONED_REQUESTS);
  readonly #firstRequest = deferred();
  /** Whether an HTTP/2 client has disconnected while a request was open. The request ends before the connection does. */
  #leftWithin = false;
  #ageLimit: AgeLimit | undefined;
  #detectingReset = false;

  constructor(accepted: Accepted, settings: HttpConnectionSettings, admission: Admission) {
    this.#raw = accepted.raw;
    this.#settings = settings;
    this.#context = new ConnectionContext(accepted, settings, admission, this);
    this.#silence = new Silence(settings.configuration.timeouts);
    // Must run before the listener of the context: the requests that are open now determine the end.
    this.#raw.prependOnceListener('close', () => {
      if (this.#stream) this.#context.end(this.#endOfClosed());
    });
  }

  /** Set once requests are read. */
  get #client(): HttpClient | undefined {
    return this.#state.kind === 'opening' ? undefined : this.#state.client;
  }

  get #stream(): Socket | undefined {
    return this.#client?.stream;
  }

  get #http2(): Http2Service | undefined {
    return this.#client?.http2;
  }

  get #session(): ServerHttp2Session | undefined {
    return this.#http2?.session;
  }

  get #drain(): HttpDrain | undefined {
    return 'drain' in this.#state ? this.#state.drain : undefined;
  }

  #advance(transition: HttpTransition): void {
    this.#state = nextHttpState(this.#state, transition);
  }

  get status(): ConnectionStatus {
    this.#count();
    const exchanges = [...this.#exchanges.keys()];
    const queued = exchanges.map(({ queuedBytes }) => queuedBytes);
    return {
      ...this.#context.record.status,
      stage: this.#drain ? 'draining' : this.#client ? 'relaying' : 'opening',
      queuedToUpstream: queued.reduce((sum, { toUpstream }) => sum + toUpstream, 0),
      queuedToClient: queued.reduce((sum, { toClient }) => sum + toClient, 0),
      inspection: 'off',
      inspector: undefined,
      requests: exchanges.map(({ status }) => status),
    };
  }

  async run(): Promise<void> {
    let end: ConnectionEnd;
    try {
      end = await this.#serve();
    } catch (error) {
      end = internalError(error);
    }
    this.#advance({ kind: 'close', end });
    // If a stage has sent an alert, the connection is already ending.
    if (end.reason !== 'handshake_failed' || !this.#raw.writableEnded) abort(this.#raw, this.#stream);
    this.#ageLimit?.clear();
    // Requests that wait for their turn are not notified otherwise.
    for (const exchange of this.#exchanges.keys()) exchange.connectionClosed();
    await Promise.all(this.#exchanges.values());
    this.#count();
    this.#context.record.closed(end);
  }

  cut(end: ConnectionEnd): void {
    this.#advance({ kind: 'close', end });
    this.#context.end(end);
  }

  drain(why: string): void {
    this.#beginDrain({ why, refusesNew: true });
  }

  sweep(nowMs: number): void {
    if (!this.#stream) return;
    for (const exchange of this.#exchanges.keys()) {
      exchange.sweep(nowMs);
      this.#noteAnswer(exchange);
    }
    this.#count();
    const end = this.#silence.look(nowMs, {
      bytesRead: this.#context.record.bytesToUpstream,
      bytesWritten: this.#context.record.bytesToClient,
      isHttp2: this.#http2 !== undefined,
      openRequests: this.#exchanges.size,
      hadRequests: this.#requests > 0,
      standsStill: this.#http2?.standsStill() ?? false,
    });
    if (end) this.cut(end);
    else if (this.#exchanges.size === 0 && this.#isStalled(nowMs))
      this.cut(
        new ConnectionEnd('write_stall', 'proxy', 'the client stopped reading (timeouts.write_stall)'),
      );
    else if (this.#silence.isSilent && (this.#http2 || this.#exchanges.size > 0)) this.#detectReset();
  }

  /** Whether the end of an answer or of the connection waits for a stalled client. */
  #isStalled(nowMs: number): boolean {
    const waiting = this.#stream?.writableLength ?? 0;
    const { writeStallMs } = this.#settings.configuration.timeouts;
    return this.#stall.stalledMs(nowMs, waiting, this.#raw.bytesWritten) >= writeStallMs;
  }

  reportBytes(): void {
    this.#count();
    this.#context.record.reportBytes();
  }

  get facts(): Readonly<ConnectionFacts> {
    return this.#context.record.facts;
  }

  get scheme(): 'https' | 'http' {
    return this.#context.record.facts.tls ? 'https' : 'http';
  }

  get certificateFields(): readonly HeaderField[] {
    return this.#client?.certificateFields ?? [];
  }

  get refusal(): RefusalReason | undefined {
    if (this.#client?.refused) return 'client_certificate';
    // An HTTP/2 client that makes a request meanwhile has not received GOAWAY yet. The request is served.
    return this.#drain?.refusesNew === true && !this.#http2 ? 'draining' : undefined;
  }

  get isClosing(): boolean {
    return this.#state.kind === 'closing' || this.#drain !== undefined;
  }

  get brokenOffBy(): ConnectionEnd | undefined {
    return this.#state.kind === 'closing' ? this.#state.end : undefined;
  }

  breakOff(end: ConnectionEnd): void {
    this.cut(end);
  }

  request(exchanged: Exchanged, expectation: Expectation): void {
    if (this.#state.kind === 'closing' || this.#lastAnswered) return;
    const refused = this.#client?.refused;
    if (++this.#requests === 1) {
      const { protocol } = exchanged;
      this.#context.record.facts.protocol = protocol;
      this.#settings.events.protocolDetected(protocol);
      this.#firstRequest.resolve();
      if (refused) this.#cutSoon(refused);
    }
    if (!this.#session && this.#exchanges.size > MAX_PIPELINED_REQUESTS) {
      this.cut(this.#exceeded('pipelining'));
      return;
    }
    const { service } = this.#settings.current;
    const exchange = new Exchange(exchanged, expectation, service, this);
    const fault = exchange.streamId === undefined ? undefined : this.#refusedStreams.take(exchange.streamId);
    // A refused client must not learn any other reason.
    if (fault && this.refusal === undefined) exchange.refuseUnseen(HEADER_FAULTS[fault]);
    // The first request uses the descriptor that the connection has already reserved for upstream.
    const extra = this.#exchanges.size > 0 && this.#session !== undefined;
    const { budget } = service;
    const paid = extra && !budget.isMemoryLow && budget.take();
    if (extra && !paid) exchange.refuseUnseen({ reason: budget.isMemoryLow ? 'memory' : 'descriptors' });
    const served = this.#session ? exchange.run() : this.#turn.then(() => exchange.run());
    this.#turn = served;
    const ended = served.then(() => {
      if (paid) service.budget.giveBack();
      this.#exchanges.delete(exchange);
      this.#noteAnswer(exchange);
      if (exchange.isLast) this.#serveNoMore();
      if (this.#session && !exchange.isComplete) {
        this.#leftWithin ||= this.#stream?.readableEnded === true || this.#stream?.destroyed === true;
        if (!this.#abandoned.take(1, performance.now())) this.#cutForResets();
      }
      // An HTTP/1.1 answer has `Connection: close` instead.
      if (refused) this.#session?.close();
      this.#rest();
    });
    this.#exchanges.set(exchange, ended);
  }

  headerRefused(streamId: number, fault: HeaderFault): void {
    const exchange = [...this.#exchanges.keys()].find((open) => open.streamId === streamId);
    if (exchange) exchange.refuseTrailers(HEADER_FAULTS[fault]);
    else if (!this.#refusedStreams.add(streamId, fault)) this.cut(this.#exceeded('malformed_headers'));
  }

  streamReset(): void {
    if (!this.#resets.take(1, performance.now())) this.#cutForResets();
  }

  unfollowed({ errorCode, limit }: FramesFault): void {
    const detail = `the frames cannot be followed: HTTP/2 error code ${errorCode}`;
    const end = limit ? this.#exceeded(limit) : new ConnectionEnd('request_malformed', 'proxy', detail);
    this.#advance({ kind: 'close', end });
    if (this.#stream) leaveAfterwards(this.#raw, this.#stream);
  }

  unreadable(code: string): void {
    const stream = this.#stream;
    // An error of the socket, or an end within a request, means that the client has disconnected.
    if (!stream || this.#state.kind === 'closing' || !isHttpParserCode(code)) {
      abort(this.#raw, stream);
      return;
    }
    this.#refuseUnread(code === 'HPE_HEADER_OVERFLOW' ? 'header_too_large' : 'malformed', code);
  }

  tunnel(): void {
    this.#refuseUnread('method', 'CONNECT');
  }

  failed(fault: unknown): void {
    this.cut(internalError(fault));
  }

  async #serve(): Promise<ConnectionEnd> {
    const { configuration } = this.#settings;
    const context = this.#context;
    const misdirected = await readProxyHeader(context);
    if (misdirected) return misdirected;
    const client = await terminateTls(context);
    if (client instanceof ConnectionEnd) return client;
    const refused = identifyClient(context, client);
    if (this.#raw.destroyed) return new ConnectionEnd('probe', 'client');
    this.#serveRequests(client, refused);
    if (this.#drain && this.#http2) this.#beginHttp2Drain(this.#http2);
    const { prefaceMs } = configuration.timeouts;
    const deadline = withDeadline(
      context.signal,
      // A refused client gets the reason in the answer to a request, if it makes one now.
      refused ? Math.min(FAREWELL_MS, prefaceMs) : prefaceMs,
      () =>
        refused ??
        new ConnectionEnd('preface_timeout', 'proxy', 'no complete request header within timeouts.preface'),
    );
    const early = await unlessAborted(deadline.signal, this.#firstRequest.promise).finally(deadline.clear);
    if (early !== undefined) return this.#endOf(early);
    this.#ageLimit = new AgeLimit(configuration.maxConnectionAge, context.facts.acceptedAtMs, {
      drain: (why) => this.#beginDrain({ why, refusesNew: false }),
      cut: (end) => this.cut(end),
    });
    return this.#endOf(await unlessAborted(context.signal, new Promise<never>(() => undefined)));
  }

  #serveRequests({ stream, tls }: OpenClient, refused: ConnectionEnd | undefined): void {
    const { frontend, configuration } = this.#settings;
    const tellsOfClient = tls && !refused && configuration.http?.clientCertificateHeaders === true;
    // A certificate that was not verified proves nothing: its client is one without a certificate.
    const certificate = this.#context.facts.hasVerifiedCertificate && tls ? peerCertificate(tls) : undefined;
    const certificateFields = tellsOfClient ? clientCertificateFields(certificate) : [];
    const isHttp2 = tls?.alpnProtocol === ALPN_H2;
    const http2 = isHttp2 ? frontend.serveHttp2(stream, this, configuration.abuseLimits) : undefined;
    this.#advance({ kind: 'serve', client: { stream, http2, certificateFields, refused } });
    if (!isHttp2) frontend.serveHttp1(stream, this);
  }

  #endOf(interruption: Interruption): ConnectionEnd {
    return interruption === CLIENT_LEFT ? this.#endOfClosed() : interruption;
  }

  /** Resets the connection of a refused client after `FAREWELL_MS`, so that the client can read the reason. */
  #cutSoon(refused: ConnectionEnd): void {
    const timer = setTimeout(() => this.cut(refused), FAREWELL_MS);
    this.#raw.once('close', () => clearTimeout(timer));
  }

  /** Authenticates the client by an answer that is not an error: a client without a token, or one that is refused, gets an error. */
  #noteAnswer({ status: { status = 0 } }: Exchange): void {
    if (authenticates(status)) this.#context.authenticated('call');
  }

  #cutForResets(): void {
    this.cut(this.#exceeded('reset_flood'));
  }

  /** The end of a connection whose client has exceeded a limit. */
  #exceeded(limit: GateLimit): ConnectionEnd {
    this.#context.facts.advice = gateLimitAdvice(limit, this.#settings.configuration.abuseLimits);
    return new ConnectionEnd('abuse', 'proxy', limit);
  }

  #beginDrain(drain: HttpDrain): void {
    const before = this.#drain;
    this.#advance({ kind: 'drain', drain });
    if (before || this.#state.kind === 'closing') return;
    for (const exchange of this.#exchanges.keys()) exchange.closeAfterwards();
    // A connection without requests is kept: its first request is on its way, and is answered.
    if (this.#http2) this.#beginHttp2Drain(this.#http2);
    else if (this.#requests > 0) this.#rest();
  }

  /** RFC 9113 section 6.8: a GOAWAY with the maximum stream id, and one with the real last stream once the client has received it. */
  #beginHttp2Drain(http2: Http2Service): void {
    const { session } = http2;
    if (session.destroyed || session.closed) return;
    http2.announceShutdown();
    // A client that does not acknowledge the PING could make new requests indefinitely.
    const { maxConnectionAge } = this.#settings.configuration;
    const timer = setTimeout(() => this.#closeSession(session), drainPingMs(maxConnectionAge));
    this.#raw.once('close', () => clearTimeout(timer));
    const seen = (): void => {
      clearTimeout(timer);
      this.#closeSession(session);
    };
    if (!session.ping(seen)) seen();
  }

  /** From now on no request is accepted. */
  #closeSession(session: ServerHttp2Session): void {
    if (!session.destroyed) session.close();
    this.#rest();
  }

  /**
   * Checks whether the client has reset a silent connection. A reset goes unnoticed while the connection is not read: while upstream
   * does not read a request, or in an HTTP/2 session that was flooded (in all versions of Node up to 24). An empty write fails if the
   * connection was reset.
   */
  #detectReset(): void {
    if (this.#detectingReset || this.#raw.writableEnded) return;
    this.#detectingReset = true;
    this.#raw.write(NOTHING, (error) => {
      this.#detectingReset = false;
      if (error)
        this.cut(
          new ConnectionEnd('reset', 'client', 'the client disconnected while its requests were open'),
        );
    });
  }

  /** RFC 9112 section 9.6: "A server that sends a "close" connection option [...] MUST NOT process any further requests". */
  #serveNoMore(): void {
    this.#lastAnswered = true;
    for (const exchange of this.#exchanges.keys()) exchange.connectionClosed();
  }

  /** If no request is open, records that, and closes a connection that is draining. */
  #rest(): void {
    if (this.#exchanges.size > 0 || !this.#stream) return;
    this.#count();
    this.#silence.rest(this.#context.record.bytesToUpstream);
    if (this.#state.kind !== 'draining') return;
    if (!this.#http2) endGently(this.#raw, this.#stream);
    else if (this.#http2.session.closed) destroyOnceEnded(this.#raw, this.#stream);
  }

  /** Answers an HTTP/1.1 client whose bytes can no longer be parsed as requests, and closes the connection. */
  #refuseUnread(reason: RefusalReason, detail: string): void {
    const stream = this.#stream;
    if (!stream) return;
    const end = new ConnectionEnd('request_malformed', 'proxy', detail);
    this.#advance({ kind: 'close', end });
    const [exchange, ...others] = this.#exchanges.keys();
    // An HTTP/2 client has already received GOAWAY. A refusal cannot be written in the middle of an answer.
    if (this.#session || others.length > 0) this.cut(end);
    else if (!exchange) farewell(this.#raw, stream, this.#refuseUnknown(reason, detail));
    else if (!exchange.refuse({ reason, detail })) this.cut(end);
  }

  /** Reports a refused request that could not be parsed, and returns the answer to it. */
  #refuseUnknown(reason: RefusalReason, detail: string): Buffer {
    const { facts } = this.#context.record;
    const { requests } = this.#settings.current.service;
    const refusal = this.refusal ?? reason;
    const { status } = REFUSALS[refusal];
    requests.requestBegan();
    requests.requestEnded({
      protocol: 'http1',
      peerAddress: formatEnd(facts.clientEnd),
      identity: facts.identity,
      isAuthenticated: facts.isAuthenticated,
      method: '',
      path: undefined,
      correlationId: undefined,
      status,
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

  #endOfClosed(): ConnectionEnd {
    const end = this.brokenOffBy ?? this.#client?.refused;
    if (end) return end;
    const isUnanswered = [...this.#exchanges.keys()].some(({ isComplete }) => !isComplete);
    if (isUnanswered || this.#leftWithin)
      return new ConnectionEnd('reset', 'client', 'the client disconnected while its request was open');
    if (this.#drain) return new ConnectionEnd('drained', 'proxy', this.#drain.why);
    if (this.#requests > 0) return new ConnectionEnd('finished', 'client');
    this.#count();
    return this.#context.record.bytesToUpstream === 0
      ? new ConnectionEnd('probe', 'client')
      : new ConnectionEnd('left_early', 'client', 'the client disconnected within its first request');
  }

  #count(): void {
    if (!this.#stream) return;
    this.#context.record.bytesToUpstream = this.#stream.bytesRead;
    this.#context.record.bytesToClient = this.#stream.bytesWritten;
  }
}
