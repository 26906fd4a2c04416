import { Socket } from 'node:net';

import { deferred, type Deferred } from '../../deferred.js';
import { ProcessBudget } from '../../process/process-budget.js';
import { WORKER_REPORT_MS } from '../../limits.js';
import type { Arrival } from '../../connection/accepted.js';
import type { ConnectionWatcher } from '../../connection/admission.js';
import { batchLines, type Outlet } from '../../telemetry/log-sink.js';
import { createLogger, type Logger } from '../../telemetry/logger.js';
import { AuditTrail } from '../../telemetry/audit/audit-trail.js';
import { Metrics } from '../../telemetry/metrics.js';
import { DEFAULT_LOGGING } from '../../config/defaults.js';
import { LocalTraffic } from '../local-traffic.js';
import { PlanRefused, type ServingPlan } from '../serving-plan.js';
import type { PreparedPlan } from '../traffic.js';
import type { ConnectionNews, Notice, Order } from './worker-messages.js';

/**
 * A worker process, one of several that serve connections. It does not bind sockets or read files: it receives plans and accepted
 * sockets from the primary process, and sends metrics and log lines to it.
 */
export class Worker {
  readonly #logger: Logger;
  readonly #auditSink = batchLines(new PrimaryOutlet('audit'));
  readonly #audit: AuditTrail;
  readonly #metrics: Metrics;
  readonly #traffic: LocalTraffic;
  #news: News | undefined;
  #prepared: (PreparedPlan & { readonly plan: ServingPlan }) | undefined;
  readonly #finished = deferred();
  /** Settles when the worker is drained and has sent all its reports. */
  readonly finished = this.#finished.promise;

