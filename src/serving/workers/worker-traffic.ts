import { mergePages, type OpenKind, type OpenPage } from '../../telemetry/open-pages.js';
import type { ListenerConfiguration } from '../../config/model.js';
import { DEFAULT_LOGGING } from '../../config/defaults.js';
import type { Accepted } from '../../connection/accepted.js';
import type { DropReason } from '../../connection/connection-events.js';
import type { ConnectionBudget } from '../../connection/admission.js';
import { formatEnd } from '../../connection/peer-address.js';
import { MAX_WAITING_FOR_WORKER } from '../../limits.js';
import { ConnectionQuota } from '../connection-quota.js';
import { networkCheck } from '../../config/cidr.js';
import { ListenerTelemetry } from '../../telemetry/listener-telemetry.js';
import type { Logger } from '../../telemetry/logger.js';
import type { Metrics, Snapshot } from '../../telemetry/metrics.js';
import { RpcLog } from '../../telemetry/rpc/rpc-log.js';
import type { AuditTrail } from '../../telemetry/audit/audit-trail.js';
import { mergeTraffic, type TrafficReport } from '../../policy/observed-traffic.js';
import { UnauthenticatedLines } from '../../telemetry/unauthenticated-lines.js';
import { SessionEpochs } from '../../tls/session-epochs.js';
import { PlanRefused, TrafficFailure, type ServingPlan, type ServedListener } from '../serving-plan.js';
import type { PreparedPlan, Traffic } from '../traffic.js';
import type { WorkerAnswer, ConnectionNews, Question } from './worker-messages.js';
import { describeExit, WorkerSlot } from './worker-slot.js';
import type { HandOver } from './worker-process.js';

/** The state of a listener in the primary process. */
interface KnownListener {
  readonly configuration: ListenerConfiguration;
  readonly telemetry: ListenerTelemetry;
  readonly expectsProxyHeader: (address: string | undefined) => boolean;
  /** Counts the connections of all workers. */
  readonly quota: ConnectionQuota;
}

/** Serves connections in several worker processes. This process accepts them and hands them over without reading. */
export class WorkerTraffic implements Traffic {
  readonly #slots: readonly WorkerSlot[];
  readonly #metrics: Metrics;
  readonly #logger: Logger;
  readonly #rpcLog: RpcLog;
  readonly #lines: UnauthenticatedLines;
  readonly #audit: AuditTrail;
  readonly #listeners = new Map<number, KnownListener>();
  readonly #budget: ConnectionBudget;
  /** The TLS session epochs of each listener, merged from all workers. */
  readonly #sessions = new Map<number, { readonly fingerprint: string; readonly epochs: SessionEpochs }>();
  /** Connections accepted while no worker was ready. */
  #waiting: HandOver[] = [];
  #plan: ServingPlan | undefined;

