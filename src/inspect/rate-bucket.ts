/** The burst and the refill rate of a token bucket. */
export interface Rate {
  readonly burst: number;
  readonly perSecond: number;
}

/** A token bucket. It has no clock: the caller passes the time. */
export class RateBucket {
  readonly #rate: Rate;
  #tokens: number;
  /** Full at first, so that it does not matter since when. */
  #filledAtMs = 0;

  constructor(rate: Rate) {
    this.#rate = rate;
    this.#tokens = rate.burst;
  }

  /** Takes tokens; `false` if there are too few. */
  take(tokens: number, nowMs: number): boolean {
    const { burst, perSecond } = this.#rate;
    const elapsedMs = nowMs - this.#filledAtMs;
    this.#filledAtMs = nowMs;
    this.#tokens = Math.min(this.#tokens + (elapsedMs * perSecond) / 1000, burst) - tokens;
    return this.#tokens >= 0;
  }

  /** Gives tokens, for what makes taking them legitimate. */
  give(tokens: number): void {
    this.#tokens = Math.min(this.#tokens + tokens, this.#rate.burst);
  }
}
