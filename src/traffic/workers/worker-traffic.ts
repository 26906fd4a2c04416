import { mergePages, type OpenKind, type OpenPage } from '../../admin/open.js';
import type { ListenerConfiguration } from '../../config/model.js';
import { DEFAULT_LOGGING } from '../../config/defaults.js';
import type { Accepted } from '../../connection/accepted.js';
import type { DropReason } from '../../connection/events.js';
import type { ConnectionBudget } from '../../connection/listener.js';
import { formatEnd } from '../../connection/peer-address.js';
import { MAX_WAITING_FOR_WORKER } from '../../limits.js';
import { ListenerTelemetry } from '../../telemetry/listener-telemetry.js';
import type { Logger } from '../../telemetry/logger.js';
import type { Metrics, Snapshot } from '../../telemetry/metrics.js';
import { RpcLog } from '../../telemetry/rpc/rpc-log.js';
import { PlanRefused, TrafficFailure, type Plan } from '../plan.js';
import type { PreparedPlan, Traffic } from '../traffic.js';
import type { Answer, Question } from './messages.js';
import { describeExit, Slot } from './slot.js';
import type { HandOver } from './worker-process.js';

/** A port as the primary process knows it. */
interface KnownPort {
  readonly configuration: ListenerConfiguration;
  readonly telemetry: ListenerTelemetry;
}

/** Has several processes serve the connections. This one accepts them and hands them on, unread. */
export class WorkerTraffic implements Traffic {
  readonly #slots: readonly Slot[];
  readonly #metrics: Metrics;
  readonly #logger: Logger;
  readonly #rpcLog: RpcLog;
  readonly #ports = new Map<number, KnownPort>();
  readonly #budget: ConnectionBudget;
  /** Accepted while no worker was ready. */
  #waiting: HandOver[] = [];
  #plan: Plan | undefined;

  /**
   * `program`: the file that a worker's process runs. `budget`: for the connections that are on their way to a worker; asked
   * for once the workers are started, which takes descriptors too.
   */
  constructor(
    workers: number,
    program: string,
    metrics: Metrics,
    logger: Logger,
    budget: () => ConnectionBudget,
  ) {
    this.#metrics = metrics;
    this.#logger = logger;
    this.#rpcLog = new RpcLog(logger, DEFAULT_LOGGING.rpc);
    this.#slots = Array.from({ length: workers }, (_, index) => this.#slot(index + 1, program));
    for (const slot of this.#slots) slot.start();
    this.#budget = budget();
  }

  async prepare(plan: Plan): Promise<PreparedPlan> {
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
      // One that ended meanwhile gets the plan when it is there again.
      if (problems?.length === 0 || (!problems && !isFirst && slot.process !== process)) continue;
      discard();
      if (problems) throw new PlanRefused(problems);
      throw new TrafficFailure(`worker ${slot.number} ended or hung before it was ready`);
    }
    return { publish: () => this.#publish(plan), discard };
  }

  accept(port: number, accepted: Accepted): void {
    const handOver = { port, accepted };
    const max = this.#ports.get(port)?.configuration.maxConnections ?? 0;
    if (this.connectionsOn(port) >= max) this.#drop(handOver, 'max_connections');
    else if (this.#budget.lookAtMemory()) this.#drop(handOver, 'memory');
    else if (this.#budget.take()) this.#place(handOver);
    else this.#drop(handOver, 'descriptors');
  }

  async drain(why: string): Promise<void> {
    for (const { accepted } of this.#waiting.splice(0)) accepted.raw.destroy();
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

  connectionsOn(port: number): number {
    const waiting = this.#waiting.filter((one) => one.port === port).length;
    return this.#slots.reduce((sum, slot) => sum + slot.connectionsOn(port), waiting);
  }

  listeners(): Snapshot['listeners'] {
    return [...this.#ports].map(([port, { configuration }]) => ({
      listener: configuration.listen.url,
      type: configuration.listen.scheme,
      connections: this.connectionsOn(port),
    }));
  }

  get workers(): number {
    return this.#slots.filter(({ state }) => state === 'serving').length;
  }

  reasonsAgainst(): string[] {
    const complaints = this.#slots.flatMap(({ complaint }) => complaint ?? []);
    return this.workers > 0 ? complaints : ['no worker serves', ...complaints];
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

  #slot(number: number, program: string): Slot {
    return new Slot(number, program, {
      notice: (notice) => {
        if (notice.kind === 'log') this.#logger.relay(notice.lines);
        else if (notice.kind === 'counted') this.#metrics.addReport(number, notice.report);
        else this.#forgetGonePorts();
      },
      handed: () => this.#budget.giveBack(),
      ready: () => {
        for (const handOver of this.#waiting.splice(0)) this.#place(handOver);
      },
      exit: ({ pid, connections, ...exit }, undelivered) => {
        this.#metrics.forgetProcess(number);
        this.#metrics.workerExits.inc();
        const fields = { worker: number, pid, connections, error: describeExit(exit) };
        this.#logger.error(fields, 'a worker ended, and its connections with it; another is started');
        for (const handOver of [...this.#waiting.splice(0), ...undelivered]) this.#place(handOver);
        this.#forgetGonePorts();
      },
    });
  }

  #publish(plan: Plan): void {
    this.#plan = plan;
    for (const { port, configuration } of plan.ports) {
      const former = this.#ports.get(port);
      const hasSameLabels = former?.configuration.listen.url === configuration.listen.url;
      const telemetry = hasSameLabels
        ? former.telemetry
        : new ListenerTelemetry(configuration, this.#metrics, this.#logger, this.#rpcLog);
      this.#ports.set(port, { configuration, telemetry });
    }
    for (const slot of this.#slots) slot.publish(plan);
    this.#forgetGonePorts();
  }

  /** Hands a connection to the worker with the fewest; while there is none, it waits. */
  #place(handOver: HandOver): void {
    let chosen: Slot | undefined;
    for (const slot of this.#slots) {
      if (slot.state !== 'serving') continue;
      if (!chosen || slot.connections < chosen.connections) chosen = slot;
    }
    if (chosen) {
      chosen.hand(handOver);
      return;
    }
    const comesSoon = this.#slots.some(({ complaint }) => complaint === undefined);
    if (comesSoon && this.#waiting.length < MAX_WAITING_FOR_WORKER) {
      this.#waiting.push(handOver);
      return;
    }
    this.#budget.giveBack();
    this.#drop(handOver, 'no_worker');
  }

  #drop({ port, accepted }: HandOver, reason: DropReason): void {
    this.#ports.get(port)?.telemetry.dropped(reason, formatEnd(accepted.peer));
    accepted.raw.destroy();
  }

  #askAll(question: Question): Promise<{ slot: Slot; answer: Answer | undefined }[]> {
    return Promise.all(
      this.#slots.map(async (slot) => ({ slot, answer: await slot.process?.ask(question) })),
    );
  }

  /** Ports that were removed are known as long as they have connections. */
  #forgetGonePorts(): void {
    const planned = new Set(this.#plan?.ports.map(({ port }) => port));
    for (const port of [...this.#ports.keys()])
      if (!planned.has(port) && this.connectionsOn(port) === 0) this.#ports.delete(port);
  }
}