  constructor(version: string) {
    this.#logger = createLogger(batchLines(new PrimaryOutlet('log')), DEFAULT_LOGGING);
    this.#metrics = new Metrics(version);
    this.#audit = new AuditTrail((lines) => this.#metrics.auditLinesDropped.inc(lines));
    this.#traffic = new LocalTraffic(
      this.#metrics,
      this.#logger,
      new ProcessBudget(),
      this.#audit,
      (listenerId, atMs) => tell({ kind: 'endSessions', listenerId, atMs }),
    );
    this.#metrics.observe({
      report: () => this.#traffic.report(),
      snapshot: () => ({
        listeners: [],
        upstreams: [],
        certificates: [],
        revocationLists: [],
        droppedLogLines: this.#logger.sink.droppedLines,
        workers: 1,
      }),
    });
    // Periodic reports limit the counts that are lost if the worker crashes.
    setInterval(() => {
      void this.#metrics.takeReport().then((report) => tell({ kind: 'counted', report }));
    }, WORKER_REPORT_MS).unref();
  }

  get logger(): Logger {
    return this.#logger;
  }

  get metrics(): Metrics {
    return this.#metrics;
  }

  /** Notifies the primary process that the worker is ready for orders. */
  begin(): void {
    tell({ kind: 'up' });
  }

  /** Executes an order of the primary process. */
  handle(order: Order, socket: Socket | undefined): void {
    switch (order.kind) {
      case 'prepare':
        void this.#prepare(order.id, order.plan);
        return;
      case 'publish':
        if (this.#prepared) {
          const { logging, audit } = this.#prepared.plan;
          this.#logger.configure(logging);
          this.#audit.configure(audit && this.#auditSink, audit?.isRequired ?? false);
          this.#prepared.publish();
        }
        this.#prepared = undefined;
        return;
      case 'discard':
        this.#prepared = undefined;
        return;
      case 'accept':
        this.#accept(order.listenerId, order.arrival, socket);
        return;
      case 'endSessions':
        this.#traffic.endSessions(order.listenerId, order.atMs);
        return;
      case 'refuse':
        this.#traffic.refuse(order.listenerId, order.connection, order.exceeded);
        return;
      case 'audit':
        this.#audit.setFailing(order.isBlocked);
        return;
      case 'drain':
        void this.#drain(order.why);
        return;
      case 'cut':
        this.#traffic.cutAll(order.why);
        return;
      case 'report':
        void this.#metrics.takeReport().then((report) => tell({ kind: 'reported', id: order.id, report }));
        return;
      case 'open':
        void this.#traffic
          .open(order.list, order.limit)
          .then((page) => tell({ kind: 'listed', id: order.id, page }));
        return;
      case 'observe':
        void this.#traffic
          .observed(order.limit)
          .then((traffic) => tell({ kind: 'observed', id: order.id, traffic }));
    }
  }

  async #prepare(id: number, plan: ServingPlan): Promise<void> {
    try {
      this.#prepared = { ...(await this.#traffic.prepare(plan)), plan };
      tell({ kind: 'prepared', id, problems: [] });
    } catch (error) {
      if (!(error instanceof PlanRefused)) throw error;
      tell({ kind: 'prepared', id, problems: error.problems });
    }
  }

  #accept(listenerId: number, arrival: Arrival, socket = goneSocket()): void {
    const { id } = arrival;
    const watcher: ConnectionWatcher = {
      identified: (address) => this.#newsDue().identified.push([id, address]),
      authenticated: () => this.#newsDue().authenticated.push(id),
      ended: () => this.#newsDue().ended.push(id),
    };
    // Node has started reading the socket. Pause it and allow half-open, as a listener in this process would.
    socket.pause();
    socket.allowHalfOpen = true;
    this.#traffic.accept(listenerId, { raw: socket, ...arrival }, watcher);
  }

  /** Returns the events to send at the end of this event loop iteration. */
  #newsDue(): News {
    if (!this.#news) {
      const news: News = { identified: [], authenticated: [], ended: [] };
      this.#news = news;
      setImmediate(() => {
        this.#news = undefined;
        tell({ kind: 'connections', ...news });
      });
    }
    return this.#news;
  }

  async #drain(why: string): Promise<void> {
    await this.#traffic.drain(why);
    await Promise.all([this.#logger.sink.flush(), this.#auditSink.flush()]);
    const report = await this.#metrics.takeReport();
    await new Promise<void>((resolve) => tell({ kind: 'counted', report }, resolve));
    this.#finished.resolve();
  }
}

interface News extends ConnectionNews {
  readonly identified: [connection: number, address: string][];
  readonly authenticated: number[];
  readonly ended: number[];
}

/** Stands in for a socket whose client disconnected before delivery. It is counted like any client that disconnects early. */
function goneSocket(): Socket {
  return new Socket().destroy();
}

/** Sends a notice. `sent` is called once it is sent or sending has failed. */
function tell(notice: Notice, sent: () => void = () => undefined): void {
  // If the primary process has exited, Node ends this process too.
  if (!process.connected) sent();
  else process.send?.(notice, undefined, undefined, () => sent());
}

/** Sends lines through the primary process. Several processes writing to one pipe would interleave their lines. */
class PrimaryOutlet implements Outlet {
  queued = 0;
  readonly #kind: 'log' | 'audit';
  /** Set while `flush` waits. */
  #emptied: Deferred<void> | undefined;

  constructor(kind: 'log' | 'audit') {
    this.#kind = kind;
  }

  send(lines: Buffer, isUrgent: boolean): void {
    this.queued += lines.length;
    const text = lines.toString();
    const notice: Notice =
      this.#kind === 'log' ? { kind: 'log', lines: text, isUrgent } : { kind: 'audit', lines: text };
    tell(notice, () => {
      this.queued -= lines.length;
      if (this.queued > 0) return;
      this.#emptied?.resolve();
      this.#emptied = undefined;
    });
  }

  flush(): Promise<void> {
    if (this.queued === 0) return Promise.resolve();
    this.#emptied ??= deferred();
    return this.#emptied.promise;
  }
}
