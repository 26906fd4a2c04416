import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';

import { abort, farewell, lookAtClose } from './abort.js';
import { answerCalls } from './answer-calls.js';
import { GrpcCode } from './call-answer.js';
import type { Accepted } from './accepted.js';
import type { Admission } from './admission.js';
import { AnswerWatch } from './answer-watch.js';
import { guarded } from '../guarded.js';
import { ConnectionEnd } from './close-reason.js';
import {
  inspectConnection,
  type ConnectionInspector,
  type InspectionFailure,
} from '../inspect/connection-inspector.js';
import type { Drain } from '../inspect/drain.js';
import { PING_BYTES } from '../inspect/http2/frame.js';
import { isLimit } from '../inspect/limit.js';
import { DRAIN_PING_MS, DRAINED_LINGER_MS, REFUSED_WINDOW_MS } from '../limits.js';
import { AgeLimit } from './age-limit.js';
import type { InspectedPeer } from './events.js';
import { describeLimit, LOST_ADVICE } from './limit-advice.js';
import type { Direction, RelayObserver } from './half-pipe.js';
import { Opening } from './opening.js';
import { formatEnd } from './peer-address.js';
import type { Dialer } from '../upstream/dialer.js';
import { isClientCertificateRefusal } from '../upstream/failure.js';
import { LEFT_BEFORE_FIRST_BYTE, Reaching } from './reach-upstream.js';
import { clientLeft } from './read-head.js';
import { ConnectionRecord } from './record.js';
import { endFrom, Relay, type RelayEnd } from './relay.js';
import type { Protocol } from './protocol.js';
import type { Sender } from '../inspect/sender.js';
import type { ServedConnection } from './served-connection.js';
import type { OpeningSettings } from './settings.js';
import { Stages } from './stage.js';
import type { ConnectionStatus } from './status.js';
import { WriteStall } from './write-stall.js';

const NOTHING = Buffer.alloc(0);

/** One client's connection, relayed byte by byte. */
export class Connection implements ServedConnection, RelayObserver {
  readonly #raw: Socket;
  readonly #settings: OpeningSettings;
  readonly #admission: Admission;
  readonly #record: ConnectionRecord;
  readonly #stages = new Stages();
  #relay: Relay | undefined;
  /** Whether the first byte of upstream counts as its answer, because calls are not inspected. */
  #isUnansweredUnseen: boolean;
  /** Set until a call was answered. */
  #answers: AnswerWatch | undefined;
  /** Set while the connection is inspected; after `#lost` is set, it still limits what the client sends. */
  #inspector: ConnectionInspector | undefined;
  /** Why the connection is to end when its last call has, once it is. */
  #draining: string | undefined;
  #drain: Drain<InspectionFailure> | undefined;
  /** Why calls of the connection cannot be followed, once they cannot. */
  #lost: InspectionFailure | undefined;
  /** What a client is told that is refused; there once it is. */
  #refusal: Buffer | undefined;
  /** Whether the calls of a client that is not admitted were answered. */
  #isAnswered = false;
  #stream: Socket | undefined;
  /** The URL of the upstream that its calls go to. */
  #upstream = '';
  #drainedTimer: NodeJS.Timeout | undefined;
  #drainPingTimer: NodeJS.Timeout | undefined;
  #transferredAtSweep = -1;
  #idleSinceMs = 0;
  #sides: Readonly<Record<'client' | 'upstream', RelayEnd & { readonly stall: WriteStall }>> | undefined;
  #ageLimit: AgeLimit | undefined;

