import { TLSSocket } from 'node:tls';

import { tlsFaultOf } from '../error-codes.js';
import { GUARDED_TRANSFER_BYTES } from '../limits.js';
import type { Upstream } from '../upstream/dialer.js';
import type { CallJudging } from '../inspect/grpc/call.js';
import { AuditGate } from '../policy/audit-gate.js';
import { PolicyJudge } from '../policy/policy-judge.js';
import { MetadataJudge } from '../policy/upstream-metadata.js';
import { drainPingMs } from './age-limit.js';
import { ConnectionEnd, internalError } from './connection-end.js';
import type { ConnectionContext } from './connection-context.js';
import type { InspectedPeer } from './connection-events.js';
import { FollowedCalls } from './followed-calls.js';
import { formatEnd } from './peer-address.js';
import { Relay, type Unanswered } from './relay/relay.js';
import { chainOf, type Direction, type Tap } from './relay/tap.js';
import { WriteStall } from './relay/write-stall.js';
import type { AdmittedClient } from './stages/dial-upstream.js';
import { LEFT_BEFORE_FIRST_BYTE } from './stages/refuse-client.js';

/** The upstream that a client is relayed to. */
export interface RelayTarget {
  readonly upstream: Upstream;
  /** The URL of the upstream. */
  readonly url: string;
  /** The time that dialling took. */
  readonly dialSeconds: number;
}

/** A connection whose bytes are relayed: the relay with its taps, and the deadlines that are checked periodically. */
export class RelayedConnection {
  readonly #context: ConnectionContext;
  readonly #client: AdmittedClient;
  readonly #target: RelayTarget;
  readonly #calls: FollowedCalls | undefined;
  readonly #relay: Relay;
  readonly #stalls = { client: new WriteStall(), upstream: new WriteStall() } as const;
  #movementAtSweep = -1;
  #idleSinceMs = 0;
  /** Set while the connection is drained: the reason. */
  #draining: string | undefined;

  constructor(context: ConnectionContext, client: AdmittedClient, target: RelayTarget) {
    this.#context = context;
    this.#client = client;
    this.#target = target;
    this.#calls = this.#followCalls();
    const { timeouts } = context.settings.configuration;
    const { stream, protocol, head } = client;
    this.#relay = new Relay({ stream, raw: context.raw, head }, target.upstream, {
      tap: chainOf([this.#countBytes(), ...(this.#calls ? [this.#calls] : [])]),
      halfCloseMs: timeouts.halfCloseMs,
      // RFC 9113 section 3.4: an HTTP/2 server sends SETTINGS without waiting for a request. A yamux server need not send first.
      firstByteMs: protocol === 'http2' ? timeouts.dialMs : undefined,
      onAnswer: () => this.#answered(),
    });
  }

