import type { Registry } from 'prom-client';

import type { Exemplar } from './rpc/duration-counts.js';

/** One number of a metric. */
export interface ReportedSample {
  /** Where it is not the metric's own name: `_bucket`, `_sum` and `_count` of a histogram. */
  readonly metricName?: string;
  readonly labels: Partial<Record<string, string | number>>;
  readonly value: number;
  readonly exemplar?: Exemplar;
}

/** The samples of metrics, by name. */
export type ReportedSamples = readonly (readonly [metric: string, samples: readonly ReportedSample[]])[];

/** The samples that one process tells another of: plain values. */
export interface SampleReport {
  /** Of counters and histograms: how much they grew since the report before. */
  readonly growth: ReportedSamples;
  /** Of gauges: what they are. */
  readonly levels: ReportedSamples;
}

/** A metric as prom-client reads it out. */
export interface ReadMetric {
  readonly name: string;
  /** prom-client's types have numbers here, and it has words. */
  readonly type: unknown;
  readonly aggregator: string;
  readonly values: ReportedSample[];
}

function isGauge({ type }: ReadMetric): boolean {
  return type === 'gauge';
}

/** Gauges of which each process has a part; the others are those of the process that is scraped. */
function isShared({ aggregator }: ReadMetric): boolean {
  return aggregator !== 'first' && aggregator !== 'omit';
}

/** Tells what has changed in the metrics of this process, each change once. */
export class ReportSource {
  readonly #registry: Registry;
  /** What was told of each counter. */
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

  /** A sample is told of once although it is 0: a histogram has all its buckets. */
  #grown(metric: string, sample: ReportedSample): ReportedSample[] {
    const key = `${metric} ${sampleKey(sample)}`;
    const before = this.#told.get(key);
    if (before === sample.value) return [];
    this.#told.set(key, sample.value);
    return [{ ...reported(sample), value: sample.value - (before ?? 0) }];
  }
}

/** What other processes have told of their metrics. */
export class MergedReports {
  /** By metric; what processes counted that are gone stays. */
  readonly #grown = new Map<string, Map<string, ReportedSample>>();
  /** By process. */
  readonly #levels = new Map<number, ReportedSamples>();

  /** Takes a report in, once. */
  add(process: number, { growth, levels }: SampleReport): void {
    this.#levels.set(process, levels);
    for (const [metric, samples] of growth) {
      const known = this.#grown.get(metric) ?? new Map<string, ReportedSample>();
      this.#grown.set(metric, known);
      for (const sample of samples) combine(known, sample, sum);
    }
  }

  /** A process is gone: what it held, it holds no more. */
  forget(process: number): void {
    this.#levels.delete(process);
  }

  /** The samples of a metric of this process together with those of the others. */
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

/** By prom-client's word for it. Of lags the worst is shown: an idle process must not hide a busy one. */
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
