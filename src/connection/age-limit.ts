import type { MaxConnectionAge } from '../config/model.js';
import { AGE_JITTER, DRAIN_PING_MS } from '../limits.js';
import { ConnectionEnd } from './connection-end.js';

/** The actions that an age limit takes on its connection. */
export interface Ageing {
  drain(why: string): void;
  cut(end: ConnectionEnd): void;
}

/**
 * Returns the deadline for the acknowledgement of a drain's PING, in milliseconds. It is at most half of the grace period, so
 * that a call that begins before the deadline has at least the other half to end.
 */
export function drainPingMs(limit: MaxConnectionAge | undefined): number {
  return Math.min(DRAIN_PING_MS, (limit?.graceMs ?? Infinity) / 2);
}

/** Drains a connection at `max_connection_age`, and resets it `max_connection_age_grace` after that. */
export class AgeLimit {
  #timer: NodeJS.Timeout | undefined;

  /** `acceptedAtMs`: the `performance.now()` from which the age counts. */
  constructor(limit: MaxConnectionAge | undefined, acceptedAtMs: number, connection: Ageing) {
    if (!limit) return;
    const { ageMs, graceMs } = limit;
    const jitter = 1 + AGE_JITTER * (2 * Math.random() - 1);
    const drain = (): void => {
      connection.drain('max_connection_age');
      if (graceMs === undefined) return;
      const why = 'its calls did not end within max_connection_age_grace after max_connection_age';
      this.#timer = setTimeout(
        () => connection.cut(new ConnectionEnd('max_connection_age', 'proxy', why)),
        graceMs,
      );
    };
    this.#timer = setTimeout(drain, acceptedAtMs + ageMs * jitter - performance.now());
  }

  /** Stops the timer; call it when the connection has ended. */
  clear(): void {
    clearTimeout(this.#timer);
  }
}
