import { ConnectionEnd } from '../connection/connection-end.js';

/** The activity of a connection at a point in time. */
export interface Activity {
  /** Bytes from and to the client, since the connection began. */
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly isHttp2: boolean;
  /** The number of open requests. */
  readonly openRequests: number;
  readonly hadRequests: boolean;
  /** `Http2Service.standsStill` */
  readonly standsStill: boolean;
}

/** Determines whether a silent connection must be ended, and why. It is polled. */
export class Silence {
  readonly #idleMs: number;
  readonly #headerMs: number;
  #moved = -1;
  #sinceMs = 0;
  #isSilent = false;
  #stoodStill = false;
  /** The number of bytes read when the last request ended. The bytes after it are the header of the next one. */
  #readAtRest = 0;
  #headerSinceMs: number | undefined;

  /** `idleMs`: the time without a byte; `prefaceMs`: the time for a header that has begun, milliseconds. */
  constructor({ idleMs, prefaceMs }: { readonly idleMs: number; readonly prefaceMs: number }) {
    this.#idleMs = idleMs;
    this.#headerMs = prefaceMs;
  }

  /** Whether no byte had moved between the last two calls of `look`. */
  get isSilent(): boolean {
    return this.#isSilent;
  }

  /** No request is open any more. `bytesRead`: the number of bytes read so far. */
  rest(bytesRead: number): void {
    this.#readAtRest = bytesRead;
  }

  /** @returns the end of the connection, if it must be ended */
  look(nowMs: number, seen: Activity): ConnectionEnd | undefined {
    return this.#idle(nowMs, seen) ?? this.#standingStill(seen) ?? this.#unfinishedHeader(nowMs, seen);
  }

  #idle(nowMs: number, { bytesRead, bytesWritten }: Activity): ConnectionEnd | undefined {
    const moved = bytesRead + bytesWritten;
    this.#isSilent = moved === this.#moved;
    this.#moved = moved;
    if (!this.#isSilent) this.#sinceMs = nowMs;
    return nowMs - this.#sinceMs >= this.#idleMs
      ? new ConnectionEnd('idle_timeout', 'proxy', 'no byte moved for timeouts.idle')
      : undefined;
  }

  #standingStill({ standsStill }: Activity): ConnectionEnd | undefined {
    // Every connection looks like this for a moment between a write and the next read, so no bytes may have moved either.
    const twice = standsStill && this.#stoodStill && this.#isSilent;
    this.#stoodStill = standsStill;
    return twice
      ? new ConnectionEnd('request_malformed', 'proxy', 'its frames were rejected as invalid HTTP/2')
      : undefined;
  }

  #unfinishedHeader(nowMs: number, seen: Activity): ConnectionEnd | undefined {
    // In HTTP/2 a byte need not be part of a header. An incomplete header there costs no more than an idle connection.
    const hasBegun =
      !seen.isHttp2 && seen.hadRequests && seen.openRequests === 0 && seen.bytesRead > this.#readAtRest;
    this.#headerSinceMs = hasBegun ? (this.#headerSinceMs ?? nowMs) : undefined;
    return this.#headerSinceMs !== undefined && nowMs - this.#headerSinceMs >= this.#headerMs
      ? new ConnectionEnd(
          'preface_timeout',
          'proxy',
          'neither the rest of a request nor a complete header arrived within timeouts.preface',
        )
      : undefined;
  }
}
