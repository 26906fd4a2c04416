/** An upstream of a listener, both by their URLs. */
export interface UpstreamOfListener {
  readonly listener: string;
  readonly upstream: string;
}

/** What the last attempt to reach an upstream came to. */
export interface UpstreamState {
  readonly up: boolean;
  /** Unix milliseconds. */
  readonly atMs: number;
}

/** The states that one process tells another of: plain values. */
export type UpstreamReport = readonly (readonly [key: string, state: UpstreamState])[];

/** What the last attempts to reach upstreams came to, of any process. */
export class UpstreamStates {
  readonly #states = new Map<string, UpstreamState>();

  /** Takes in an attempt; an older one than is known changes nothing. */
  seen(upstream: UpstreamOfListener, state: UpstreamState): void {
    this.#note(keyOf(upstream), state);
  }

  /** `undefined`: none was made. */
  of(upstream: UpstreamOfListener): UpstreamState | undefined {
    return this.#states.get(keyOf(upstream));
  }

  report(): UpstreamReport {
    return [...this.#states];
  }

  /** Takes in what another process has told. */
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
