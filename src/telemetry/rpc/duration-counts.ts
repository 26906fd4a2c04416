/** The trace that a duration belongs to, and the time of the observation. */
export interface Exemplar {
  readonly labelSet: { readonly trace_id: string };
  /** Seconds. */
  readonly value: number;
  /** Unix seconds. */
  readonly timestamp: number;
}

/** Gitaly's buckets of `grpc_server_handling_seconds`, in seconds. */
export const DURATION_BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.5, 1, 10, 30, 60, 300, 1500] as const;

/** Durations by bucket. Counting one costs a few comparisons; the samples are created when a scrape reads them. */
export class DurationCounts {
  /** Not cumulative; the last one counts durations above every bound. */
  readonly #counts = new Array<number>(DURATION_BUCKETS.length + 1).fill(0);
  readonly #exemplars: (Exemplar | undefined)[] = [];
  sumSeconds = 0;
  count = 0;

  observe(seconds: number, traceId: string | undefined): void {
    let bucket = 0;
    while (bucket < DURATION_BUCKETS.length && seconds > (DURATION_BUCKETS[bucket] ?? Infinity)) bucket++;
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.sumSeconds += seconds;
    this.count++;
    if (traceId !== undefined)
      this.#exemplars[bucket] = {
        labelSet: { trace_id: traceId },
        value: seconds,
        timestamp: Date.now() / 1000,
      };
  }

  /** Each bucket with its upper bound and the number of durations up to it. */
  *cumulative(): Iterable<{ le: number | '+Inf'; count: number; exemplar: Exemplar | undefined }> {
    let count = 0;
    for (const [index, inBucket] of this.#counts.entries()) {
      count += inBucket;
      yield { le: DURATION_BUCKETS[index] ?? '+Inf', count, exemplar: this.#exemplars[index] };
    }
  }
}