  constructor(accepted: Accepted, settings: OpeningSettings, admission: Admission) {
    const { raw } = accepted;
    this.#raw = raw;
    this.#settings = settings;
    this.#admission = admission;
    this.#isUnansweredUnseen = settings.configuration.inspect === 'off';
    this.#record = new ConnectionRecord(accepted, settings);
    raw.on('error', lookAtClose);
    raw.once('close', () => this.#stages.end(clientLeft));
  }

  async run(): Promise<void> {
    let end: ConnectionEnd;
    try {
      end = await this.#serve();
    } catch (error) {
      end = endFrom(error);
      this.#close(end);
    }
    this.#report(end);
  }

  cut(end: ConnectionEnd): void {
    this.#stages.end(end);
    this.#relay?.cut(end);
  }

  get status(): ConnectionStatus {
    const inspection = this.#lost !== undefined ? 'lost' : this.#inspector ? 'followed' : 'off';
    return {
      ...this.#record.status,
      stage: this.#draining !== undefined ? 'draining' : this.#relay ? 'relaying' : 'opening',
      queuedToUpstream: this.#relay?.queuedBytes('to_upstream') ?? 0,
      queuedToClient: this.#relay?.queuedBytes('to_client') ?? 0,
      inspection,
      inspector: this.#inspector,
      requests: undefined,
    };
  }

  /**
   * Lets what is open on the connection finish and then ends it: at once if it is idle. One that cannot be followed goes
   * on until its ends have finished. `why` is for the log.
   */
  drain(why: string): void {
    if (this.#draining !== undefined) return;
    this.#draining = why;
    const relay = this.#relay;
    // Caught here too when a timer calls it, because an exception would not be caught elsewhere.
    if (relay)
      guarded(
        (fault) => this.cut(endFrom(fault)),
        () => this.#beginDrain(relay),
      )();
  }

  /** Tells of what moved since the last call; with each scrape, so that a long clone shows while it runs. */
  reportBytes(): void {
    this.#record.reportBytes();
  }

  /**
   * Cuts the connection if nothing moved for `timeouts.idle`, a side took nothing of what waits for it for
   * `timeouts.write_stall`, or its inspector gives the client up; called now and then, so that a byte needs no timer.
   */
  sweep(nowMs: number): void {
    if (!this.#relay) return;
    const { idleMs, writeStallMs } = this.#settings.configuration.timeouts;
    const isClientReading = this.#relay.queuedBytes('to_client') === 0;
    if (this.#inspector) this.#answers?.look(this.#inspector.connections, nowMs, isClientReading);
    for (const side of ['client', 'upstream'] as const) {
      const { stall, stream, raw } = this.#sides?.[side] ?? {};
      const stalledMs = stall?.stalledMs(nowMs, stream?.writableLength ?? 0, raw?.bytesWritten ?? 0) ?? 0;
      if (stalledMs < writeStallMs) continue;
      const who = side === 'client' ? 'the client' : 'Gitaly';
      this.cut(new ConnectionEnd('write_stall', 'proxy', `${who} read nothing for timeouts.write_stall`));
      return;
    }
    // While bytes wait for Gitaly the client is not read: what it has not sent may only not have been taken.
    const isRead = this.#relay.queuedBytes('to_upstream') === 0;
    const overdue = isRead ? this.#inspector?.overdue(nowMs) : undefined;
    if (overdue !== undefined) {
      this.#judge(overdue);
      return;
    }
    const { transferred } = this.#relay;
    if (transferred !== this.#transferredAtSweep) {
      this.#transferredAtSweep = transferred;
      this.#idleSinceMs = nowMs;
    } else if (nowMs - this.#idleSinceMs >= idleMs) {
      this.cut(new ConnectionEnd('idle_timeout', 'proxy', 'no byte moved for timeouts.idle'));
    }
  }

  /** Every byte passes here before it is written. */
  bytes(direction: Direction, bytes: Buffer): Buffer | undefined {
    if (this.#refusal) return undefined;
    if (direction === 'to_client') {
      this.#record.bytesToClient += bytes.length;
      if (this.#isUnansweredUnseen) this.#answered();
    } else this.#record.bytesToUpstream += bytes.length;
    const sender = direction === 'to_client' ? 'server' : 'client';
    if (this.#drain) return this.#passDraining(this.#drain, sender, bytes);
    const failure = this.#inspector?.read(sender, bytes, 0, bytes.length, performance.now());
    return failure === undefined || failure === this.#lost || this.#judge(failure) ? bytes : undefined;
  }

  /** The data path. */
  async #serve(): Promise<ConnectionEnd> {
    const { facts } = this.#record;
    const opening = new Opening(this.#raw, this.#settings, facts, this.#stages, this.#admission);
    const { stream, dialer, refused } = await opening.run();
    if (refused) await this.#refuse(opening, stream, refused);
    const { prefaceMs } = this.#settings.configuration.timeouts;
    const firstBytes = await opening.detectProtocol(stream, prefaceMs);
    this.#stream = stream;
    this.#inspect(firstBytes.value, dialer);
    const client = { stream, dialer, head: firstBytes };
    const reaching = new Reaching(client, this.#settings, facts, this.#stages, this);
    const { upstream, head } = await reaching.run();
    this.#relay = new Relay({ stream, raw: this.#raw }, upstream, {
      head,
      observer: this,
      halfCloseMs: this.#settings.configuration.timeouts.halfCloseMs,
    });
    this.#sides = {
      client: { stream, raw: this.#raw, stall: new WriteStall() },
      upstream: { stream: upstream.stream, raw: upstream.raw, stall: new WriteStall() },
    };
    if (this.#draining !== undefined) this.#beginDrain(this.#relay);
    this.#ageLimit = new AgeLimit(this.#settings.configuration.maxConnectionAge, facts.acceptedAtMs, this);
    return this.#explain(await this.#relay.done, dialer);
  }

  /**
   * Answers the first calls of a client that is not admitted; none of its bytes are forwarded.
   * @throws ConnectionEnd always
   */
  async #refuse(opening: Opening, stream: Socket, refused: ConnectionEnd): Promise<never> {
    try {
      const head = await opening.detectProtocol(stream, REFUSED_WINDOW_MS);
      const { advice = '' } = this.#record.facts;
      const message = `${refused.message}${advice && `; fix: ${advice}`}`;
      this.#isAnswered = true;
      const status = { code: GrpcCode.unauthenticated, message };
      await this.#stages.run(answerCalls(stream, head, status, REFUSED_WINDOW_MS));
    } catch {
      // The connection counts as refused, even if it ends meanwhile for another reason.
    }
    throw refused;
  }

  #inspect(protocol: Protocol, dialer: Dialer): void {
    const { configuration, events, calls } = this.#settings;
    if (configuration.inspect === 'off') return;
    this.#upstream = dialer.address.url;
    this.#answers = new AnswerWatch(events.inspecting(this.#inspectedPeer), () => this.#answered());
    this.#inspector = inspectConnection(protocol, this.#answers, calls.share(this));
  }

  get #inspectedPeer(): InspectedPeer {
    const { facts } = this.#record;
    const { clientEnd, identity } = facts;
    const isAuthenticated = (): boolean => facts.isAuthenticated;
    return { upstream: this.#upstream, peerAddress: formatEnd(clientEnd), identity, isAuthenticated };
  }

  /** A limit is exceeded, or calls cannot be followed. Returns whether the connection is kept nevertheless. */
  #judge(failure: InspectionFailure): boolean {
    const isExceeded = isLimit(failure);
    if (this.#lost === undefined || isExceeded)
      this.#settings.events.inspectorLost(failure, this.#inspectedPeer);
    this.#lost ??= failure;
    this.#drain = undefined;
    const isRequired = this.#settings.configuration.inspect === 'required';
    if (!isExceeded && !isRequired) return true;
    const refusal = this.#inspector?.refusal ?? NOTHING;
    this.#inspector?.end(performance.now());
    this.#inspector = undefined;
    this.#refusal = refusal;
    this.#record.facts.advice = isExceeded ? describeLimit(failure) : LOST_ADVICE;
    const end = new ConnectionEnd(isExceeded ? 'abuse' : 'inspection_lost', 'proxy', failure);
    // Before there is a relay, whoever passes the bytes on ends the connection with this.
    if (!this.#relay) throw end;
    this.#relay.refuse(end, refusal);
    return false;
  }

  #answered(): void {
    this.#isUnansweredUnseen = false;
    this.#answers = undefined;
    this.#record.facts.isAuthenticated = true;
    this.#admission.authenticated();
  }

  #beginDrain(relay: Relay): void {
    if (this.#lost !== undefined) return;
    this.#drain = this.#inspector?.drain(randomBytes(PING_BYTES), (bytes) =>
      relay.insert('to_client', bytes),
    );
    if (this.#drain?.finished) this.#endDrained(this.#drain);
    // A client that ignores the drain could make new calls indefinitely.
    this.#drainPingTimer = setTimeout(() => {
      this.#drain?.insist();
      if (this.#drain?.finished) this.#endDrained(this.#drain);
    }, DRAIN_PING_MS);
  }

  #passDraining(drain: Drain<InspectionFailure>, sender: Sender, bytes: Buffer): Buffer | undefined {
    const passed = drain.pass(sender, bytes, performance.now());
    if (drain.failure !== undefined) {
      if (!this.#judge(drain.failure)) return undefined;
    } else if (drain.finished) this.#endDrained(drain);
    return passed.length > 0 ? passed : undefined;
  }

  #endDrained({ announced }: Drain<InspectionFailure>): void {
    if (this.#drainedTimer) return;
    const end = (): void => this.#relay?.end(new ConnectionEnd('drained', 'proxy', this.#draining));
    // A client that was told leaves once it has read what it was sent; to grpc-js an end before that is an error. One
    // that was not is ended behind what is passed on now.
    this.#drainedTimer = setTimeout(end, announced ? DRAINED_LINGER_MS : 0);
  }

  /** In TLS 1.3 upstream refuses our certificate after the handshake, when the relay runs already. */
  #explain(end: ConnectionEnd, { address }: Dialer): ConnectionEnd {
    if (end.initiator !== 'upstream') return end;
    if (!isClientCertificateRefusal(end.message)) {
      // Not every implementation sends the alert; this proxy does not, whose clients would not wait for it.
      if (address.scheme === 'tls' && this.#record.bytesToClient === 0) {
        this.#record.facts.advice = LEFT_BEFORE_FIRST_BYTE;
      }
      return end;
    }
    this.#settings.events.upstreamFailed(address.url, 'client_certificate_refused');
    const why = `Gitaly at ${address.url} refused the client certificate of upstream_tls, or misses one (${end.message})`;
    return new ConnectionEnd('upstream_unreachable', 'upstream', why);
  }

  /** An alert or a GOAWAY that was just written must arrive, so these connections are closed; all others are reset. */
  #close(end: ConnectionEnd): void {
    // If the opening has sent its own alert, the connection is closing already.
    if (end.reason === 'handshake_failed' && this.#raw.writableEnded) return;
    if (end.reason === 'handshake_failed' || end.reason === 'upstream_unreachable' || this.#isAnswered)
      this.#raw.destroy();
    else if (this.#refusal && this.#stream) farewell(this.#raw, this.#stream, this.#refusal);
    else abort(this.#raw);
  }

  #report(end: ConnectionEnd): void {
    clearTimeout(this.#drainedTimer);
    clearTimeout(this.#drainPingTimer);
    this.#ageLimit?.clear();
    // The line of the connection precedes the lines of its calls, which may be more than the log buffer can hold.
    this.#record.closed(end);
    this.#inspector?.end(performance.now());
    this.#inspector = undefined;
  }
}
