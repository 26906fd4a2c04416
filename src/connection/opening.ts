import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import type { ServerTls } from '../config/model.js';
import { judgeClient } from '../tls/client-certificate.js';
import { clientCertificateFix } from '../tls/client-certificate-fix.js';
import { ClientHelloReader, type ClientHello, type ClientHelloResult } from '../tls/client-hello.js';
import { ClientChainFault } from '../tls/flight-guard.js';
import {
  handshakeAdvice,
  handshakeFailure,
  whyRefused,
  type HandshakeFailure,
  type Presented,
} from '../tls/handshake-failure.js';
import { HELLO_ALERTS, type HelloAlert } from '../tls/parameters.js';
import { JudgementFault, type TlsTerminator } from '../tls/terminator.js';
import type { Dialer } from '../upstream/dialer.js';
import { MAX_LOGGED } from '../limits.js';
import { cut } from '../printable.js';
import { abort, farewell } from './abort.js';
import type { Admission } from './admission.js';
import { ConnectionEnd } from './close-reason.js';
import type { ConnectionFacts } from './facts.js';
import { describeUnknown, detectProtocol, isTls, type Protocol } from './protocol.js';
import { formatEnd } from './peer-address.js';
import { parseProxyHeader } from './proxy-header.js';
import { ClientLeft, readHead, type Head } from './read-head.js';
import type { OpeningSettings } from './settings.js';
import type { Deadline, Stages } from './stage.js';

const TLS_ON_PLAINTEXT =
  'have the client dial tcp:// instead of tls://, or give it a tls:// listener: this one is plaintext';

/** A client as far as it has shown who it is. */
export interface OpenedClient {
  /** Its plaintext stream, paused. */
  readonly stream: Socket;
  /** Of the upstream that it goes to. */
  readonly dialer: Dialer;
  /** Why it is not let in; where its protocol has words for that, it is told before the end. */
  readonly refused: ConnectionEnd | undefined;
}

/** What a client asks for that its listener does not have. */
interface Objection {
  readonly failure: 'unrecognized_name' | 'no_application_protocol';
  readonly detail: string;
}

/**
 * The first half of the data path: PROXY header, TLS, where the client goes, who it is, which protocol it speaks. Nothing
 * of it reaches upstream.
 */
export class Opening {
  readonly #raw: Socket;
  readonly #settings: OpeningSettings;
  readonly #facts: ConnectionFacts;
  readonly #stages: Stages;
  readonly #admission: Admission;
  /** Bytes of the current stage that have come; a client that leaves before the first is a probe. */
  #received = 0;
  /** The first failure of the handshake; the sockets' closing may look like another one. */
  #handshakeEnd: ConnectionEnd | undefined;

  constructor(
    raw: Socket,
    settings: OpeningSettings,
    facts: ConnectionFacts,
    stages: Stages,
    admission: Admission,
  ) {
    this.#raw = raw;
    this.#settings = settings;
    this.#facts = facts;
    this.#stages = stages;
    this.#admission = admission;
  }

