import {
  WORKER_END_MS,
  WORKER_LOOP_EXITS,
  WORKER_LOOP_MS,
  WORKER_PREPARE_MS,
  WORKER_REPORT_MS,
  WORKER_RESTART_MS_MAX,
  WORKER_RESTART_MS_MIN,
  WORKER_SILENT_REPORTS,
} from '../../limits.js';
import type { Problem } from '../../config/model.js';
import { deferred, type Deferred } from '../../deferred.js';
import type { OpenExceeded } from '../connection-quota.js';
import type { ServingPlan } from '../serving-plan.js';
import { WorkerProcess, type HandOver, type WorkerEvents, type WorkerExit } from './worker-process.js';

/** Callbacks from a slot to its traffic. */
export interface WorkerSlotEvents {
  notice: WorkerEvents['notice'];
  handed: WorkerEvents['handed'];
  /** Returns the plan with current TLS sessions, for a worker that prepares it now. */
  current(plan: ServingPlan): ServingPlan;
  /** The worker is serving. */
  ready(process: WorkerProcess): void;
  /** The worker process exited. Connections in `lost` are lost; those in `undelivered` did not reach it. */
  exit(exit: LostWorker, undelivered: readonly HandOver[], lost: readonly OpenConnection[]): void;
}

/** A connection of a worker. */
export interface OpenConnection {
  readonly listenerId: number;
  readonly id: number;
}

/** A worker process that exited unexpectedly. */
export interface LostWorker extends WorkerExit {
  readonly pid: number | undefined;
  /** The number of its connections. */
  readonly connections: number;
}

interface PastExit {
  readonly atMs: number;
  readonly exit: WorkerExit;
}

/** Runs one worker: starts its process, and restarts it when it exits. */
export class WorkerSlot {
  /** Starts at 1. */
  readonly number: number;
  readonly #program: string;
  readonly #events: WorkerSlotEvents;
  /** Open connections of the process, by connection id. */
  readonly #open = new Map<number, OpenConnection>();
  /** Unexpected exits within the last `WORKER_LOOP_MS`. */
  #exits: PastExit[] = [];
  #process: WorkerProcess | undefined;
  /** The plan in effect. */
  #plan: ServingPlan | undefined;
  /** The plan that is prepared but not published. */
  #prepared: ServingPlan | undefined;
  #ready = false;
  #restart: NodeJS.Timeout | undefined;
  /** Set once the slot ends: it starts no more processes. Settles when its process has exited. */
  #ended: Deferred<void> | undefined;

  constructor(number: number, program: string, events: WorkerSlotEvents) {
    this.number = number;
    this.#program = program;
    this.#events = events;
  }

  /** The running process, if any. */
  get process(): WorkerProcess | undefined {
    return this.#process;
  }

