import { Gauge } from 'prom-client';

import type { DurationCounts, Exemplar } from './duration-counts.js';

/** One line of an exposition. */
export interface Sample {
  /** The sample's name if it differs from the metric's: `_bucket`, `_sum` and `_count` of a histogram. */
  readonly metricName?: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
  /** Shown only in the OpenMetrics format. */
  readonly exemplar?: Exemplar;
}

/** The name of a metric and the source of its samples. */
export interface TallyDescription {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: () => Iterable<Sample>;
}

/**
 * A metric whose numbers are counted elsewhere and read by a scrape. prom-client builds a string from a set of labels for
 * each lookup; for the counts of an RPC, this would cost more than following the RPC.
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

/** The samples of a histogram with the given labels. */
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
