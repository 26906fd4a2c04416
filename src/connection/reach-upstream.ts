import type { Socket } from 'node:net';

import type { Dialer, Upstream } from '../upstream/dialer.js';
import { MAX_UNANSWERED_BYTES, UNAVAILABLE_WINDOW_MS } from '../limits.js';
import { UpstreamFailure } from '../upstream/failure.js';
import { firstBytes } from '../upstream/first-bytes.js';
import { abort } from './abort.js';
import { answerCalls } from './answer-calls.js';
import { GrpcCode } from './call-answer.js';
import { ConnectionEnd } from './close-reason.js';
import type { ConnectionFacts } from './facts.js';
import type { RelayObserver } from './half-pipe.js';
import { encodeProxyHeader } from './proxy-header.js';
import { ClientLeft, type Head } from './read-head.js';
import type { Protocol } from './protocol.js';
import type { OpeningSettings } from './settings.js';
import type { Stages } from './stage.js';

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
  /** What the client has said so far: to answer it where upstream does not. */
  readonly #said: Buffer[];

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
    this.#said = [client.head.bytes];
  }

  /**
   * If upstream cannot be reached, the client's calls are answered with UNAVAILABLE before the connection is closed.
   * @throws ConnectionEnd
   */
  async run(): Promise<ReachedUpstream> {
    const { events } = this.#settings;
    const { address } = this.#client.dialer;
    const startedAtMs = performance.now();
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
      const message = `Gitaly at ${address.url} cannot be reached: ${error.message}`;
      await this.#answer(message);
      throw new ConnectionEnd('upstream_unreachable', 'proxy', message);
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

  /** Passes on what the client says until upstream has said something; both are paused then. */
  async #introduce(upstream: Upstream): Promise<Buffer> {
    const { stream, head } = this.#client;
    const pass = (bytes: Buffer): void => {
      const passed = this.#observer.bytes('to_upstream', bytes);
      if (passed) upstream.stream.write(passed);
    };
    let unanswered = head.bytes.length;
    const onData = (bytes: Buffer): void => {
      try {
        pass(bytes);
      } catch (error) {
        this.#stages.end(error instanceof Error ? error : new Error(String(error)));
      }
      this.#said.push(bytes);
      unanswered += bytes.length;
      if (unanswered > MAX_UNANSWERED_BYTES) stream.pause();
    };
    try {
      pass(head.bytes);
      if (head.value !== 'http2') return NOTHING;
      stream.on('data', onData).resume();
      return await this.#stages.run(firstBytes(upstream, this.#settings.configuration.timeouts.dialMs));
    } catch (error) {
      abort(upstream.raw, upstream.stream);
      throw error;
    } finally {
      stream.off('data', onData).pause();
    }
  }

  async #answer(message: string): Promise<void> {
    try {
      const { stream, head } = this.#client;
      const said = { ...head, bytes: Buffer.concat(this.#said) };
      const status = { code: GrpcCode.unavailable, message };
      await this.#stages.run(answerCalls(stream, said, status, UNAVAILABLE_WINDOW_MS));
    } catch (interruption) {
      if (!(interruption instanceof ClientLeft)) throw interruption;
    }
  }
}
