import { RateBucket, type Rate } from '../inspect/rate-bucket.js';
import { MAX_LIMITED_IDENTITIES } from '../limits.js';

/** The limits of a rule on the calls of each identity. */
export interface CallLimitSettings {
  /** The name of the rule. */
  readonly name: string;
  /** Calls in flight; `undefined`: unlimited. */
  readonly maxCalls: number | undefined;
  readonly callsPerSecond: Rate | undefined;
}

/** The calls of one identity under one rule. */
interface Counted {
  inFlight: number;
  rate: Rate | undefined;
  bucket: RateBucket | undefined;
}

/** Counts the calls of each identity under each rule. It outlives a reload, so that calls in flight remain counted. */
export class CallLimits {
  /** By rule and identity, the least recently used first. */
  readonly #counted = new Map<string, Counted>();

  /**
   * Counts a call.
   *
   * @returns a function to be called when the call is over, or the name of the limit that the call exceeds.
   */
  take(settings: CallLimitSettings, identity: string, nowMs: number): (() => void) | LimitName {
    const { maxCalls, callsPerSecond } = settings;
    const counted = this.#find(`${settings.name} ${identity}`);
    if (maxCalls !== undefined && counted.inFlight >= maxCalls) return 'max_calls';
    if (callsPerSecond && !this.#takeToken(counted, callsPerSecond, nowMs)) return 'calls_per_second';
    counted.inFlight++;
    let isOver = false;
    return () => {
      if (!isOver) counted.inFlight--;
      isOver = true;
    };
  }

  #takeToken(counted: Counted, rate: Rate, nowMs: number): boolean {
    const { rate: before } = counted;
    if (!counted.bucket || before?.burst !== rate.burst || before.perSecond !== rate.perSecond) {
      counted.bucket = new RateBucket(rate);
      counted.rate = rate;
    }
    const isWithin = counted.bucket.take(1, nowMs);
    // A refused call does not use up a token for later calls.
    if (!isWithin) counted.bucket.give(1);
    return isWithin;
  }

  #find(key: string): Counted {
    const known = this.#counted.get(key);
    if (known) {
      this.#counted.delete(key);
      this.#counted.set(key, known);
      return known;
    }
    if (this.#counted.size >= MAX_LIMITED_IDENTITIES) this.#forgetOne();
    const counted: Counted = { inFlight: 0, rate: undefined, bucket: undefined };
    this.#counted.set(key, counted);
    return counted;
  }

  /** Forgets the least recently used identity that has no call in flight, or else the least recently used one. */
  #forgetOne(): void {
    let oldest: string | undefined;
    for (const [key, { inFlight }] of this.#counted) {
      oldest ??= key;
      if (inFlight > 0) continue;
      oldest = key;
      break;
    }
    if (oldest !== undefined) this.#counted.delete(oldest);
  }
}

/** The setting that a call exceeds. */
export type LimitName = 'max_calls' | 'calls_per_second';
