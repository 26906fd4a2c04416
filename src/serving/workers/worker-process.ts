import cluster from 'node:cluster';
import type { Worker as ClusterWorker } from 'node:cluster';

import type { Accepted } from '../../connection/accepted.js';
import { WORKER_ANSWER_MS, WORKER_REPORT_MS, WORKER_SILENT_REPORTS } from '../../limits.js';
import { childExecArgv } from '../../process/node-options.js';
import {
  type WorkerAnswer,
  type Notice,
  type Order,
  type Question,
  WORKER_ARGUMENT,
} from './worker-messages.js';

/** How a worker's process ended. */
export interface WorkerExit {
  readonly code: number | undefined;
  readonly signal: string | undefined;
  /** It told nothing any more, and was ended for that. */
  readonly hung: boolean;
}

/** An accepted connection on its way to a worker. */
export interface HandOver {
  /** Of the plan. */
  readonly listenerId: number;
  readonly accepted: Accepted;
}

/** What a worker's process tells without being asked. */
export interface WorkerEvents {
  notice(notice: Exclude<Notice, WorkerAnswer>): void;
  /** The connection has left this process. */
  handed(): void;
  /** It has ended; `undelivered` never got there. */
  exit(exit: WorkerExit, undelivered: readonly HandOver[]): void;
}

/** The primary's end of one worker's process. */
export class WorkerProcess {
  readonly #worker: ClusterWorker;
  readonly #events: WorkerEvents;
  readonly #questions = new Map<number, (answer: WorkerAnswer | undefined) => void>();
  #lastQuestion = 0;
  /** Orders wait until the worker listens: Node drops what comes before. */
  #early: Order[] | undefined = [];
  /** Connections that have not left yet: Node sends one when the one before has arrived. */
  readonly #leaving = new Set<HandOver>();
  /** Reports that were due since it last told anything; counted by this process' clock, which stands when this one does. */
  #silentReports = 0;
  #exited = false;

  /** Starts the process. `program`: the file that it runs. */
  constructor(program: string, events: WorkerEvents) {
    this.#events = events;
    cluster.setupPrimary({
      exec: program,
      args: [WORKER_ARGUMENT],
      execArgv: childExecArgv(),
      serialization: 'advanced',
      // Standard output is the log's alone, and the primary process writes it.
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#worker = cluster.fork();
    const watch = setInterval(() => {
      // Before it is up, whoever has it prepare its plan waits for that.
      if (!this.#early && ++this.#silentReports === WORKER_SILENT_REPORTS) this.kill();
    }, WORKER_REPORT_MS).unref();
    this.#worker.on('message', (notice: Notice) => {
      this.#silentReports = 0;
      if ('id' in notice) this.#answered(notice);
      else if (notice.kind === 'up') this.#up();
      else events.notice(notice);
    });
    // Sending to a process that ends at this moment fails; its exit says so too.
    this.#worker.on('error', () => undefined);
    this.#worker.once('exit', (code: number | null, signal: string | null) => {
      this.#exited = true;
      clearInterval(watch);
      for (const id of [...this.#questions.keys()]) this.#settle(id, undefined);
      const hung = this.#silentReports >= WORKER_SILENT_REPORTS;
      events.exit({ code: code ?? undefined, signal: signal ?? undefined, hung }, [...this.#leaving]);
    });
  }

  get pid(): number | undefined {
    return this.#worker.process.pid;
  }

  /** Tells it to do something; of a process that has ended, nothing comes. */
  tell(order: Order): void {
    if (this.#early) this.#early.push(order);
    else if (!this.#exited && this.#worker.isConnected()) this.#worker.send(order);
  }

  /** Hands an accepted connection over. */
  sendSocket(handOver: HandOver): void {
    const { listenerId, accepted } = handOver;
    const { raw, ...arrival } = accepted;
    const order: Order = { kind: 'accept', listenerId, arrival };
    this.#leaving.add(handOver);
    this.#worker.process.send(order, raw, { keepOpen: false }, (error) => {
      // What cannot be sent is left for the exit, which follows.
      if (!error && this.#leaving.delete(handOver)) this.#events.handed();
    });
  }

  /**
   * Asks something.
   * @returns its answer, or `undefined` if it ends before or does not answer within `WORKER_ANSWER_MS`
   */
  ask(question: Question, timeoutMs: number = WORKER_ANSWER_MS): Promise<WorkerAnswer | undefined> {
    if (this.#exited) return Promise.resolve(undefined);
    const id = ++this.#lastQuestion;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#settle(id, undefined), timeoutMs);
      this.#questions.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      this.tell({ ...question, id });
    });
  }

  /** Ends it at once. */
  kill(): void {
    this.#worker.process.kill('SIGKILL');
  }

  #up(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const order of early) this.tell(order);
  }

  #answered(answer: WorkerAnswer): void {
    const isLate = !this.#questions.has(answer.id);
    // The counts of a late report are in no other report.
    if (isLate && answer.kind === 'reported') this.#events.notice({ kind: 'counted', report: answer.report });
    else this.#settle(answer.id, answer);
  }

  #settle(id: number, answer: WorkerAnswer | undefined): void {
    const settle = this.#questions.get(id);
    this.#questions.delete(id);
    settle?.(answer);
  }
}
