/** An upstream of a listener, both by their URLs. */
export interface UpstreamOfListener {
  readonly listener: string;
  readonly upstream: string;
}

/** The result of the last attempt to reach an upstream. */
export interface UpstreamState {
  readonly up: boolean;
  /** Unix milliseconds. */
  readonly atMs: number;
}

/** The states that one process reports to another, as plain values. */
export type UpstreamReport = readonly (readonly [key: string, state: UpstreamState])[];

/** The results of the last attempts to reach upstreams, by any process. */
export class UpstreamStates {
  readonly #states = new Map<string, UpstreamState>();

  /** Records an attempt, unless a newer one is known. */
  seen(upstream: UpstreamOfListener, state: UpstreamState): void {
    this.#note(keyOf(upstream), state);
  }

  /** `undefined` before the first attempt. */
  of(upstream: UpstreamOfListener): UpstreamState | undefined {
    return this.#states.get(keyOf(upstream));
  }

  report(): UpstreamReport {
    return [...this.#states];
  }

  /** Adds the report of another process. */
  add(report: UpstreamReport): void {
    for (const [key, state] of report) this.#note(key, state);
  }

  #note(key: string, state: UpstreamState): void {
    if (state.atMs >= (this.#states.get(key)?.atMs ?? 0)) this.#states.set(key, state);
  }
}

function keyOf({ listener, upstream }: UpstreamOfListener): string {
  return `${listener} ${upstream}`;
}
