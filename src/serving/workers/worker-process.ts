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

/** How a worker process exited. */
export interface WorkerExit {
  readonly code: number | undefined;
  readonly signal: string | undefined;
  /** The process stopped sending reports and was killed. */
  readonly hung: boolean;
}

/** An accepted connection that is being sent to a worker. */
export interface HandOver {
  /** The listener in the plan. */
  readonly listenerId: number;
  readonly accepted: Accepted;
}

/** Callbacks for the events of a worker process. */
export interface WorkerEvents {
  notice(notice: Exclude<Notice, WorkerAnswer>): void;
  /** A connection was sent to the worker, and its copy in this process is closed. */
  handed(): void;
  /** The process exited. The connections in `undelivered` did not reach it. */
  exit(exit: WorkerExit, undelivered: readonly HandOver[]): void;
}

/** The primary's handle of one worker process. */
export class WorkerProcess {
  readonly #worker: ClusterWorker;
  readonly #events: WorkerEvents;
  readonly #questions = new Map<number, (answer: WorkerAnswer | undefined) => void>();
  #lastQuestion = 0;
  /** Orders queued until the worker is up, because Node drops earlier messages. Then undefined. */
  #early: Order[] | undefined = [];
  /** Connections not sent yet. Node sends a socket only after the previous one has arrived. */
  readonly #leaving = new Set<HandOver>();
  /** Reports missed since the last message. Counted by a timer, so a pause of this process is not counted against the worker. */
  #silentReports = 0;
  #exited = false;

  /** Starts the process. `program` is the file to run. */
  constructor(program: string, events: WorkerEvents) {
    this.#events = events;
    cluster.setupPrimary({
      exec: program,
      args: [WORKER_ARGUMENT],
      execArgv: childExecArgv(),
      serialization: 'advanced',
      // Only the primary process writes to stdout, which is reserved for the log.
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#worker = cluster.fork();
    const watch = setInterval(() => {
      // Until the worker is up, the timeout of its first `prepare` applies instead.
      if (!this.#early && ++this.#silentReports === WORKER_SILENT_REPORTS) this.kill();
    }, WORKER_REPORT_MS).unref();
    this.#worker.on('message', (notice: Notice) => {
      this.#silentReports = 0;
      if ('id' in notice) this.#answered(notice);
      else if (notice.kind === 'up') this.#up();
      else events.notice(notice);
    });
    // Sending to a process that is exiting fails. The exit event handles this case.
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

  /** Sends an order. Does nothing if the process has exited. */
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
      // A connection that cannot be sent is handled by the exit event, which follows.
      if (!error && this.#leaving.delete(handOver)) this.#events.handed();
    });
  }

  /**
   * Sends an order and waits for the answer.
   * @returns the answer, or `undefined` if the process exits first or does not answer within `timeoutMs`
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

  /** Kills the process with SIGKILL. */
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
    // The counts of a late report are not repeated in any other report, so they must be kept.
    if (isLate && answer.kind === 'reported') this.#events.notice({ kind: 'counted', report: answer.report });
    else this.#settle(answer.id, answer);
  }

  #settle(id: number, answer: WorkerAnswer | undefined): void {
    const settle = this.#questions.get(id);
    this.#questions.delete(id);
    settle?.(answer);
  }
}