  /** `starting`: preparing its first plan. `down`: waiting for the restart back-off. */
  get state(): 'serving' | 'starting' | 'down' {
    if (!this.#process) return 'down';
    return this.#ready ? 'serving' : 'starting';
  }

  get connections(): number {
    return this.#open.size;
  }

  /** Returns an open connection by its id. */
  connection(id: number): OpenConnection | undefined {
    return this.#open.get(id);
  }

  /** The reason to report as not ready if this worker is in a crash loop, otherwise undefined. */
  get crashLoopReason(): string | undefined {
    const exits = this.#recentExits();
    const last = exits.at(-1);
    if (!last || exits.length < WORKER_LOOP_EXITS) return undefined;
    const often = `${exits.length} times within ${WORKER_LOOP_MS / 1000} s`;
    return `worker ${this.number} keeps exiting, ${often}, last exit: ${describeExit(last.exit)}`;
  }

  /** Starts the process. */
  start(): void {
    this.#process = new WorkerProcess(this.#program, {
      notice: (notice) => {
        this.#events.notice(notice);
        if (notice.kind === 'connections') for (const id of notice.ended) this.#open.delete(id);
      },
      handed: () => this.#events.handed(),
      exit: (exit, undelivered) => this.#exited(exit, undelivered),
    });
  }

  /**
   * Makes the process prepare a plan.
   * @returns the problems of the plan; `undefined` if the process exited or does not answer
   */
  async prepare(plan: ServingPlan): Promise<readonly Problem[] | undefined> {
    const process = this.#process;
    const question = { kind: 'prepare', plan: this.#events.current(plan) } as const;
    const answer = await process?.ask(question, WORKER_PREPARE_MS);
    if (answer?.kind !== 'prepared' || process !== this.#process) return undefined;
    if (answer.problems.length === 0) this.#prepared = plan;
    return answer.problems;
  }

  /** Applies a plan. A process that was started meanwhile prepares it first. */
  publish(plan: ServingPlan): void {
    this.#plan = plan;
    if (!this.#process) return;
    if (this.#prepared !== plan) {
      void this.#bring(this.#process, plan);
      return;
    }
    this.#prepared = undefined;
    this.#process.tell({ kind: 'publish' });
    this.#ready = true;
    this.#events.ready(this.#process);
  }

  discard(): void {
    this.#prepared = undefined;
    this.#process?.tell({ kind: 'discard' });
  }

  /** Hands an accepted connection over. */
  sendSocket(handOver: HandOver): void {
    const { listenerId, accepted } = handOver;
    this.#open.set(accepted.id, { listenerId, id: accepted.id });
    this.#process?.sendSocket(handOver);
  }

  /** Closes a connection that exceeds a limit. */
  refuse({ listenerId, id }: OpenConnection, exceeded: OpenExceeded): void {
    this.#process?.tell({ kind: 'refuse', listenerId, connection: id, exceeded });
  }

  /** Drains the process, or cancels its restart. Settles when it has exited. */
  end(why: string): Promise<void> {
    this.#ended ??= deferred();
    clearTimeout(this.#restart);
    if (this.#process) this.#process.tell({ kind: 'drain', why });
    else this.#ended.resolve();
    return this.#ended.promise;
  }

  /** Aborts all connections. A draining process that does not exit within `WORKER_END_MS` is killed. */
  cut(why: string): void {
    const process = this.#process;
    process?.tell({ kind: 'cut', why });
    if (this.#ended) setTimeout(() => process?.kill(), WORKER_END_MS).unref();
  }

  /** Prepares and applies a plan in a newly started process. */
  async #bring(process: WorkerProcess, plan: ServingPlan): Promise<void> {
    const problems = await this.prepare(plan);
    if (process !== this.#process || plan !== this.#plan || this.#ended) return;
    // The process hangs or rejects a plan that other workers serve. A new process may succeed.
    if (problems?.length === 0) this.publish(plan);
    else process.kill();
  }

  #exited(exit: WorkerExit, undelivered: readonly HandOver[]): void {
    const pid = this.#process?.pid;
    for (const { accepted } of undelivered) this.#open.delete(accepted.id);
    const lost = [...this.#open.values()];
    this.#process = undefined;
    this.#prepared = undefined;
    this.#ready = false;
    this.#open.clear();
    if (this.#ended) {
      for (const { accepted } of undelivered) accepted.raw.destroy();
      this.#ended.resolve();
      return;
    }
    this.#exits = [...this.#recentExits(), { atMs: performance.now(), exit }];
    const waitMs = Math.min(WORKER_RESTART_MS_MIN * 2 ** (this.#exits.length - 1), WORKER_RESTART_MS_MAX);
    this.#restart = setTimeout(() => {
      this.start();
      if (this.#plan) this.publish(this.#plan);
    }, waitMs);
    this.#events.exit({ ...exit, pid, connections: lost.length }, undelivered, lost);
  }

  #recentExits(): PastExit[] {
    const since = performance.now() - WORKER_LOOP_MS;
    return this.#exits.filter(({ atMs }) => atMs > since);
  }
}

/** Describes an exit for log lines and readiness. */
export function describeExit({ code, signal, hung }: WorkerExit): string {
  const silentS = (WORKER_SILENT_REPORTS * WORKER_REPORT_MS) / 1000;
  if (hung) return `its event loop hung: it was killed after ${silentS} s without a report`;
  return signal === undefined ? `exit code ${code ?? 'unknown'}` : signal;
}
