import { setImmediate } from 'node:timers/promises';

import {
  collectDefaultMetrics,
  Counter,
  Gauge,
  Histogram,
  Registry,
  type Metric,
  type RegistryContentType,
} from 'prom-client';

import { ObservedTraffic } from '../policy/observed-traffic.js';
import type { DatedRole } from '../x509/dated.js';
import { MergedReports, ReportSource, type SampleReport } from './metrics-report.js';
import { DURATION_BUCKETS } from './rpc/duration-counts.js';
import { RpcCounts } from './rpc/rpc-counts.js';
import { rpcMetrics } from './rpc/rpc-metrics.js';
import { UpstreamStates, type UpstreamOfListener, type UpstreamReport } from './upstream-states.js';

/** The state of the proxy at the moment of a scrape. */
export interface Snapshot {
  readonly listeners: readonly {
    readonly listener: string;
    readonly type: string;
    readonly connections: number;
  }[];
  /** All configured upstreams. */
  readonly upstreams: readonly UpstreamOfListener[];
  /** The earliest expiry per listener and role. */
  readonly certificates: readonly {
    readonly listener: string;
    /** Label `role` of `tls_certificate_not_after_timestamp_seconds`. */
    readonly role: Exclude<DatedRole, 'client_crl'>;
    readonly notAfter: Date;
  }[];
  readonly revocationLists: readonly { readonly listener: string; readonly nextUpdate: Date }[];
  /** The number of certificates and CRLs of each listener and role that are expired or not yet valid. */
  readonly outOfDate?: readonly {
    readonly listener: string;
    readonly role: DatedRole;
    readonly count: number;
  }[];
  /** The result of the last health check of each upstream, if health checks are enabled. */
  readonly health?: readonly (UpstreamOfListener & { readonly up: boolean })[] | undefined;
  readonly droppedLogLines: number;
  /** Processes that serve connections. */
  readonly workers: number;
}

/** Provides the state for a scrape. */
export interface SnapshotSource {
  /** Brings all counters up to date. */
  report(): Promise<void>;
  snapshot(): Snapshot;
}

/** The metrics that one process reports to another, as plain values. */
export interface MetricsReport extends SampleReport {
  readonly upstreams: UpstreamReport;
}

/** The formats that a scraper can request. */
export type ExpositionFormat = 'prometheus' | 'openmetrics';

/** The response to a scrape. */
export interface Exposition {
  readonly contentType: string;
  readonly body: string;
}

const PREFIX = 'gitaly_tls_proxy_';
const EMPTY: SnapshotSource = {
  report: () => Promise.resolve(),
  snapshot: () => ({
    listeners: [],
    upstreams: [],
    certificates: [],
    revocationLists: [],
    droppedLogLines: 0,
    workers: 0,
  }),
};

