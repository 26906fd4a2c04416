import { ConnectionEnd } from '../connection/connection-end.js';

/** What is to be seen of a connection at a moment. */
export interface Activity {
  /** From the client and to it, since the connection began. */
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly isHttp2: boolean;
  /** Of its requests so far, those that are open. */
  readonly openRequests: number;
  readonly hadRequests: boolean;
  /** `Http2Service.standsStill` */
  readonly standsStill: boolean;
}

/** Tells what a connection on which nothing goes on is to be ended for. It is looked at now and then. */
export class Silence {
  readonly #idleMs: number;
  readonly #headerMs: number;
  #moved = -1;
  #sinceMs = 0;
  #isSilent = false;
  #stoodStill = false;
  /** What had been read when the last request ended: what comes after is the header of the next. */
  #readAtRest = 0;
  #headerSinceMs: number | undefined;

  /** After how long without a byte, and without the rest of a header that has begun, milliseconds. */
  constructor({ idleMs, prefaceMs }: { readonly idleMs: number; readonly prefaceMs: number }) {
    this.#idleMs = idleMs;
    this.#headerMs = prefaceMs;
  }

  /** Whether no byte had moved between the last two looks. */
  get isSilent(): boolean {
    return this.#isSilent;
  }

  /** No request is open any more; by now so many bytes have been read. */
  rest(bytesRead: number): void {
    this.#readAtRest = bytesRead;
  }

  /** @returns why it is to be ended, if it is */
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
    // Between a write and the next read every connection looks like this for a moment, so that bytes must not have moved either.
    const twice = standsStill && this.#stoodStill && this.#isSilent;
    this.#stoodStill = standsStill;
    return twice
      ? new ConnectionEnd('request_malformed', 'proxy', 'its frames were given up as none of HTTP/2')
      : undefined;
  }

  #unfinishedHeader(nowMs: number, seen: Activity): ConnectionEnd | undefined {
    // Of HTTP/2 a byte may be anything; a header that is not finished there holds what an idle connection holds.
    const hasBegun =
      !seen.isHttp2 && seen.hadRequests && seen.openRequests === 0 && seen.bytesRead > this.#readAtRest;
    this.#headerSinceMs = hasBegun ? (this.#headerSinceMs ?? nowMs) : undefined;
    return this.#headerSinceMs !== undefined && nowMs - this.#headerSinceMs >= this.#headerMs
      ? new ConnectionEnd(
          'preface_timeout',
          'proxy',
          'neither the rest of a request nor a whole header came within timeouts.preface',
        )
      : undefined;
  }
}
