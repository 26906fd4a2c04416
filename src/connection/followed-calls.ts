import { randomBytes } from 'node:crypto';

import type { Inspect } from '../config/model.js';
import type { AbuseLimits } from '../inspect/abuse-limits.js';
import type { CallShare } from '../inspect/call-pool.js';
import {
  failureReason,
  inspectConnection,
  type ConnectionInspector,
  type InspectionFailure,
} from '../inspect/connection-inspector.js';
import type { Drain } from '../inspect/drain.js';
import type { DrainingEditor } from '../inspect/editor.js';
import type { CallJudging } from '../inspect/grpc/call.js';
import { PING_BYTES } from '../inspect/http2/http2-frame.js';
import { isLimit } from '../inspect/limit.js';
import type { Sender } from '../inspect/sender.js';
import { DRAINED_LINGER_MS, MAX_UNREAD_ANSWER_BYTES } from '../limits.js';
import { guarded } from '../guarded.js';
import { AnswerWatch } from './answer-watch.js';
import { ConnectionEnd } from './connection-end.js';
import type { ConnectionEvents, InspectedPeer } from './connection-events.js';
import { describeLimit, LOST_ADVICE, UNJUDGED_ADVICE } from './limit-advice.js';
import type { Protocol } from './protocol.js';
import type { Direction, Tap } from './relay/tap.js';

export interface FollowedCallsOptions {
  readonly protocol: Protocol;
  readonly mode: Exclude<Inspect, 'off'>;
  readonly limits: AbuseLimits;
  /** `timeouts.preface`, milliseconds. */
  readonly prefaceMs: number;
  /** How long a client may take to answer the PING of a drain, milliseconds. */
  readonly drainPingMs: number;
  readonly peer: InspectedPeer;
  readonly events: Pick<ConnectionEvents, 'inspecting' | 'inspectorLost'>;
  readonly share: CallShare;
  /** Judges the calls of the client; the connection is closed then if its calls cannot be followed. */
  readonly judging: CallJudging | undefined;
}

export interface FollowedCallsEvents {
  /** Upstream has answered a call. */
  answered(): void;
  /** Sends bytes of the proxy, after all bytes forwarded so far in this direction. Returns how many bytes wait in it. */
  insert(direction: Direction, bytes: Buffer): number;
  /** The connection must be closed; the client gets `lastBytes`. `advice` is for the operator. */
  refuse(end: ConnectionEnd, lastBytes: Buffer, advice: string): void;
  /** The connection is drained: no call is open on it, and none can begin. */
  drained(): void;
  /** A timer has thrown an exception. */
  fault(error: Error): void;
}

/** The tap that follows the calls of a connection, enforces the limits on its client and drains it. */
export class FollowedCalls implements Tap {
  readonly #options: FollowedCallsOptions;
  readonly #events: FollowedCallsEvents;
  readonly #inspector: ConnectionInspector;
  /** Set until upstream has answered a call. */
  #answers: AnswerWatch | undefined;
  /** Set once calls can no longer be followed: the reason. The inspector still enforces the limits on the client. */
  #lost: InspectionFailure | undefined;
  /** Set while the connection is drained. */
  #drain: Drain | undefined;
  /** Set while the connection is edited: if its calls are judged, and while it is drained. */
  #editor: DrainingEditor<InspectionFailure> | undefined;
  /** Whether the client makes calls that are refused, and does not read the answers. */
  #isFlooded = false;
  /** Whether upstream has sent its first bytes. In HTTP/2 these are its SETTINGS; no frame can be inserted before them. */
  #hasUpstreamBegun = false;
  /** Whether a drain waits for the first bytes of upstream. */
  #drainsLater = false;
  /** Whether the client was refused or the connection has ended. No bytes are forwarded then. */
  #isOver = false;
  #insistTimer: NodeJS.Timeout | undefined;
  #lingerTimer: NodeJS.Timeout | undefined;

