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

/** The gRPC connection of a client, as its listener sees it. `serveConnection` is its data path. */
export class Connection implements ServedConnection {
  readonly #context: ConnectionContext;
  #state: ConnectionState = OPENING;
  /** Set when the relay begins. It outlives the state, because the end of the connection is reported before that of its calls. */
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
    // The log line of the connection precedes those of its calls, because these may exceed the capacity of the log buffer.
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
    // The caller may be a timer, which does not catch exceptions.
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

  /** Closes the client's socket unless the relay has closed it, and the relay if a fault has ended the connection. */
  #close(end: ConnectionEnd): void {
    const { raw } = this.#context;
    // A stage has sent an alert, after which the socket closes by itself.
    if (end.reason === 'handshake_failed' && raw.writableEnded) return;
    // After an answer or an alert the connection is closed, because the last bytes must arrive. All others are reset.
    const hasAnswered = this.#state.kind === 'answering';
    if (end.reason === 'handshake_failed' || hasAnswered) raw.destroy();
    else if (this.#relayed) this.#relayed.cut(end);
    else abort(raw);
  }
}
