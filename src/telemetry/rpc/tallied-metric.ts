import { Gauge } from 'prom-client';

import type { DurationCounts, Exemplar } from './duration-counts.js';

/** One line of an exposition. */
export interface Sample {
  /** Where it is not the metric's own name: `_bucket`, `_sum` and `_count` of a histogram. */
  readonly metricName?: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
  /** Shown in the OpenMetrics format alone. */
  readonly exemplar?: Exemplar;
}

/** What a metric is called, and where its numbers come from. */
export interface TallyDescription {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: () => Iterable<Sample>;
}

/**
 * A metric whose numbers are counted elsewhere and read when a scrape asks. prom-client looks up the numbers of a set of
 * labels by a text made of them each time, which for the counts of one RPC would cost more than to follow it.
 */
export class TalliedMetric extends Gauge {
  readonly type: TallyDescription['type'];
  readonly #description: TallyDescription;

  constructor(description: TallyDescription) {
    super({ name: description.name, help: description.help, registers: [] });
    this.type = description.type;
    this.#description = description;
  }

  override async get(): ReturnType<Gauge['get']> {
    return { ...(await super.get()), values: [...this.#description.samples()] };
  }
}

/** The lines of a histogram under some labels. */
export function* histogramSamples(
  name: string,
  labels: Record<string, string | number>,
  durations: DurationCounts,
): Iterable<Sample> {
  for (const { le, count, exemplar } of durations.cumulative()) {
    yield {
      metricName: `${name}_bucket`,
      labels: { ...labels, le },
      value: count,
      ...(exemplar && { exemplar }),
    };
  }
  yield { metricName: `${name}_sum`, labels, value: durations.sumSeconds };
  yield { metricName: `${name}_count`, labels, value: durations.count };
}