  constructor(options: FollowedCallsOptions, events: FollowedCallsEvents) {
    this.#options = options;
    this.#events = events;
    this.#answers = new AnswerWatch(options.events.inspecting(options.peer), () => {
      this.#answers = undefined;
      events.answered();
    });
    this.#inspector = inspectConnection(
      options.protocol,
      this.#answers,
      options.limits,
      options.share,
      options.judging,
    );
    if (options.judging) this.#editor = this.#edit();
  }

  get inspector(): ConnectionInspector {
    return this.#inspector;
  }

  get state(): 'followed' | 'lost' {
    return this.#lost === undefined ? 'followed' : 'lost';
  }

  pass(direction: Direction, bytes: Buffer): Buffer | undefined {
    if (this.#isOver) return undefined;
    const sender = direction === 'to_client' ? 'server' : 'client';
    if (sender === 'server' && !this.#hasUpstreamBegun) this.#upstreamBegins();
    if (this.#editor) return this.#passEdited(this.#editor, sender, bytes);
    const failure = this.#inspector.read(sender, bytes, 0, bytes.length, performance.now());
    return failure === undefined || failure === this.#lost || this.#judge(failure) ? bytes : undefined;
  }

  /** Lets the open calls finish. If calls cannot be followed, the client is notified and ends the connection. */
  drain(): void {
    if (this.#drain || this.#isOver) return;
    if (this.#options.protocol === 'http2' && !this.#hasUpstreamBegun) {
      this.#drainsLater = true;
      return;
    }
    this.#editor ??= this.#edit();
    this.#drain = this.#editor.drain(randomBytes(PING_BYTES));
    this.#lookDrained();
    // A client that ignores the drain could make new calls indefinitely.
    const insist = (): void => {
      this.#drain?.insist();
      this.#lookDrained();
    };
    this.#insistTimer = setTimeout(this.#guarded(insist), this.#options.drainPingMs);
  }

  /**
   * Looks for an answered call, and for a client that exceeds a deadline without sending anything.
   *
   * @param isClientReading - whether no bytes wait for the client.
   * @param isClientRead - whether no bytes wait for upstream. Otherwise the client is not read, and deadlines do not apply to it.
   */
  sweep(nowMs: number, isClientReading: boolean, isClientRead: boolean): void {
    this.#answers?.look(this.#inspector.connections, nowMs, isClientReading);
    const overdue =
      isClientRead && !this.#isOver ? this.#inspector.overdue(nowMs, this.#options.prefaceMs) : undefined;
    if (overdue !== undefined) this.#judge(overdue);
  }

  /** The connection has ended, and with it the calls that are open on it. */
  end(): void {
    clearTimeout(this.#insistTimer);
    clearTimeout(this.#lingerTimer);
    this.#isOver = true;
    this.#inspector.end(performance.now());
  }

  #upstreamBegins(): void {
    this.#hasUpstreamBegun = true;
    // After the bytes that are being forwarded now.
    if (this.#drainsLater) setImmediate(this.#guarded(() => this.drain()));
  }

  #guarded(step: () => void): () => void {
    return guarded((error) => this.#events.fault(error), step);
  }

  /** A limit is exceeded, or calls cannot be followed. Returns whether the connection is kept nevertheless. */
  #judge(failure: InspectionFailure): boolean {
    const { mode, judging, events, peer, limits, prefaceMs } = this.#options;
    const isExceeded = isLimit(failure);
    if (this.#lost === undefined || isExceeded) events.inspectorLost(failureReason(failure), peer);
    this.#lost ??= failure;
    if (!isExceeded && mode !== 'required' && !judging) return true;
    this.#drain = undefined;
    this.#editor = undefined;
    this.#isOver = true;
    const end = new ConnectionEnd(isExceeded ? 'abuse' : 'inspection_lost', 'proxy', failureReason(failure));
    const lostAdvice = judging ? UNJUDGED_ADVICE : LOST_ADVICE;
    const advice = isExceeded ? describeLimit(failure, { ...limits, prefaceMs }) : lostAdvice;
    this.#events.refuse(end, this.#inspector.refusal, advice);
    return false;
  }

  #edit(): DrainingEditor<InspectionFailure> {
    return this.#inspector.edit((receiver, bytes) => {
      const isForClient = receiver === 'client';
      const waiting = this.#events.insert(isForClient ? 'to_client' : 'to_upstream', bytes);
      if (isForClient && waiting > MAX_UNREAD_ANSWER_BYTES) this.#isFlooded = true;
    });
  }

  #passEdited(editor: DrainingEditor<InspectionFailure>, sender: Sender, bytes: Buffer): Buffer | undefined {
    const passed = editor.pass(sender, bytes, performance.now());
    const failure = editor.failure ?? (this.#isFlooded ? 'refused_flood' : undefined);
    if (failure !== undefined && failure !== this.#lost && !this.#judge(failure)) return undefined;
    this.#lookDrained();
    return passed.length > 0 ? passed : undefined;
  }

  #lookDrained(): void {
    if (!this.#drain?.finished || this.#lingerTimer) return;
    // A notified client closes the connection once it has read everything; grpc-js treats an earlier end as an error. The
    // connection of a client that was not notified is ended after the bytes that are being forwarded now.
    const linger = (): void => {
      this.#lingerTimer = undefined;
      // If the client was not notified, a new call may have begun meanwhile.
      if (this.#drain?.finished) this.#events.drained();
    };
    this.#lingerTimer = setTimeout(this.#guarded(linger), this.#drain.announced ? DRAINED_LINGER_MS : 0);
  }
}