  /** @throws ConnectionEnd */
  async run(): Promise<OpenedClient> {
    const { configuration, terminator, routes, expectsProxyHeader } = this.#settings;
    if (expectsProxyHeader(this.#facts.socketEnd?.address)) await this.#readProxyHeader();
    const { tls } = configuration;
    if (!tls || !terminator) {
      if (!routes.only) throw new Error('a listener without TLS has no names to go by');
      return { stream: this.#raw, dialer: routes.only, refused: undefined };
    }
    const { stream, dialer } = await this.#handshake(tls, terminator);
    return {
      stream,
      dialer,
      refused: tls.clientAuth === 'none' ? undefined : this.#identify(stream, tls.clientAuth),
    };
  }

  /**
   * Waits for the bytes that tell what a client of gRPC speaks.
   * @throws ConnectionEnd
   */
  async detectProtocol(stream: Socket, deadlineMs: number): Promise<Head<Protocol>> {
    this.#received = 0;
    const parse = (bytes: Buffer): Protocol | undefined => {
      this.#received = bytes.length;
      const protocol = detectProtocol(bytes);
      if (protocol === 'unknown') {
        if (isTls(bytes) && !this.#settings.terminator) this.#facts.advice = TLS_ON_PLAINTEXT;
        throw new ConnectionEnd('protocol_unknown', 'proxy', describeUnknown(bytes));
      }
      return protocol;
    };
    const head = await this.#wait(
      readHead(stream, parse),
      () => new ConnectionEnd('left_early', 'client', 'the client left within its first bytes'),
      {
        ms: deadlineMs,
        end: () => new ConnectionEnd('preface_timeout', 'proxy', 'no whole preface within timeouts.preface'),
      },
    );
    this.#facts.protocol = head.value;
    this.#settings.events.protocolDetected(head.value);
    return head;
  }

  async #readProxyHeader(): Promise<void> {
    const parse = (
      bytes: Buffer,
    ): Extract<ReturnType<typeof parseProxyHeader>, { kind: 'header' }> | undefined => {
      this.#received = bytes.length;
      const result = parseProxyHeader(bytes);
      if (result.kind === 'malformed')
        throw new ConnectionEnd('proxy_header_malformed', 'proxy', result.detail);
      return result.kind === 'header' ? result : undefined;
    };
    const deadline = this.#openingDeadline(
      () =>
        new ConnectionEnd('proxy_header_timeout', 'proxy', 'no whole PROXY header within timeouts.handshake'),
    );
    const { value, bytes } = await this.#wait(
      readHead(this.#raw, parse),
      () => new ConnectionEnd('left_early', 'client', 'the client left within its PROXY header'),
      deadline,
    );
    if (value.source) {
      this.#facts.clientEnd = value.source;
      this.#admission.identified(value.source.address);
    }
    this.#putBack(bytes.subarray(value.consumed));
  }

  async #handshake(
    tls: ServerTls,
    terminator: TlsTerminator,
  ): Promise<{ readonly stream: TLSSocket; readonly dialer: Dialer }> {
    const startedAtMs = performance.now();
    const { hello, length } = await this.#readClientHello();
    const dialer = this.#judge(hello, tls);
    // OpenSSL would admit such a client, so the proxy sends the alert (RFC 6066 section 3, RFC 7301 section 3.2).
    if ('failure' in dialer) throw this.#helloRefused(dialer.failure, dialer.failure, dialer.detail);
    const socket = await this.#finishHandshake(terminator, length);
    const facts = {
      version: socket.getProtocol() ?? 'unknown',
      cipher: socket.getCipher().standardName,
      resumed: socket.isSessionReused(),
    };
    this.#facts.tls = facts;
    this.#settings.events.handshakeFinished(facts, (performance.now() - startedAtMs) / 1000);
    return { stream: socket, dialer };
  }

