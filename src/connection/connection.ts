import { abort } from './relay/abort.js';
import type { Accepted } from './accepted.js';
import type { Admission } from './admission.js';
import { AgeLimit } from './age-limit.js';
import { internalError, type ConnectionEnd } from './connection-end.js';
import { nextState, OPENING, type ConnectionState, type ConnectionTransition } from './connection-state.js';
import { ConnectionContext } from './connection-context.js';
import { guarded } from '../guarded.js';
import type { RelayedConnection } from './relayed-connection.js';
import { serveConnection } from './serve-connection.js';
import type { ServedConnection, ConnectionStatus } from './connection-status.js';
import type { OpeningSettings } from './opening-settings.js';

/** One client's gRPC connection, as its listener sees it. `serveConnection` is what happens on it. */
export class Connection implements ServedConnection {
  readonly #context: ConnectionContext;
  #state: ConnectionState = OPENING;
  /** Set from when bytes pass: it outlives the state, as the end of the connection is reported before that of its calls. */
  #relayed: RelayedConnection | undefined;
  #ageLimit: AgeLimit | undefined;

  constructor(accepted: Accepted, settings: OpeningSettings, admission: Admission) {
    this.#context = new ConnectionContext(accepted, settings, admission, this);
  }

  async run(): Promise<void> {
    let end: ConnectionEnd;
    try {
      end = await serveConnection(this.#context, (transition) => this.#advance(transition));
    } catch (error) {
      end = internalError(error);
    }
    this.#close(end);
    this.#advance({ kind: 'end', end });
    this.#ageLimit?.clear();
    // The line of the connection precedes the lines of its calls, which may be more than the log buffer can hold.
    this.#context.record.closed(end);
    this.#relayed?.close();
  }

  cut(end: ConnectionEnd): void {
    this.#context.end(end);
    this.#relayed?.cut(end);
  }

  drain(why: string): void {
    this.#advance({ kind: 'drain', why });
  }

  get status(): ConnectionStatus {
    const { kind } = this.#state;
    const { to_upstream: queuedToUpstream = 0, to_client: queuedToClient = 0 } =
      this.#relayed?.queuedBytes ?? {};
    const calls = this.#relayed?.calls;
    return {
      ...this.#context.record.status,
      stage: kind === 'relaying' || kind === 'draining' ? kind : 'opening',
      queuedToUpstream,
      queuedToClient,
      inspection: calls?.state ?? 'off',
      inspector: calls?.inspector,
      requests: undefined,
    };
  }

  reportBytes(): void {
    this.#context.record.reportBytes();
  }

  sweep(nowMs: number): void {
    if (this.#state.kind !== 'relaying' && this.#state.kind !== 'draining') return;
    const { relayed } = this.#state;
    if (relayed.isReplaceable) this.drain('its next connection costs less CPU');
    relayed.sweep(nowMs);
  }

  #advance(transition: ConnectionTransition): void {
    const state = nextState(this.#state, transition);
    if (state === this.#state) return;
    this.#state = state;
    if (transition.kind === 'relay') this.#beginRelay(transition.relayed);
    if (state.kind !== 'draining') return;
    const { relayed, why } = state;
    // A timer may have called, and an exception would not be caught elsewhere.
    guarded(
      (error) => this.cut(internalError(error)),
      () => relayed.drain(why),
    )();
  }

  #beginRelay(relayed: RelayedConnection): void {
    this.#relayed = relayed;
    const { settings, facts } = this.#context;
    this.#ageLimit = new AgeLimit(settings.configuration.maxConnectionAge, facts.acceptedAtMs, this);
  }

  /** Closes the client's socket, unless the relay has, and the relay if a fault has ended the connection. */
  #close(end: ConnectionEnd): void {
    const { raw } = this.#context;
    // A stage has sent an alert, after which the socket closes by itself.
    if (end.reason === 'handshake_failed' && raw.writableEnded) return;
    // What was written last must arrive, so these connections are closed; all others are reset.
    const hasAnswered = this.#state.kind === 'answering';
    if (end.reason === 'handshake_failed' || hasAnswered) raw.destroy();
    else if (this.#relayed) this.#relayed.cut(end);
    else abort(raw);
  }
}