  /** Relays until the end. The client of an upstream that failed before its first byte can still be answered. */
  async run(): Promise<ConnectionEnd | Unanswered> {
    const { settings } = this.#context;
    if (this.#client.protocol !== 'http2') this.#connected();
    this.#relay.start();
    const outcome = await this.#relay.done;
    if (!(outcome instanceof ConnectionEnd)) {
      settings.events.upstreamFailed(this.#target.url, outcome.failure.reason);
      return outcome;
    }
    return this.#explain(outcome);
  }

  get queuedBytes(): Readonly<Record<Direction, number>> {
    return {
      to_upstream: this.#relay.queuedBytes('to_upstream'),
      to_client: this.#relay.queuedBytes('to_client'),
    };
  }

  get calls(): FollowedCalls | undefined {
    return this.#calls;
  }

  /** Whether it has relayed many bytes at a CPU cost that the next connection of its client would not have. */
  get isReplaceable(): boolean {
    const { settings, record, facts } = this.#context;
    const { stream } = this.#client;
    if (record.bytesToClient + record.bytesToUpstream < GUARDED_TRANSFER_BYTES) return false;
    if (!(stream instanceof TLSSocket)) return false;
    return settings.terminator?.isReplaceable(stream, facts.clientEnd?.address) ?? false;
  }

  /** Lets open calls finish and then ends the connection, immediately if none is open. `why` is for the log. */
  drain(why: string): void {
    this.#draining = why;
    this.#calls?.drain();
  }

  cut(end: ConnectionEnd): void {
    this.#relay.cut(end);
  }

  /** Checks the deadlines that have no timer of their own. Relaying a byte therefore needs no timer. */
  sweep(nowMs: number): void {
    const { idleMs } = this.#context.settings.configuration.timeouts;
    const { to_client: toClient, to_upstream: toUpstream } = this.queuedBytes;
    const stalled = this.#stalled(nowMs);
    if (stalled) {
      this.cut(stalled);
      return;
    }
    this.#calls?.sweep(nowMs, toClient === 0, toUpstream === 0);
    const { movement } = this.#relay;
    if (movement !== this.#movementAtSweep) {
      this.#movementAtSweep = movement;
      this.#idleSinceMs = nowMs;
    } else if (nowMs - this.#idleSinceMs >= idleMs) {
      this.cut(new ConnectionEnd('idle_timeout', 'proxy', 'no byte moved for timeouts.idle'));
    }
  }

  /** The connection has ended and was reported. */
  close(): void {
    this.#calls?.end();
  }

  #countBytes(): Tap {
    const { record } = this.#context;
    return {
      pass: (direction, bytes) => {
        if (direction === 'to_client') record.bytesToClient += bytes.length;
        else record.bytesToUpstream += bytes.length;
        return bytes;
      },
    };
  }

  #followCalls(): FollowedCalls | undefined {
    const { settings, facts } = this.#context;
    const { inspect, abuseLimits, timeouts, maxConnectionAge } = settings.configuration;
    const peer = {
      upstream: this.#target.url,
      peerAddress: formatEnd(facts.clientEnd),
      identity: facts.identity,
      observed: facts.observed,
      isAuthenticated: () => facts.isAuthenticated,
    };
    const judging = this.#judgeCalls(peer);
    // The listener may have got its policy, and with it inspection, since the connection was accepted.
    if (inspect === 'off' && !judging) return undefined;
    const { events } = settings;
    const share = settings.calls.share(this.#context.connection, abuseLimits.callsPerConnection);
    return new FollowedCalls(
      {
        protocol: this.#client.protocol,
        mode: inspect === 'off' ? 'required' : inspect,
        limits: abuseLimits,
        prefaceMs: timeouts.prefaceMs,
        drainPingMs: drainPingMs(maxConnectionAge),
        peer,
        events,
        share,
        judging,
      },
      {
        answered: () => this.#context.authenticated('call'),
        insert: (direction, bytes) => {
          this.#relay.insert(direction, bytes);
          return this.#relay.queuedBytes(direction);
        },
        refuse: (end, lastBytes, advice) => {
          facts.advice = advice;
          this.#relay.refuse(end, lastBytes);
        },
        drained: () => this.#relay.end(new ConnectionEnd('drained', 'proxy', this.#draining)),
        fault: (error) => this.cut(internalError(error)),
      },
    );
  }

  /** `undefined` if no call needs to be judged. If that changes, open connections are drained. */
  #judgeCalls(peer: InspectedPeer): CallJudging | undefined {
    const { settings, facts } = this.#context;
    const { judgedFields: fields, mustRefuseUnaudited, metadata } = settings;
    if (!fields) return undefined;
    const policy = new PolicyJudge(settings.policy, facts.identities, (call) =>
      settings.events.callDecided(call, peer),
    );
    const gate = new AuditGate(policy, mustRefuseUnaudited);
    return { judge: new MetadataJudge(gate, metadata, facts.identity), fields };
  }

  #answered(): void {
    if (this.#client.protocol === 'http2') this.#connected();
    // If calls are not followed, it is unknown whether upstream serves the client.
    if (!this.#calls) this.#context.authenticated('byte');
  }

  #connected(): void {
    const { url, dialSeconds } = this.#target;
    this.#context.settings.events.upstreamConnected(url, dialSeconds);
  }

  #stalled(nowMs: number): ConnectionEnd | undefined {
    const { writeStallMs } = this.#context.settings.configuration.timeouts;
    const { stream } = this.#client;
    const { upstream } = this.#target;
    const isStalled = (stall: WriteStall, waiting: number, taken: number): boolean =>
      stall.stalledMs(nowMs, waiting, taken) >= writeStallMs;
    const client = isStalled(this.#stalls.client, stream.writableLength, this.#context.raw.bytesWritten);
    const gitaly = isStalled(
      this.#stalls.upstream,
      upstream.stream.writableLength,
      upstream.raw.bytesWritten,
    );
    if (!client && !gitaly) return undefined;
    const who = client ? 'the client' : 'Gitaly';
    return new ConnectionEnd('write_stall', 'proxy', `${who} stopped reading (timeouts.write_stall)`);
  }

  /** In TLS 1.3, upstream refuses our certificate after the handshake, possibly after it has sent bytes. */
  #explain(end: ConnectionEnd): ConnectionEnd {
    if (end.initiator !== 'upstream') return end;
    const { url } = this.#target;
    const { facts, record } = this.#context;
    if (tlsFaultOf(end.detail) !== 'refused_certificate') {
      if (url.startsWith('tls:') && record.bytesToClient === 0) facts.advice = LEFT_BEFORE_FIRST_BYTE;
      return end;
    }
    this.#context.settings.events.upstreamFailed(url, 'client_certificate_refused');
    const detail = `Gitaly at ${url} refused the client certificate of upstream_tls, or requires one (${end.detail})`;
    return new ConnectionEnd('upstream_unreachable', 'upstream', detail);
  }
}
