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
import type { ServedConnection, ConnectionStatus } from '../connection/connection-status.js';
import type { OpeningSettings } from '../connection/opening-settings.js';
import { WriteStall } from '../connection/relay/write-stall.js';
import type { FramesFault, HeaderFault } from '../inspect/http2/client-frames.js';
import { FAREWELL_MS } from '../limits.js';
import { peerCertificate } from '../x509/certificate.js';
import { ALPN_H2 } from '../tls/parameters.js';
import { clientCertificateFields } from './client-certificate-headers.js';
import type { Exchange } from './exchange.js';
import type { ExchangeConnection } from './exchange-connection.js';
import type { Frontend, RequestReceiver } from './frontend.js';
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
import type { Http2Service } from './http2-service.js';
import { OpenRequests } from './open-requests.js';
import type { RefusalReason } from './refusal.js';
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
  readonly #requests: OpenRequests;
  #state: HttpConnectionState = HTTP_OPENING;
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
    this.#requests = new OpenRequests(this, settings.current, {
      authenticated: () => this.#context.authenticated('call'),
      exceeded: (limit) => this.cut(this.#exceeded(limit)),
      ended: (exchange) => this.#requestEnded(exchange),
    });
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

  get #drain(): HttpDrain | undefined {
    return 'drain' in this.#state ? this.#state.drain : undefined;
  }

  #advance(transition: HttpTransition): void {
    this.#state = nextHttpState(this.#state, transition);
  }

  get status(): ConnectionStatus {
    this.#count();
    return {
      ...this.#context.record.status,
      stage: this.#drain ? 'draining' : this.#client ? 'relaying' : 'opening',
      ...this.#requests.status,
      inspection: 'off',
      inspector: undefined,
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
    await this.#requests.connectionClosed();
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
    this.#requests.sweep(nowMs);
    this.#count();
    const end = this.#silence.look(nowMs, {
      bytesRead: this.#context.record.bytesToUpstream,
      bytesWritten: this.#context.record.bytesToClient,
      isHttp2: this.#http2 !== undefined,
      openRequests: this.#requests.open,
      hadRequests: this.#requests.count > 0,
      standsStill: this.#http2?.standsStill() ?? false,
    });
    if (end) this.cut(end);
    else if (this.#requests.open === 0 && this.#isStalled(nowMs))
      this.cut(
        new ConnectionEnd('write_stall', 'proxy', 'the client stopped reading (timeouts.write_stall)'),
      );
    else if (this.#silence.isSilent && (this.#http2 || this.#requests.open > 0)) this.#detectReset();
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

  get cutBy(): ConnectionEnd | undefined {
    return this.#state.kind === 'closing' ? this.#state.end : undefined;
  }

  request(exchanged: Exchanged, expectation: Expectation): void {
    if (this.#state.kind === 'closing' || this.#requests.isLastAnswered) return;
    if (this.#requests.count === 0) this.#firstRequestBegan(exchanged.protocol);
    this.#requests.serve(exchanged, expectation);
  }

  #firstRequestBegan(protocol: Exchanged['protocol']): void {
    this.#context.record.facts.protocol = protocol;
    this.#settings.events.protocolDetected(protocol);
    this.#firstRequest.resolve();
    const refused = this.#client?.refused;
    if (refused) this.#cutSoon(refused);
  }

  #requestEnded({ isComplete }: Exchange): void {
    if (this.#http2 && !isComplete)
      this.#leftWithin ||= this.#stream?.readableEnded === true || this.#stream?.destroyed === true;
    // An HTTP/1.1 answer has `Connection: close` instead.
    if (this.#client?.refused) this.#http2?.session.close();
    this.#rest();
  }

  headerRefused(streamId: number, fault: HeaderFault): void {
    this.#requests.headerRefused(streamId, fault);
  }

  streamReset(): void {
    this.#requests.streamReset();
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

  /** The end of a connection whose client has exceeded a limit. */
  #exceeded(limit: GateLimit): ConnectionEnd {
    this.#context.facts.advice = gateLimitAdvice(limit, this.#settings.configuration.abuseLimits);
    return new ConnectionEnd('abuse', 'proxy', limit);
  }

  #beginDrain(drain: HttpDrain): void {
    const before = this.#drain;
    this.#advance({ kind: 'drain', drain });
    if (before || this.#state.kind === 'closing') return;
    this.#requests.closeAfterwards();
    // A connection without requests is kept: its first request is on its way, and is answered.
    if (this.#http2) this.#beginHttp2Drain(this.#http2);
    else if (this.#requests.count > 0) this.#rest();
  }

  #beginHttp2Drain(http2: Http2Service): void {
    http2.drain(drainPingMs(this.#settings.configuration.maxConnectionAge), () => this.#rest());
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

  /** If no request is open, records that, and closes a connection that is draining. */
  #rest(): void {
    if (this.#requests.open > 0 || !this.#stream) return;
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
    // An HTTP/2 client has already received GOAWAY. A refusal cannot be written in the middle of an answer.
    if (this.#http2) this.cut(end);
    else if (this.#requests.open === 0)
      farewell(this.#raw, stream, this.#requests.refuseUnread(reason, detail));
    else if (!this.#requests.refuseOnly({ reason, detail })) this.cut(end);
  }

  #endOfClosed(): ConnectionEnd {
    const end = this.cutBy ?? this.#client?.refused;
    if (end) return end;
    if (this.#requests.isUnanswered || this.#leftWithin)
      return new ConnectionEnd('reset', 'client', 'the client disconnected while its request was open');
    if (this.#drain) return new ConnectionEnd('drained', 'proxy', this.#drain.why);
    if (this.#requests.count > 0) return new ConnectionEnd('finished', 'client');
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
