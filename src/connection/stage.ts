import type { ConnectionEnd } from './close-reason.js';

/** A bound on a stage: after `ms` milliseconds the connection ends as `end` says. */
export interface Deadline {
  readonly ms: number;
  readonly end: () => ConnectionEnd;
}

/**
 * Runs the stages of one connection, each of which waits for something, so that whatever ends the connection from
 * outside (a cut, a deadline, the client's leaving) ends the stage that is waiting and every later one.
 */
export class Stages {
  readonly #fate: Promise<never>;
  readonly #reject: (error: Error) => void;

  constructor() {
    let rejectFate: (error: Error) => void = () => undefined;
    this.#fate = new Promise<never>((_resolve, reject) => (rejectFate = reject));
    this.#reject = rejectFate;
    // The stage that waits hears of it; between stages nobody does, and that is no fault.
    this.#fate.catch(() => undefined);
  }

  /** Ends the connection: the stage that waits rejects with this error. The first call counts. */
  end(error: Error): void {
    this.#reject(error);
  }

  /** Waits for `work`, the connection's end or the deadline, whatever is first. */
  async run<T>(work: Promise<T>, deadline?: Deadline): Promise<T> {
    const timer = deadline && setTimeout(() => this.#reject(deadline.end()), Math.max(deadline.ms, 1));
    try {
      return await Promise.race([work, this.#fate]);
    } finally {
      clearTimeout(timer);
    }
  }
}