/** All metrics of the program. Every label takes its values from a closed set or from the configuration. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #reports = new MergedReports();
  readonly #ownReport = new ReportSource(this.#registry);
  readonly #views: Readonly<Record<ExpositionFormat, Registry<RegistryContentType>>>;
  readonly #underWay = new Map<ExpositionFormat, Promise<Exposition>>();
  #source: SnapshotSource = EMPTY;

  readonly upstreams = new UpstreamStates();
  /** Counts of the inspected calls and sidechannels. */
  readonly rpcs = new RpcCounts();
  /** The traffic that `/-/policy` shows. */
  readonly observed = new ObservedTraffic();

  readonly gitalyConnections = this.#counter({
    name: 'gitaly_connections_total',
    help: 'Connections accepted, by type of listener: tls, tcp or unix. HTTP is not counted. Name and label are the same as in Gitaly.',
    labelNames: ['type'],
  });
  readonly connections = this.#counter({
    name: `${PREFIX}connections_total`,
    help: 'Connections by detected protocol: http2, backchannel, http1, or unknown.',
    labelNames: ['listener', 'type', 'protocol'],
  });
  readonly connectionsClosed = this.#counter({
    name: `${PREFIX}connections_closed_total`,
    help: 'Connections closed, by reason and initiator: client, upstream or proxy.',
    labelNames: ['listener', 'reason', 'initiator'],
  });
  readonly connectionsDropped = this.#counter({
    name: `${PREFIX}connections_dropped_total`,
    help: 'Connections refused on accept, by reason: max_connections, max_unauthenticated_connections, max_connections_per_source, descriptors, memory, or no_worker.',
    labelNames: ['listener', 'reason'],
  });
  readonly connectionBytes = this.#counter({
    name: `${PREFIX}connection_bytes_total`,
    help: 'Plaintext bytes relayed, by direction: to_upstream or to_client.',
    labelNames: ['listener', 'direction'],
  });
  readonly connectionDuration = this.#histogram({
    name: `${PREFIX}connection_duration_seconds`,
    help: 'Duration of connections.',
    labelNames: ['listener'],
    buckets: [0.01, 0.1, 1, 10, 60, 300, 1800, 7200, 21_600, 86_400],
  });
  readonly handshakes = this.#counter({
    name: `${PREFIX}tls_handshakes_total`,
    help: 'TLS handshakes with clients that succeeded, by version and by whether the session was resumed.',
    labelNames: ['listener', 'version', 'resumed'],
  });
  readonly handshakeFailures = this.#counter({
    name: `${PREFIX}tls_handshake_failures_total`,
    help: 'TLS handshakes with clients that failed, by reason.',
    labelNames: ['listener', 'reason'],
  });
  readonly handshakeSeconds = this.#histogram({
    name: `${PREFIX}tls_handshake_seconds`,
    help: 'Duration of TLS handshakes, including the time spent waiting for the client.',
    labelNames: ['listener'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  });
  readonly clientCertificates = this.#counter({
    name: `${PREFIX}tls_client_certificates_total`,
    help: 'Clients by the result of verifying their certificate: verified, absent, or the reason for refusing it.',
    labelNames: ['listener', 'result'],
  });
  readonly reloads = this.#counter({
    name: `${PREFIX}tls_reloads_total`,
    help: 'Reloads of certificates, keys, CAs, CRLs and configuration, by result: success or failure.',
    labelNames: ['result'],
  });
  readonly lastReloadSuccessful = this.#gauge({
    name: `${PREFIX}tls_last_reload_successful`,
    help: '1 if the last reload succeeded; 0 if it failed and the previous configuration is still served.',
  });
  readonly lastReload = this.#gauge({
    name: `${PREFIX}tls_last_reload_success_timestamp_seconds`,
    help: 'Time of the last successful reload, in Unix seconds.',
  });
  readonly upstreamConnectSeconds = this.#histogram({
    name: `${PREFIX}upstream_connect_seconds`,
    help: 'Time to connect to the upstream, including TLS.',
    labelNames: ['listener', 'upstream'],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
  });
  readonly upstreamConnectFailures = this.#counter({
    name: `${PREFIX}upstream_connect_failures_total`,
    help: 'Failed attempts to connect to an upstream, by reason.',
    labelNames: ['listener', 'upstream', 'reason'],
  });
  readonly internalErrors = this.#counter({
    name: `${PREFIX}internal_errors_total`,
    help: 'Internal errors of the proxy, by scope: in one connection, which was closed, or outside of any. Each is logged; please report it.',
    labelNames: ['scope'],
  });

  readonly httpRequests = this.#counter({
    name: `${PREFIX}http_requests_total`,
    help: 'HTTP requests that ended, by class of the status sent to the client (none: no response began) and by method.',
    labelNames: ['listener', 'code_class', 'method'],
  });
  readonly httpRequestSeconds = this.#histogram({
    name: `${PREFIX}http_request_duration_seconds`,
    help: 'Time from the header of an HTTP request to the end of its response.',
    labelNames: ['listener'],
    buckets: [...DURATION_BUCKETS],
  });
  readonly httpRequestsInFlight = this.#gauge({
    name: `${PREFIX}http_requests_in_flight`,
    help: 'HTTP requests currently in flight.',
    labelNames: ['listener'],
    aggregator: 'sum',
  });
  readonly httpRequestsRefused = this.#counter({
    name: `${PREFIX}http_requests_refused_total`,
    help: 'HTTP requests that the proxy did not forward, by reason.',
    labelNames: ['listener', 'reason'],
  });
  readonly httpUpstreamFailures = this.#counter({
    name: `${PREFIX}http_upstream_failures_total`,
    help: 'HTTP requests that the upstream did not answer completely, by reason.',
    labelNames: ['listener', 'reason'],
  });

  readonly auditLines = this.#counter({
    name: `${PREFIX}audit_lines_total`,
    help: 'Lines written to audit_log_path.',
  });
  readonly auditLinesDropped = this.#counter({
    name: `${PREFIX}audit_lines_dropped_total`,
    help: 'Audit lines dropped because the file could not be written and too many were waiting.',
  });
  readonly auditWriteErrors = this.#counter({
    name: `${PREFIX}audit_write_errors_total`,
    help: 'Failed attempts to write or open the audit log.',
  });

  readonly workerExits = this.#counter({
    name: `${PREFIX}worker_exits_total`,
    help: 'Workers that exited unexpectedly. Their connections were lost.',
  });

  constructor(version: string) {
    this.#gauge({
      name: `${PREFIX}workers`,
      help: 'Processes that serve connections.',
      collect: (gauge) => gauge.set(this.#source.snapshot().workers),
    });
    this.#gauge({
      name: `${PREFIX}connections_active`,
      help: 'Connections currently open.',
      labelNames: ['listener', 'type'],
      collect: (gauge) => {
        gauge.reset();
        for (const { listener, type, connections } of this.#source.snapshot().listeners) {
          gauge.inc({ listener, type }, connections);
        }
      },
    });
    this.#gauge({
      name: `${PREFIX}upstream_up`,
      help: '1 if the last health check of the upstream passed or, without health checks, if the last connection attempt succeeded; otherwise 0. Absent before the first.',
      labelNames: ['listener', 'upstream'],
      collect: (gauge) => {
        gauge.reset();
        const { upstreams, health } = this.#source.snapshot();
        // Upstreams that a reload has removed are not shown.
        const known = health ?? upstreams.map((each) => ({ ...each, up: this.upstreams.of(each)?.up }));
        for (const { up, ...labels } of known) if (up !== undefined) gauge.set(labels, up ? 1 : 0);
      },
    });
    this.#gauge({
      name: `${PREFIX}tls_certificate_not_after_timestamp_seconds`,
      help: 'Earliest expiry of a certificate of the role, in Unix seconds.',
      labelNames: ['listener', 'role'],
      collect: (gauge) => {
        gauge.reset();
        for (const { listener, role, notAfter } of this.#source.snapshot().certificates) {
          gauge.set({ listener, role }, notAfter.getTime() / 1000);
        }
      },
    });
    this.#gauge({
      name: `${PREFIX}tls_crl_next_update_timestamp_seconds`,
      help: 'Earliest nextUpdate of a certificate revocation list, in Unix seconds. After that time the clients of its CA are refused.',
      labelNames: ['listener'],
      collect: (gauge) => {
        gauge.reset();
        for (const { listener, nextUpdate } of this.#source.snapshot().revocationLists) {
          gauge.set({ listener }, nextUpdate.getTime() / 1000);
        }
      },
    });
    this.#gauge({
      name: `${PREFIX}tls_out_of_date`,
      help: 'Certificates and CRLs in use that are expired or not yet valid, by role: server, client_ca, client_crl, upstream_client, upstream_ca.',
      labelNames: ['listener', 'role'],
      collect: (gauge) => {
        gauge.reset();
        for (const { listener, role, count } of this.#source.snapshot().outOfDate ?? [])
          gauge.set({ listener, role }, count);
      },
    });
    let reportedLines = 0;
    const dropped = this.#counter({
      name: `${PREFIX}log_lines_dropped_total`,
      help: 'Log lines dropped because the output was not read fast enough.',
      collect: () => {
        const { droppedLogLines } = this.#source.snapshot();
        dropped.inc(droppedLogLines - reportedLines);
        reportedLines = droppedLogLines;
      },
    });
    this.#gauge({
      name: `${PREFIX}build_info`,
      help: 'Versions of the proxy, Node and OpenSSL; always 1.',
      labelNames: ['version', 'node_version', 'openssl_version'],
    }).set({ version, node_version: process.versions.node, openssl_version: process.versions.openssl }, 1);
    for (const metric of rpcMetrics(this.rpcs)) this.#registry.registerMetric(metric);
    collectDefaultMetrics({ register: this.#registry });
    this.lastReloadSuccessful.set(1);

    this.#views = {
      prometheus: viewOf(this.#registry, Registry.PROMETHEUS_CONTENT_TYPE, this.#reports),
      openmetrics: viewOf(this.#registry, Registry.OPENMETRICS_CONTENT_TYPE, this.#reports),
    };
  }

  /** Sets the source of all later scrapes. */
  observe(source: SnapshotSource): void {
    this.#source = source;
  }

  /** Reports the counts of this process since the previous call, for another process to add to its own. */
  async takeReport(): Promise<MetricsReport> {
    await this.#source.report();
    return { ...(await this.#ownReport.take()), upstreams: this.upstreams.report() };
  }

  /** Adds a report of another process, so that later expositions include it. */
  addReport(process: number, report: MetricsReport): void {
    this.#reports.add(process, report);
    this.upstreams.add(report.upstreams);
  }

  /** Removes the gauges of a process that has exited; its counts are kept. */
  forgetProcess(process: number): void {
    this.#reports.forget(process);
  }

  /**
   * The exposition in one of its two formats, with its content type. Concurrent scrapes share one exposition: a scraper
   * that pipelines hundreds of requests costs no more than one request.
   */
  expose(format: ExpositionFormat): Promise<Exposition> {
    const underWay = this.#underWay.get(format);
    if (underWay) return underWay;
    const made = this.#makeExposition(format).finally(() => this.#underWay.delete(format));
    this.#underWay.set(format, made);
    return made;
  }

  async #makeExposition(format: ExpositionFormat): Promise<Exposition> {
    const registry = this.#views[format];
    // Yields to the event loop, so that traffic is served before each exposition.
    await setImmediate();
    await this.#source.report();
    return { contentType: registry.contentType, body: await registry.metrics() };
  }

  #counter<Label extends string>(options: {
    name: string;
    help: string;
    labelNames?: Label[];
    collect?: () => void;
  }): Counter<Label> {
    return new Counter({ ...options, registers: [this.#registry] });
  }

  #histogram<Label extends string>(options: {
    name: string;
    help: string;
    labelNames: Label[];
    buckets: number[];
  }): Histogram<Label> {
    return new Histogram({ ...options, registers: [this.#registry] });
  }

  #gauge<Label extends string>(options: {
    name: string;
    help: string;
    labelNames?: Label[];
    /** How the values of several processes are combined. By default only the scraped process reports the gauge. */
    aggregator?: 'sum';
    collect?: (gauge: Gauge<Label>) => void;
  }): Gauge<Label> {
    const { collect, ...rest } = options;
    const gauge: Gauge<Label> = new Gauge({
      aggregator: 'first',
      ...rest,
      registers: [this.#registry],
      ...(collect && { collect: () => collect(gauge) }),
    });
    return gauge;
  }
}

/**
 * The same metrics in another registry. A prom-client registry has one format, and one that writes OpenMetrics permanently
 * removes `_total` from the names of its counters.
 */
function viewOf(
  registry: Registry,
  contentType: RegistryContentType,
  reports: MergedReports,
): Registry<RegistryContentType> {
  const view = new Registry<RegistryContentType>();
  view.setContentType(contentType);
  for (const { name } of registry.getMetricsAsArray()) {
    const metric = registry.getSingleMetric(name);
    if (metric) view.registerMetric(new MetricView(name, metric, reports));
  }
  return view;
}

/** A metric, combined with the reports of other processes. */
class MetricView extends Gauge {
  /** The registry reads this property, which prom-client's types omit. */
  readonly type: unknown;
  readonly #metric: Metric;
  readonly #reports: MergedReports;

  constructor(name: string, metric: Metric, reports: MergedReports) {
    super({ name, help: name, registers: [] });
    this.type = Reflect.get(metric, 'type');
    this.#metric = metric;
    this.#reports = reports;
  }

  override async get(): ReturnType<Gauge['get']> {
    const own = await this.#metric.get();
    // The view's own name, from which the registry may have removed `_total`.
    const { name } = await super.get();
    return { ...own, name, values: this.#reports.merge(own) };
  }
}
