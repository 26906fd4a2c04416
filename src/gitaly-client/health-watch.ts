import { MAX_HEALTH_CHECKS_AT_ONCE } from '../limits.js';
import type { Logger } from '../telemetry/logger.js';

import type { UpstreamOfListener } from '../telemetry/upstream-states.js';
import { checkUpstream, type CheckedUpstream, type UpstreamHealth } from './upstream-check.js';

type HealthLogger = Pick<Logger, 'log'>;

/** The upstreams to check, and the check interval. */
export interface HealthPlan {
  readonly intervalMs: number;
  readonly upstreams: readonly CheckedUpstream[];
}

/**
 * Checks each upstream periodically and independently. The checks of one upstream never overlap. Checks run in the primary
 * process even if workers serve the traffic, so each check is made only once. A check is not counted as a client connection and
 * does not keep the process alive.
 */
export class HealthWatch {
  readonly #logger: HealthLogger;
  readonly #turns = new Turns(MAX_HEALTH_CHECKS_AT_ONCE);
  /** By listener and upstream. */
  #watched = new Map<string, WatchedUpstream>();
  #isChecking = false;

  constructor(logger: HealthLogger) {
    this.#logger = logger;
  }

  /** Replaces the set of checked upstreams. Upstreams that are in both sets keep their known state. */
  configure(plan: HealthPlan | undefined): void {
    this.#isChecking = plan !== undefined;
    const former = this.#watched;
    this.#watched = new Map();
    for (const upstream of plan?.upstreams ?? []) {
      const key = JSON.stringify([upstream.listener, upstream.dialer.address.url]);
      const known = former.get(key)?.health;
      this.#watched.set(
        key,
        new WatchedUpstream(upstream, plan?.intervalMs ?? 0, known, this.#turns, this.#logger),
      );
    }
    for (const watched of former.values()) watched.stop();
    for (const watched of this.#watched.values()) watched.start();
  }

  /** Stops checking. Known states are kept. */
  stop(): void {
    for (const watched of this.#watched.values()) watched.stop();
  }

  /** Returns the known state of each listener's upstreams, or `undefined` if health checks are disabled. */
  states(): (UpstreamOfListener & { readonly up: boolean })[] | undefined {
    if (!this.#isChecking) return undefined;
    return [...this.#watched.values()].flatMap(({ upstream: { listener, dialer }, health }) =>
      health ? [{ listener, upstream: dialer.address.url, up: health.up }] : [],
    );
  }

  /** Returns the reason for each upstream why it is unavailable; empty if at least one is up. */
  notReadyReasons(): string[] {
    const all = [...this.#watched.values()];
    if (all.some(({ health }) => health?.up === true)) return [];
    return all.map(({ upstream: { listener, dialer }, health }) => {
      const why = health && !health.up ? `is down: ${health.words}` : 'has not been checked yet';
      return `the upstream ${dialer.address.url} of ${listener} ${why}`;
    });
  }
}

class WatchedUpstream {
  readonly upstream: CheckedUpstream;
  health: UpstreamHealth | undefined;
  readonly #intervalMs: number;
  readonly #turns: Turns;
  readonly #logger: HealthLogger;
  readonly #stopped = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  constructor(
    upstream: CheckedUpstream,
    intervalMs: number,
    known: UpstreamHealth | undefined,
    turns: Turns,
    logger: HealthLogger,
  ) {
    this.upstream = upstream;
    this.health = known;
    this.#intervalMs = intervalMs;
    this.#turns = turns;
    this.#logger = logger;
  }

  start(): void {
    if (this.#stopped.signal.aborted) return;
    const startedAtMs = performance.now();
    void this.#check()
      // An internal error must not stop the checks.
      .catch((error: unknown) => {
        const { listener, dialer } = this.upstream;
        const fields = { listener, upstream: dialer.address.url, error: String(error) };
        this.#logger.log('health_check_error', fields);
      })
      .finally(() => {
        if (this.#stopped.signal.aborted) return;
        const leftMs = this.#intervalMs - (performance.now() - startedAtMs);
        this.#timer = setTimeout(() => this.start(), Math.max(leftMs, 0));
        this.#timer.unref();
      });
  }

  stop(): void {
    this.#stopped.abort();
    clearTimeout(this.#timer);
  }

  async #check(): Promise<void> {
    const { signal } = this.#stopped;
    let health: UpstreamHealth;
    try {
      health = await this.#turns.take(() => checkUpstream(this.upstream, signal));
    } catch (error) {
      health = { up: false, reason: 'other', words: error instanceof Error ? error.message : String(error) };
    }
    if (signal.aborted) return;
    const former = this.health;
    this.health = health;
    this.#tell(health, former);
  }

  /** Logs each change once. */
  #tell(health: UpstreamHealth, former: UpstreamHealth | undefined): void {
    const { listener, dialer } = this.upstream;
    const fields = { listener, upstream: dialer.address.url };
    if (!health.up) {
      if (former?.up !== false)
        this.#logger.log('upstream_down', { ...fields, reason: health.reason, error: health.words });
      return;
    }
    if (former?.up === false) this.#logger.log('upstream_up', fields);
    if (health.warning !== undefined && !(former?.up === true && former.warning !== undefined))
      this.#logger.log('upstream_warning', { ...fields, error: health.warning });
  }
}

/** Runs a limited number of tasks concurrently, in FIFO order. */
class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