  /**
   * `program`: the file that a worker process runs. `budget`: for connections that are being sent to a worker. It is created
   * after the workers are started, because starting them takes descriptors too.
   */
  constructor(
    workers: number,
    program: string,
    metrics: Metrics,
    logger: Logger,
    audit: AuditTrail,
    budget: () => ConnectionBudget,
  ) {
    this.#metrics = metrics;
    this.#logger = logger;
    this.#audit = audit;
    this.#rpcLog = new RpcLog(logger, DEFAULT_LOGGING.rpc);
    this.#lines = new UnauthenticatedLines(logger);
    this.#slots = Array.from({ length: workers }, (_, index) => this.#slot(index + 1, program));
    audit.onBlocked = (isBlocked) => {
      for (const { process } of this.#slots) process?.tell({ kind: 'audit', isBlocked });
    };
    for (const slot of this.#slots) slot.start();
    this.#budget = budget();
  }

  async prepare(plan: ServingPlan): Promise<PreparedPlan> {
    const isFirst = !this.#plan;
    const results = await Promise.all(
      this.#slots
        .filter(({ process }) => process)
        .map(async (slot) => ({ slot, process: slot.process, problems: await slot.prepare(plan) })),
    );
    const discard = (): void => {
      for (const { slot, problems } of results) if (problems?.length === 0) slot.discard();
    };
    for (const { slot, process, problems } of results) {
      // A worker that exited meanwhile gets the plan when it is restarted.
      if (problems?.length === 0 || (!problems && !isFirst && slot.process !== process)) continue;
      discard();
      if (problems) throw new PlanRefused(problems);
      throw new TrafficFailure(`worker ${slot.number} exited or hung before it was ready`);
    }
    return { publish: () => this.#publish(plan), discard };
  }

  accept(listenerId: number, accepted: Accepted): void {
    const handOver = { listenerId, accepted };
    const known = this.#listeners.get(listenerId);
    if (!known) {
      // The listener was removed before the connection was accepted here.
      accepted.raw.destroy();
      return;
    }
    if (this.#budget.lookAtMemory()) {
      this.#drop(handOver, 'memory');
      return;
    }
    const { configuration, expectsProxyHeader, quota } = known;
    const source = expectsProxyHeader(accepted.peer?.address) ? undefined : accepted.peer?.address;
    const exceeded = quota.admit(accepted.id, source, configuration, performance.now());
    if (exceeded !== undefined) this.#drop(handOver, exceeded);
    else if (this.#budget.take()) this.#place(handOver);
    else {
      quota.end(accepted.id);
      this.#drop(handOver, 'descriptors');
    }
  }

  async drain(why: string): Promise<void> {
    for (const { listenerId, accepted } of this.#waiting.splice(0)) {
      accepted.raw.destroy();
      this.#listeners.get(listenerId)?.quota.end(accepted.id);
    }
    await Promise.all(this.#slots.map((slot) => slot.end(why)));
  }

  cutAll(why: string): number {
    const { connectionCount } = this;
    for (const slot of this.#slots) slot.cut(why);
    return connectionCount;
  }

  get connectionCount(): number {
    return this.#slots.reduce((sum, { connections }) => sum + connections, this.#waiting.length);
  }

  connectionsOn(listenerId: number): number {
    return this.#listeners.get(listenerId)?.quota.size ?? 0;
  }

  listeners(): Snapshot['listeners'] {
    return [...this.#listeners].map(([listenerId, { configuration }]) => ({
      listener: configuration.listen.url,
      type: configuration.listen.scheme,
      connections: this.connectionsOn(listenerId),
    }));
  }

  get workers(): number {
    return this.#slots.filter(({ state }) => state === 'serving').length;
  }

  notReadyReasons(): string[] {
    const crashLoops = this.#slots.flatMap(({ crashLoopReason }) => crashLoopReason ?? []);
    return this.workers > 0 ? crashLoops : ['no worker is serving', ...crashLoops];
  }

  async report(): Promise<void> {
    for (const { slot, answer } of await this.#askAll({ kind: 'report' }))
      if (answer?.kind === 'reported') this.#metrics.addReport(slot.number, answer.report);
  }

  async open(list: OpenKind, limit: number): Promise<OpenPage> {
    const answers = await this.#askAll({ kind: 'open', list, limit });
    const pages = answers.flatMap(({ slot, answer }): OpenPage[] => {
      if (answer?.kind !== 'listed') return [];
      const { open, entries } = answer.page;
      return [{ open, entries: entries.map((entry) => ({ worker: slot.number, ...entry })) }];
    });
    return mergePages(pages, limit);
  }

  async observed(limit: number): Promise<TrafficReport> {
    const answers = await this.#askAll({ kind: 'observe', limit });
    return mergeTraffic(
      answers.map(({ answer }) => (answer?.kind === 'observed' ? answer.traffic : undefined)),
      limit,
    );
  }

  #slot(number: number, program: string): WorkerSlot {
    const slot: WorkerSlot = new WorkerSlot(number, program, {
      notice: (notice) => {
        if (notice.kind === 'log') this.#logger.relay(notice.lines, notice.isUrgent);
        else if (notice.kind === 'audit') this.#audit.relay(notice.lines);
        else if (notice.kind === 'counted') this.#metrics.addReport(number, notice.report);
        else if (notice.kind === 'endSessions') this.#endSessions(notice.listenerId, notice.atMs);
        else if (notice.kind === 'connections') this.#noteConnections(slot, notice);
      },
      handed: () => this.#budget.giveBack(),
      current: (plan) => this.#withCurrentSessions(plan),
      ready: (process) => {
        // The worker may have missed a change while it was preparing its plan.
        for (const [listenerId, { epochs }] of this.#sessions)
          process.tell({ kind: 'endSessions', listenerId, atMs: epochs.endsAtMs });
        process.tell({ kind: 'audit', isBlocked: this.#audit.isBlocked });
        for (const handOver of this.#waiting.splice(0)) this.#place(handOver);
      },
      exit: ({ pid, connections, ...exit }, undelivered, lost) => {
        this.#metrics.forgetProcess(number);
        this.#metrics.workerExits.inc();
        const fields = { worker: number, pid, connections, error: describeExit(exit) };
        this.#logger.log('worker_exited', fields);
        for (const { listenerId, id } of lost) this.#listeners.get(listenerId)?.quota.end(id);
        for (const handOver of [...this.#waiting.splice(0), ...undelivered]) this.#place(handOver);
        this.#forgetRemovedListeners();
      },
    });
    return slot;
  }

  #noteConnections(slot: WorkerSlot, { identified, authenticated, ended }: ConnectionNews): void {
    for (const [id, address] of identified) {
      const connection = slot.connection(id);
      const known = connection && this.#listeners.get(connection.listenerId);
      const exceeded = known?.quota.identify(id, address, known.configuration);
      if (exceeded !== undefined && connection) slot.refuse(connection, exceeded);
    }
    for (const id of authenticated) this.#quotaOf(slot, id)?.authenticate(id);
    for (const id of ended) this.#quotaOf(slot, id)?.end(id);
    if (ended.length > 0) this.#forgetRemovedListeners();
  }

  /** Closes a connection of a worker. A connection that waits for a worker is kept, because the wait is short. */
  #evict(id: number): void {
    for (const slot of this.#slots) {
      const connection = slot.connection(id);
      if (connection) slot.refuse(connection, 'max_unauthenticated_connections');
    }
  }

  #quotaOf(slot: WorkerSlot, id: number): ConnectionQuota | undefined {
    const connection = slot.connection(id);
    return connection && this.#listeners.get(connection.listenerId)?.quota;
  }

  #publish(plan: ServingPlan): void {
    this.#plan = plan;
    this.#keepSessions(plan);
    for (const { listenerId, configuration } of plan.listeners) {
      const former = this.#listeners.get(listenerId);
      const hasSameLabels = former?.configuration.listen.url === configuration.listen.url;
      const telemetry = hasSameLabels
        ? former.telemetry
        : new ListenerTelemetry(
            configuration,
            this.#metrics,
            this.#logger,
            this.#rpcLog,
            this.#lines,
            this.#audit,
          );
      const expectsProxyHeader = networkCheck(configuration.proxyProtocol.acceptFrom);
      const quota = former?.quota ?? new ConnectionQuota((id) => this.#evict(id));
      this.#listeners.set(listenerId, { configuration, telemetry, expectsProxyHeader, quota });
    }
    for (const slot of this.#slots) slot.publish(plan);
    this.#forgetRemovedListeners();
  }

  /** Workers keep the epochs of a listener whose TLS settings have not changed. */
  #keepSessions({ listeners }: ServingPlan): void {
    const former = new Map(this.#sessions);
    this.#sessions.clear();
    for (const { listenerId, server, fingerprint } of listeners) {
      if (!server) continue;
      const known = former.get(listenerId);
      const epochs =
        known?.fingerprint === fingerprint
          ? known.epochs
          : new SessionEpochs(server.sessions, server.sessionDates);
      this.#sessions.set(listenerId, { fingerprint, epochs });
    }
  }

  #endSessions(listenerId: number, atMs: number): void {
    if (this.#sessions.get(listenerId)?.epochs.endBy(atMs, Date.now()) !== true) return;
    for (const { process } of this.#slots) process?.tell({ kind: 'endSessions', listenerId, atMs });
  }

  /** Returns the plan with the current TLS session secrets, for a worker that starts later than the others. */
  #withCurrentSessions(plan: ServingPlan): ServingPlan {
    const listeners = plan.listeners.map((listener): ServedListener => {
      const known = this.#sessions.get(listener.listenerId);
      if (!listener.server || known?.fingerprint !== listener.fingerprint) return listener;
      return { ...listener, server: { ...listener.server, sessions: known.epochs.startAt(Date.now()) } };
    });
    return { ...plan, listeners };
  }

  /** Hands a connection to the serving worker with the fewest connections, or queues it until a worker is serving. */
  #place(handOver: HandOver): void {
    let chosen: WorkerSlot | undefined;
    for (const slot of this.#slots) {
      if (slot.state !== 'serving') continue;
      if (!chosen || slot.connections < chosen.connections) chosen = slot;
    }
    if (chosen) {
      chosen.sendSocket(handOver);
      return;
    }
    const comesSoon = this.#slots.some(({ crashLoopReason }) => crashLoopReason === undefined);
    if (comesSoon && this.#waiting.length < MAX_WAITING_FOR_WORKER) {
      this.#waiting.push(handOver);
      return;
    }
    this.#budget.giveBack();
    this.#listeners.get(handOver.listenerId)?.quota.end(handOver.accepted.id);
    this.#drop(handOver, 'no_worker');
  }

  #drop({ listenerId, accepted }: HandOver, reason: DropReason): void {
    this.#listeners.get(listenerId)?.telemetry.dropped(reason, formatEnd(accepted.peer));
    accepted.raw.destroy();
  }

  #askAll(question: Question): Promise<{ slot: WorkerSlot; answer: WorkerAnswer | undefined }[]> {
    return Promise.all(
      this.#slots.map(async (slot) => ({ slot, answer: await slot.process?.ask(question) })),
    );
  }

  /** Forgets removed listeners that have no more connections. */
  #forgetRemovedListeners(): void {
    const planned = new Set(this.#plan?.listeners.map(({ listenerId }) => listenerId));
    for (const listenerId of [...this.#listeners.keys()])
      if (!planned.has(listenerId) && this.connectionsOn(listenerId) === 0)
        this.#listeners.delete(listenerId);
  }
}
