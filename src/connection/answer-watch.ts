import type { Sidechannel, SidechannelObserver } from '../inspect/backchannel/sidechannel.js';
import type { InspectionEvents } from '../inspect/inspection-events.js';
import type { CallContext, CallObserver, GrpcCall } from '../inspect/grpc/call.js';
import type { StallTallies } from '../inspect/send-window.js';
import type { FollowedConnection } from '../inspect/grpc/followed-connection.js';
import { ANSWERS_LOOKED_FOR, CALL_SERVED_MS } from '../limits.js';

/**
 * Detects when upstream first answers a call of the client with more than an error. An HTTP/2 server sends SETTINGS to every
 * client, and rejects any client's call if it has no token or an unknown method.
 */
export class AnswerWatch implements InspectionEvents {
  readonly #events: InspectionEvents;
  readonly #onAnswer: () => void;
  /** When the first message of a call was first found complete, in milliseconds. */
  readonly #completeSinceMs = new WeakMap<GrpcCall, number>();
  /** Since when `look` has found no bytes waiting for the client. */
  #isReadSinceMs = 0;
  #isAnswered = false;

  constructor(events: InspectionEvents, onAnswer: () => void) {
    this.#events = events;
    this.#onAnswer = onAnswer;
  }

  /**
   * Looks among the open calls for one that is being answered. Looking at the oldest calls is sufficient.
   *
   * A call counts as served once `CALL_SERVED_MS` have passed without a refusal. The time starts when the first message is complete,
   * because upstream may read it before it refuses the call. It starts again while bytes wait for a client that does not read,
   * because a refusal cannot be seen then.
   */
  look(connections: Iterable<FollowedConnection>, nowMs: number, isClientReading: boolean): void {
    if (!isClientReading) this.#isReadSinceMs = nowMs;
    for (const connection of connections) {
      if (connection.context.direction !== 'to_upstream') continue;
      let looked = 0;
      for (const call of connection.calls()) {
        if (hasContent(call) || this.#servedMs(call, nowMs) > CALL_SERVED_MS) this.#answered();
        if (this.#isAnswered || ++looked === ANSWERS_LOOKED_FOR) return;
      }
    }
  }

  #servedMs(call: GrpcCall, nowMs: number): number {
    const { messages, atBoundary } = call.messages.client;
    if (messages === 0 || (messages === 1 && !atBoundary)) return 0;
    const completeMs = this.#completeSinceMs.get(call) ?? nowMs;
    this.#completeSinceMs.set(call, completeMs);
    return nowMs - Math.max(completeMs, this.#isReadSinceMs);
  }

  stallsOf(context: CallContext): StallTallies | undefined {
    return this.#events.stallsOf?.(context);
  }

  released(call: GrpcCall): void {
    this.#events.released?.(call);
  }

  get sidechannelStalls(): StallTallies | undefined {
    return this.#events.sidechannelStalls;
  }

  started(call: GrpcCall): CallObserver {
    const observer = this.#events.started(call);
    if (this.#isAnswered || call.context.direction !== 'to_upstream') return observer;
    return {
      moved: (sender, messages, bytes) => observer.moved(sender, messages, bytes),
      ...(observer.request && {
        request: (bytes, start, end) => observer.request?.(bytes, start, end),
      }),
      lost: (nowMs) => observer.lost(nowMs),
      ended: (end) => {
        if (hasContent(call) || (end.answered && end.code === 'OK')) this.#answered();
        observer.ended(end);
      },
    };
  }

  /** Gitaly opens a sidechannel only for a call that it serves. */
  sidechannelOpened(sidechannel: Sidechannel): SidechannelObserver {
    this.#answered();
    return this.#events.sidechannelOpened(sidechannel);
  }

  #answered(): void {
    if (this.#isAnswered) return;
    this.#isAnswered = true;
    this.#onAnswer();
  }
}

function hasContent({ messages }: GrpcCall): boolean {
  return messages.server.payloadBytes > 0 || messages.server.messages > 0;
}
