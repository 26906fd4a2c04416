import type { Socket } from 'node:net';

import type { Dialer, Upstream } from '../upstream/dialer.js';
import { MAX_UNANSWERED_BYTES, UNAVAILABLE_WINDOW_MS } from '../limits.js';
import { UpstreamFailure } from '../upstream/failure.js';
import { firstBytes } from '../upstream/first-bytes.js';
import { abort } from './abort.js';
import { answerCalls } from './answer-calls.js';
import { ByteQueue } from './byte-queue.js';
import { GrpcCode } from './call-answer.js';
import { ConnectionEnd } from './close-reason.js';
import type { ConnectionFacts } from './facts.js';
import type { RelayObserver } from './half-pipe.js';
import { encodeProxyHeader } from './proxy-header.js';
import { ClientLeft, type Head } from './read-head.js';
import type { Protocol } from './protocol.js';
import type { OpeningSettings } from './settings.js';
import type { Stages } from './stage.js';
import { isFiller, stopRead } from './stopped-read.js';
import { TurnWriter } from './turn-writer.js';

/** A client that has passed every check: its plaintext stream (paused), what it sent first, and where it goes. */
export interface KnownClient {
  readonly stream: Socket;
  readonly dialer: Dialer;
  readonly head: Head<Protocol>;
}

/** An upstream that has had the client's first bytes: paused, and what it answered already. */
export interface ReachedUpstream {
  readonly upstream: Upstream;
  /** Empty for a backchannel, whose server need not speak first. */
  readonly head: Buffer;
}

const NOTHING = Buffer.alloc(0);

/** What to do about a TLS upstream that leaves before its first byte; not every implementation sends an alert. */
export const LEFT_BEFORE_FIRST_BYTE =
  'the upstream left before its first byte; in TLS 1.3 a client certificate (upstream_tls.certificate_path) that is ' +
  'refused or missing shows like this: the log of the upstream tells';

/** The second half of the data path up to the relay: dials upstream for a client that has passed every check. */
export class Reaching {
  readonly #client: KnownClient;
  readonly #settings: OpeningSettings;
  readonly #facts: ConnectionFacts;
  readonly #stages: Stages;
  readonly #observer: RelayObserver;
  /** The client's bytes so far, which are needed to answer it if upstream does not. */
  readonly #sent = new ByteQueue();
  #onData: (bytes: Buffer) => void = () => undefined;

  constructor(
    client: KnownClient,
    settings: OpeningSettings,
    facts: ConnectionFacts,
    stages: Stages,
    observer: RelayObserver,
  ) {
    this.#client = client;
    this.#settings = settings;
    this.#facts = facts;
    this.#stages = stages;
    this.#observer = observer;
    this.#sent.add(client.head.bytes);
  }

  /**
   * If upstream cannot be reached, the client's calls are answered with UNAVAILABLE before the connection is closed.
   * @throws ConnectionEnd
   */
  async run(): Promise<ReachedUpstream> {
    const { events } = this.#settings;
    const { stream } = this.#client;
    const { address } = this.#client.dialer;
    const startedAtMs = performance.now();
    // The client is read throughout, so that a close by the client is noticed.
    const onData = (bytes: Buffer): void => this.#collect(bytes);
    stream.on('data', onData).resume();
    try {
      const upstream = await this.#dial();
      const connectedAtMs = performance.now();
      const head = await this.#introduce(upstream);
      events.upstreamConnected(address.url, (connectedAtMs - startedAtMs) / 1000);
      return { upstream, head };
    } catch (error) {
      if (error instanceof ClientLeft)
        throw new ConnectionEnd('reset', 'client', 'the client left while upstream was dialled');
      if (!(error instanceof UpstreamFailure)) throw error;
      events.upstreamFailed(address.url, error.reason);
      if (address.scheme === 'tls' && (error.reason === 'closed' || error.reason === 'reset'))
        this.#facts.advice = LEFT_BEFORE_FIRST_BYTE;
      stream.off('data', onData);
      const message = `Gitaly at ${address.url} cannot be reached: ${error.message}`;
      await this.#answer(message);
      throw new ConnectionEnd('upstream_unreachable', 'proxy', message);
    } finally {
      stream.off('data', onData).pause();
    }
  }

  #collect(bytes: Buffer): void {
    if (isFiller(bytes)) return;
    this.#sent.add(bytes);
    if (this.#sent.cost > MAX_UNANSWERED_BYTES) stopRead(this.#client.stream);
    try {
      this.#onData(bytes);
    } catch (error) {
      this.#stages.end(error instanceof Error ? error : new Error(String(error)));
    }
  }

  async #dial(): Promise<Upstream> {
    const { configuration, terminator } = this.#settings;
    const { send } = configuration.proxyProtocol;
    const dial = this.#client.dialer.dial(
      terminator ? 'tls' : 'plain',
      send && encodeProxyHeader(send, this.#facts.clientEnd, this.#facts.localEnd),
    );
    try {
      return await this.#stages.run(dial.done);
    } catch (error) {
      dial.cancel(error instanceof Error ? error : new Error(String(error)));
      // Nobody waits for the dial any more, and it may have connected in this very turn.
      dial.done.then(({ raw }) => raw.destroy()).catch(() => undefined);
      throw error;
    }
  }

  /** Forwards the client's bytes until upstream has sent something; both are then paused. */
  async #introduce(upstream: Upstream): Promise<Buffer> {
    const writer = new TurnWriter(upstream.stream, {
      onProgress: () => undefined,
      onFault: (error) => this.#stages.end(error instanceof Error ? error : new Error(String(error))),
    });
    const pass = (bytes: Buffer): void => {
      const passed = this.#observer.bytes('to_upstream', bytes);
      if (passed) writer.add(passed);
    };
    try {
      const sent = this.#takeSent();
      this.#sent.add(sent);
      pass(sent);
      writer.flush();
      if (this.#client.head.value !== 'http2') return NOTHING;
      this.#onData = pass;
      const answer = await this.#stages.run(
        firstBytes(upstream, this.#settings.configuration.timeouts.dialMs),
      );
      writer.flush();
      return answer;
    } catch (error) {
      abort(upstream.raw, upstream.stream);
      throw error;
    }
  }

  #takeSent(): Buffer {
    const chunks = this.#sent.take();
    const [first] = chunks;
    return first && chunks.length === 1 ? first : Buffer.concat(chunks);
  }

  async #answer(message: string): Promise<void> {
    try {
      const { stream, head } = this.#client;
      const sent = { ...head, bytes: this.#takeSent() };
      const status = { code: GrpcCode.unavailable, message };
      await this.#stages.run(answerCalls(stream, sent, status, UNAVAILABLE_WINDOW_MS));
    } catch (interruption) {
      if (!(interruption instanceof ClientLeft)) throw interruption;
    }
  }
}
