import type { Registry } from 'prom-client';

import type { Exemplar } from './rpc/duration-counts.js';

/** One number of a metric. */
export interface ReportedSample {
  /** The sample's name if it differs from the metric's: `_bucket`, `_sum` and `_count` of a histogram. */
  readonly metricName?: string;
  readonly labels: Partial<Record<string, string | number>>;
  readonly value: number;
  readonly exemplar?: Exemplar;
}

/** The samples of metrics, by name. */
export type ReportedSamples = readonly (readonly [metric: string, samples: readonly ReportedSample[]])[];

/** The samples that one process reports to another, as plain values. */
export interface SampleReport {
  /** Counters and histograms: their growth since the previous report. */
  readonly growth: ReportedSamples;
  /** Gauges: their current values. */
  readonly levels: ReportedSamples;
}

/** A metric as prom-client's `getMetricsAsJSON` returns it. */
export interface ReadMetric {
  readonly name: string;
  /** A string at runtime; prom-client's types declare a number. */
  readonly type: unknown;
  readonly aggregator: string;
  readonly values: ReportedSample[];
}

function isGauge({ type }: ReadMetric): boolean {
  return type === 'gauge';
}

/** Whether a gauge is combined over all processes. Other gauges describe only the scraped process. */
function isShared({ aggregator }: ReadMetric): boolean {
  return aggregator !== 'first' && aggregator !== 'omit';
}

/** Reports the changes in the metrics of this process, each change once. */
export class ReportSource {
  readonly #registry: Registry;
  /** The last reported value of each counter. */
  readonly #told = new Map<string, number>();

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  async take(): Promise<SampleReport> {
    const growth: [string, ReportedSample[]][] = [];
    const levels: [string, ReportedSample[]][] = [];
    for (const metric of await this.#registry.getMetricsAsJSON()) {
      if (isGauge(metric)) {
        if (isShared(metric)) levels.push([metric.name, metric.values.map(reported)]);
        continue;
      }
      const grown = metric.values.flatMap((sample) => this.#grown(metric.name, sample));
      if (grown.length > 0) growth.push([metric.name, grown]);
    }
    return { growth, levels };
  }

  /** A new sample is reported even if it is 0, so that a histogram has all its buckets. */
  #grown(metric: string, sample: ReportedSample): ReportedSample[] {
    const key = `${metric} ${sampleKey(sample)}`;
    const before = this.#told.get(key);
    if (before === sample.value) return [];
    this.#told.set(key, sample.value);
    return [{ ...reported(sample), value: sample.value - (before ?? 0) }];
  }
}

/** The metrics that other processes have reported. */
export class MergedReports {
  /** By metric; the counts of processes that have exited are kept. */
  readonly #grown = new Map<string, Map<string, ReportedSample>>();
  /** By process. */
  readonly #levels = new Map<number, ReportedSamples>();

  /** Adds a report. Each report must be added once. */
  add(process: number, { growth, levels }: SampleReport): void {
    this.#levels.set(process, levels);
    for (const [metric, samples] of growth) {
      const known = this.#grown.get(metric) ?? new Map<string, ReportedSample>();
      this.#grown.set(metric, known);
      for (const sample of samples) combine(known, sample, sum);
    }
  }

  /** Removes the gauges of a process that has exited. */
  forget(process: number): void {
    this.#levels.delete(process);
  }

  /** The samples of a metric, combined from this process and the others. */
  merge(metric: ReadMetric): ReportedSample[] {
    const others = isGauge(metric)
      ? this.#levelsOf(metric)
      : [...(this.#grown.get(metric.name)?.values() ?? [])];
    if (others.length === 0) return metric.values;
    const combined = new Map<string, ReportedSample>();
    const how = isGauge(metric) ? (COMBINE[metric.aggregator] ?? sum) : sum;
    for (const sample of metric.values) combine(combined, reported(sample), how);
    for (const sample of others) combine(combined, sample, how);
    return [...combined.values()];
  }

  #levelsOf(metric: ReadMetric): ReportedSample[] {
    if (!isShared(metric)) return [];
    return [...this.#levels.values()].flatMap(
      (levels) => levels.find(([name]) => name === metric.name)?.[1] ?? [],
    );
  }
}

const sum = (one: number, other: number): number => one + other;

/** By prom-client's name of the aggregator. `average`, used for event loop lag, shows the maximum: an idle process must not hide a busy one. */
const COMBINE: Readonly<Record<string, (one: number, other: number) => number>> = {
  sum,
  min: (one, other) => Math.min(one, other),
  max: (one, other) => Math.max(one, other),
  average: (one, other) => Math.max(one, other),
};

function combine(
  known: Map<string, ReportedSample>,
  sample: ReportedSample,
  how: (one: number, other: number) => number,
): void {
  const key = sampleKey(sample);
  const before = known.get(key);
  known.set(key, before ? { ...before, ...sample, value: how(before.value, sample.value) } : sample);
}

function sampleKey({ metricName = '', labels }: Pick<ReportedSample, 'metricName' | 'labels'>): string {
  return JSON.stringify([metricName, labels]);
}

function reported({ metricName, labels, value, exemplar }: ReportedSample): ReportedSample {
  return { ...(metricName !== undefined && { metricName }), labels, value, ...(exemplar && { exemplar }) };
}
