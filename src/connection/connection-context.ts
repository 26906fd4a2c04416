import type { Socket } from 'node:net';

import type { Accepted } from './accepted.js';
import type { Admission } from './admission.js';
import { ConnectionEnd, internalError } from './connection-end.js';
import { ConnectionRecord } from './connection-record.js';
import type { ConnectionFacts } from './connection-status.js';
import { inspectAtClose } from './relay/abort.js';
import type { ServedConnection } from './connection-status.js';
import type { OpeningSettings } from './opening-settings.js';

/** The client disconnected before a stage could finish. Each stage decides how the connection ends then. */
export const CLIENT_LEFT = Symbol('the client has disconnected');

/** The reason that a stage stopped before it could finish. */
export type Interruption = ConnectionEnd | typeof CLIENT_LEFT;

/** The state that the stages of one connection share. */
export class ConnectionContext {
  /** The accepted socket, below TLS. */
  readonly raw: Socket;
  readonly settings: OpeningSettings;
  readonly admission: Admission;
  readonly record: ConnectionRecord;
  /** The connection as its listener sees it. */
  readonly connection: ServedConnection;
  readonly #ending = new AbortController();

  constructor(
    accepted: Accepted,
    settings: OpeningSettings,
    admission: Admission,
    connection: ServedConnection,
  ) {
    this.raw = accepted.raw;
    this.settings = settings;
    this.admission = admission;
    this.connection = connection;
    this.record = new ConnectionRecord(accepted, settings);
    this.raw.on('error', inspectAtClose);
    this.raw.once('close', () => this.#ending.abort(CLIENT_LEFT));
  }

  /** The facts that the stages have found so far. */
  get facts(): ConnectionFacts {
    return this.record.facts;
  }

  /** Aborts when the connection ends while a stage waits. Its reason is an `Interruption`. */
  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** Ends the connection in its current stage. Only the first call has an effect. */
  end(end: ConnectionEnd): void {
    this.#ending.abort(end);
  }

  /**
   * Ends the connection after `ms` milliseconds, unless the returned function is called before.
   *
   * An `AbortSignal` for each deadline would cost more CPU than the rest of a stage.
   */
  endAfter(ms: number, end: () => ConnectionEnd): () => void {
    const timer = setTimeout(() => this.end(end()), Math.max(ms, 1));
    return () => clearTimeout(timer);
  }

  /**
   * The client is authenticated: by a verified certificate, by a call that upstream has answered, or, if calls are not followed, by
   * any byte from upstream. A byte is too weak a proof to remember the address of the client.
   */
  authenticated(by: 'certificate' | 'call' | 'byte'): void {
    this.facts.isAuthenticated = true;
    if (by !== 'byte') this.settings.terminator?.clientAuthenticated(this.facts.clientEnd?.address);
    this.admission.authenticated();
  }

  /** The rest of `timeouts.handshake`, which starts at accept and covers the PROXY header, the ClientHello and the handshake. */
  get handshakeMs(): number {
    return this.settings.configuration.timeouts.handshakeMs - (performance.now() - this.facts.acceptedAtMs);
  }
}

/** Returns the reason of an aborted `ConnectionContext.signal`. */
export function interruptionOf(signal: AbortSignal): Interruption {
  const reason: unknown = signal.reason;
  return reason === CLIENT_LEFT || reason instanceof ConnectionEnd ? reason : internalError(reason);
}

/** Waits for `work` until the signal aborts. Rejects if `work` rejects. */
export function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T | Interruption> {
  return new Promise((resolve, reject) => {
    const abort = (): void => resolve(interruptionOf(signal));
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    const stop = (): void => signal.removeEventListener('abort', abort);
    work.finally(stop).then(resolve, reject);
  });
}
