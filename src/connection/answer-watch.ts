import type { Sidechannel, SidechannelObserver } from '../inspect/backchannel/sidechannel.js';
import type { InspectionEvents } from '../inspect/events.js';
import type { CallContext, CallObserver, GrpcCall } from '../inspect/grpc/call.js';
import type { StallTallies } from '../inspect/send-window.js';
import type { GrpcConnection } from '../inspect/grpc/connection.js';
import { ANSWERS_LOOKED_FOR, CALL_SERVED_MS } from '../limits.js';

/**
 * Finds out when upstream has first answered a call of the client with more than an error. A server of HTTP/2 sends SETTINGS to
 * everybody, and refuses a call without a token, or of a method that it does not have, whoever makes it.
 */
export class AnswerWatch implements InspectionEvents {
  readonly #events: InspectionEvents;
  readonly #onAnswer: () => void;
  #isAnswered = false;

  constructor(events: InspectionEvents, onAnswer: () => void) {
    this.#events = events;
    this.#onAnswer = onAnswer;
  }

  /** Looks for an answer that has begun among the calls that are open; the oldest of them tell. */
  look(connections: Iterable<GrpcConnection>, nowMs: number): void {
    for (const connection of connections) {
      if (connection.context.direction !== 'to_upstream') continue;
      let looked = 0;
      for (const call of connection.calls()) {
        if (hasContent(call) || nowMs - call.start.startedAtMs > CALL_SERVED_MS) this.#answered();
        if (this.#isAnswered || ++looked === ANSWERS_LOOKED_FOR) return;
      }
    }
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
      lost: (nowMs) => observer.lost(nowMs),
      ended: (end) => {
        if (hasContent(call) || (end.answered && end.code === 'OK')) this.#answered();
        observer.ended(end);
      },
    };
  }

  /** Gitaly opens one for a call that it serves. */
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