  /** Where a client goes, by the name in its own ClientHello whatever session it resumes; or what speaks against it. */
  #judge({ serverName, alpn }: ClientHello, { requireAlpn, protocols }: ServerTls): Dialer | Objection {
    const name = serverName === undefined ? undefined : cut(serverName, MAX_LOGGED.serverName);
    this.#facts.serverName = name;
    const dialer = this.#settings.routes.find(serverName);
    if (!dialer) {
      const detail =
        name === undefined ? 'the client asks for no name' : `the client asks for ${JSON.stringify(name)}`;
      return { failure: 'unrecognized_name', detail };
    }
    this.#facts.upstream = dialer.address.url;
    const isOffered =
      alpn === undefined ? !requireAlpn : protocols.some((protocol) => alpn.includes(protocol));
    if (isOffered) return dialer;
    const offer =
      alpn === undefined
        ? 'offered no ALPN'
        : `offered ALPN ${cut(JSON.stringify(alpn), MAX_LOGGED.serverName)} without ${protocols.join(' or ')}`;
    const detail = `the client at ${formatEnd(this.#facts.clientEnd)} ${offer}`;
    return { failure: 'no_application_protocol', detail };
  }

  async #finishHandshake(terminator: TlsTerminator, helloBytes: number): Promise<TLSSocket> {
    const handshake = terminator.handshake(this.#raw, this.#facts.serverName, helloBytes).then(
      (socket) => {
        // Node does not destroy a TLS socket for a forged record or an alert, and may say no more of it.
        socket.on('error', () => abort(this.#raw));
        socket.pause();
        return socket;
      },
      (error: unknown) => {
        if (error instanceof JudgementFault) throw error.cause;
        if (error instanceof ClientChainFault) {
          // Node cannot send an alert within a handshake.
          abort(this.#raw);
          throw this.#handshakeFailed('client_chain', error.message);
        }
        const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
        throw this.#handshakeFailed(handshakeFailure(code), code);
      },
    );
    return this.#wait(
      handshake,
      () => this.#handshakeFailed('closed', 'the client left within the handshake'),
      this.#openingDeadline(() => this.#handshakeTimedOut('')),
    );
  }

  /** Reads the ClientHello and puts it back. */
  async #readClientHello(): Promise<Extract<ClientHelloResult, { kind: 'hello' }>> {
    const reader = new ClientHelloReader();
    const parse = (bytes: Buffer): ClientHelloResult | undefined => {
      this.#received = bytes.length;
      const result = reader.read(bytes);
      return result.kind === 'incomplete' ? undefined : result;
    };
    const { value, bytes } = await this.#wait(
      readHead(this.#raw, parse),
      () => this.#handshakeFailed('closed', 'the client left within its ClientHello'),
      this.#openingDeadline(() => this.#handshakeTimedOut('no whole ClientHello within timeouts.handshake')),
    );
    if (value.kind === 'malformed') throw this.#helloRefused('client_hello', value.alert, value.detail);
    if (value.kind !== 'hello')
      throw this.#handshakeFailed('not_tls', `the client does not speak TLS but ${describeUnknown(bytes)}`);
    this.#putBack(bytes);
    return value;
  }

  #identify(socket: TLSSocket, mode: 'optional' | 'require'): ConnectionEnd | undefined {
    const verdict = judgeClient(socket, mode);
    this.#settings.events.clientCertificate(verdict.result);
    if (!verdict.allowed) {
      this.#facts.advice = clientCertificateFix(verdict.result);
      return new ConnectionEnd('client_certificate_refused', 'proxy', verdict.detail);
    }
    if (verdict.result === 'verified') {
      this.#facts.identity = verdict.identity;
      this.#facts.isAuthenticated = true;
      this.#admission.authenticated();
    }
    return undefined;
  }

  /** Waits for a stage; a client that leaves without a byte is a probe, else `left` says what it was. */
  async #wait<T>(work: Promise<T>, left: () => ConnectionEnd, deadline: Deadline): Promise<T> {
    try {
      return await this.#stages.run(work, deadline);
    } catch (error) {
      if (!(error instanceof ClientLeft)) throw error;
      // Some clients, such as grpc-js, verify the certificate after the handshake and close the connection without an alert.
      const presented = this.#facts.tls && this.#presented();
      if (presented) this.#facts.advice = whyRefused(presented, new Date());
      throw this.#received === 0 ? new ConnectionEnd('probe', 'client') : left();
    }
  }

  /** `timeouts.handshake` runs from accept and covers PROXY header, ClientHello and handshake together. */
  #openingDeadline(end: () => ConnectionEnd): Deadline {
    const elapsedMs = performance.now() - this.#facts.acceptedAtMs;
    return { ms: this.#settings.configuration.timeouts.handshakeMs - elapsedMs, end };
  }

  /**
   * No alert says this to the client, so it is a reset that does. In TLS 1.3 the handshake may be over for the client, whose last
   * words have not come: it would take a FIN for the end of an answer.
   */
  #handshakeTimedOut(detail: string): ConnectionEnd {
    abort(this.#raw);
    return this.#handshakeFailed('timeout', detail);
  }

  #handshakeFailed(failure: HandshakeFailure, detail: string): ConnectionEnd {
    if (this.#handshakeEnd) return this.#handshakeEnd;
    this.#settings.events.handshakeFailed(failure);
    this.#facts.advice = this.#advice(failure);
    const initiator = failure === 'closed' || failure === 'reset' ? 'client' : 'proxy';
    this.#handshakeEnd = new ConnectionEnd(
      'handshake_failed',
      initiator,
      detail === '' ? failure : `${failure}: ${detail}`,
    );
    return this.#handshakeEnd;
  }

  /** Refuses a ClientHello that OpenSSL has not seen: sends an alert and ends the connection. */
  #helloRefused(failure: HandshakeFailure, alert: HelloAlert, detail: string): ConnectionEnd {
    farewell(this.#raw, this.#raw, HELLO_ALERTS[alert]);
    return this.#handshakeFailed(failure, detail);
  }

  #advice(failure: HandshakeFailure): string | undefined {
    const presented = this.#presented();
    return presented && handshakeAdvice(failure, presented, new Date());
  }

  #presented(): Presented | undefined {
    const { configuration, terminator } = this.#settings;
    if (!configuration.tls || !terminator) return undefined;
    const { serverName } = this.#facts;
    const { protocols } = configuration.tls;
    return { protocols, certificate: terminator.certificateFor(serverName), serverName };
  }

  #putBack(bytes: Buffer): void {
    this.#received = bytes.length;
    if (bytes.length > 0) this.#raw.unshift(bytes);
  }
}
