/** Makes calls continuously, each worker one after the other, until `stop`. The first failure rejects `done`. */
export class Load {
  readonly done: Promise<unknown>;
  calls = 0;
  #stopped = false;
  readonly #waiting = new Set<() => void>();

  constructor(workers: readonly (() => Promise<unknown>)[]) {
    this.done = Promise.all(workers.map((call) => this.#work(call)));
    this.done.catch(() => undefined);
  }

  /** Waits until this number of further calls have succeeded. */
  async more(calls: number): Promise<void> {
    const until = this.calls + calls;
    const reached = new Promise<void>((resolve) => {
      const look = (): void => {
        if (this.calls < until) return;
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
    });
    await Promise.race([reached, this.done]);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.done;
  }

  async #work(call: () => Promise<unknown>): Promise<void> {
    while (!this.#stopped) {
      await call();
      this.calls++;
      for (const look of this.#waiting) look();
    }
  }
}
