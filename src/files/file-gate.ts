import { FILE_DEADLINE_MS, MAX_FILE_WORK } from '../limits.js';

/** A file system that does not answer within the deadline. */
export class FileTimeout extends Error {
  readonly code = 'ETIMEDOUT';

  constructor() {
    const reason = 'its file system does not answer, or nothing is written to the pipe';
    super(`timed out after ${FILE_DEADLINE_MS / 1000} s: ${reason}`);
  }
}

interface Work {
  readonly path: string;
  readonly run: (signal: AbortSignal) => Promise<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: unknown) => void;
  readonly timeout: AbortController;
  timer: NodeJS.Timeout | undefined;
  /** Set after its deadline. While the work runs, the thread that it occupies is not available. */
  isOverdue: boolean;
}

/**
 * All file accesses go through this gate. A system call on a hung file system (NFS, FUSE) never returns, and occupies one of
 * the few threads for files and DNS. So each access has a deadline, only a few run at a time, and only one per path: hung
 * accesses occupy a limited number of threads, and later accesses fail immediately.
 */
export class FileGate {
  readonly #running = new Set<Work>();
  #waiting: Work[] = [];

  /**
   * Runs work on a path. `run` settles when it no longer occupies a thread, and should end early once `signal` aborts.
   * @throws FileTimeout after `FILE_DEADLINE_MS`, or immediately while earlier work on the path, or all work, hangs
   */
  enter<T>(path: string, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const work: Work = {
        path,
        run,
        resolve: (value) => resolve(value as T),
        reject,
        timeout: new AbortController(),
        timer: undefined,
        isOverdue: false,
      };
      if (this.#isHopeless(path)) {
        reject(new FileTimeout());
        return;
      }
      work.timer = setTimeout(() => this.#timeOut(work), FILE_DEADLINE_MS);
      this.#waiting.push(work);
      this.#startWaiting();
    });
  }

  #isHopeless(path: string): boolean {
    const all = [...this.#running];
    if (all.some((work) => work.isOverdue && work.path === path)) return true;
    return all.length >= MAX_FILE_WORK && all.every(({ isOverdue }) => isOverdue);
  }

  #startWaiting(): void {
    while (this.#running.size < MAX_FILE_WORK) {
      const busy = new Set([...this.#running].map(({ path }) => path));
      const index = this.#waiting.findIndex(({ path }) => !busy.has(path));
      const [work] = index < 0 ? [] : this.#waiting.splice(index, 1);
      if (!work) return;
      this.#start(work);
    }
  }

  #start(work: Work): void {
    this.#running.add(work);
    void work
      .run(work.timeout.signal)
      .then(work.resolve, work.reject)
      .finally(() => {
        clearTimeout(work.timer);
        this.#running.delete(work);
        this.#startWaiting();
      });
  }

  #timeOut(work: Work): void {
    work.isOverdue = true;
    work.reject(new FileTimeout());
    work.timeout.abort();
    if (!this.#running.has(work)) {
      this.#waiting = this.#waiting.filter((other) => other !== work);
      return;
    }
    for (const other of this.#waiting.filter(({ path }) => this.#isHopeless(path))) {
      clearTimeout(other.timer);
      other.reject(new FileTimeout());
      this.#waiting = this.#waiting.filter((one) => one !== other);
    }
  }
}
