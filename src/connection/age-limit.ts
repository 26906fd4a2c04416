import type { MaxConnectionAge } from '../config/model.js';
import { AGE_JITTER, DRAIN_PING_MS } from '../limits.js';
import { ConnectionEnd } from './connection-end.js';

/** What the age of a connection brings about. */
export interface Ageing {
  drain(why: string): void;
  cut(end: ConnectionEnd): void;
}

/** The deadline for the answer to the PING of a drain: a call that begins before it has at least half of the grace to end. */
export function drainPingMs(limit: MaxConnectionAge | undefined): number {
  return Math.min(DRAIN_PING_MS, (limit?.graceMs ?? Infinity) / 2);
}

/** Drains a connection at `max_connection_age`, and cuts it `max_connection_age_grace` after that. */
export class AgeLimit {
  #timer: NodeJS.Timeout | undefined;

  /** `acceptedAtMs`: since when it ages, by `performance.now()`. */
  constructor(limit: MaxConnectionAge | undefined, acceptedAtMs: number, connection: Ageing) {
    if (!limit) return;
    const { ageMs, graceMs } = limit;
    const jitter = 1 + AGE_JITTER * (2 * Math.random() - 1);
    const drain = (): void => {
      connection.drain('max_connection_age');
      if (graceMs === undefined) return;
      const why = 'its calls had not ended max_connection_age_grace after max_connection_age';
      this.#timer = setTimeout(
        () => connection.cut(new ConnectionEnd('max_connection_age', 'proxy', why)),
        graceMs,
      );
    };
    this.#timer = setTimeout(drain, acceptedAtMs + ageMs * jitter - performance.now());
  }

  /** The connection has ended. */
  clear(): void {
    clearTimeout(this.#timer);
  }
}
