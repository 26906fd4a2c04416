import type { Socket } from 'node:net';

import type { Accepted } from './accepted.js';
import type { Admission } from './admission.js';
import { ConnectionEnd, internalError } from './connection-end.js';
import { ConnectionRecord } from './connection-record.js';
import type { ConnectionFacts } from './connection-status.js';
import { inspectAtClose } from './relay/abort.js';
import type { ServedConnection } from './connection-status.js';
import type { OpeningSettings } from './opening-settings.js';

/** The client has left before a stage had what it waits for. Each stage knows what that means for the connection. */
export const CLIENT_LEFT = Symbol('the client has left');

/** Why a stage has stopped before it had what it waits for. */
export type Interruption = ConnectionEnd | typeof CLIENT_LEFT;

/** What the stages of one connection share. */
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

  /** What the stages have found out so far. */
  get facts(): ConnectionFacts {
    return this.record.facts;
  }

  /** Aborts when the connection ends while a stage waits. Its reason is an `Interruption`. */
  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** Ends the connection in the stage that waits. The first call counts. */
  end(end: ConnectionEnd): void {
    this.#ending.abort(end);
  }

  /**
   * The client has proved that it is no stranger: by a verified certificate, by a call that upstream has answered, or, where calls are
   * not followed, by any byte of upstream. The last is too little to remember its address.
   */
  authenticated(by: 'certificate' | 'call' | 'byte'): void {
    this.facts.isAuthenticated = true;
    if (by !== 'byte') this.settings.terminator?.clientAuthenticated(this.facts.clientEnd?.address);
    this.admission.authenticated();
  }

  /** What is left of `timeouts.handshake`, which runs from accept and covers PROXY header, ClientHello and handshake. */
  get handshakeMs(): number {
    return this.settings.configuration.timeouts.handshakeMs - (performance.now() - this.facts.acceptedAtMs);
  }
}

/** The reason of a signal of a connection that has aborted. */
export function interruptionOf(signal: AbortSignal): Interruption {
  const reason: unknown = signal.reason;
  return reason === CLIENT_LEFT || reason instanceof ConnectionEnd ? reason : internalError(reason);
}

/** Waits for `work` until the signal aborts. A rejection of `work` is passed on. */
export function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T | Interruption> {
  return new Promise((resolve, reject) => {
    const abort = (): void => resolve(interruptionOf(signal));
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    const stop = (): void => signal.removeEventListener('abort', abort);
    work.finally(stop).then(resolve, reject);
  });
}
