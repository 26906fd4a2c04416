import { execFile } from 'node:child_process';

import { NOTIFY_MS } from '../limits.js';
import type { Logger } from '../telemetry/logger.js';

const PROGRAM = 'systemd-notify';
const USEC_PER_MS = 1000;

/** What the service manager has told of itself by the environment. */
interface Manager {
  /** `NOTIFY_SOCKET`. */
  readonly socket: string;
  /** `WATCHDOG_USEC` in ms, where this process is the one that is watched. */
  readonly watchdogMs: number | undefined;
}

/**
 * Tells systemd how the process is (sd_notify(3)), or nobody, where none has started it.
 *
 * Node has no unix datagram sockets, so `systemd-notify` speaks for us: `NotifyAccess=all` lets it. It comes with systemd
 * and waits until its message has been taken, which keeps messages in order and lets systemd see whose child it was.
 */
export class Notifier {
  readonly #manager: Manager | undefined;
  readonly #logger: Logger;
  /** Where systemd-notify is looked for. */
  readonly #path: string | undefined;
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;
  #failing = false;
  #stopping = false;
  #status = (): string => '';

  private constructor(manager: Manager | undefined, logger: Logger, path: string | undefined) {
    this.#manager = manager;
    this.#logger = logger;
    this.#path = path;
  }

  /** Reads and removes the variables: they are meant for this process and none of its children. */
  static takeFrom(env: NodeJS.ProcessEnv, logger: Logger): Notifier {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: usec, WATCHDOG_PID: pid, PATH: path } = env;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) Reflect.deleteProperty(env, name);
    if (socket === undefined || socket === '') return new Notifier(undefined, logger, path);
    const isWatched = Number(usec) > 0 && (pid === undefined || Number(pid) === process.pid);
    const watchdogMs = isWatched ? Number(usec) / USEC_PER_MS : undefined;
    return new Notifier({ socket, watchdogMs }, logger, path);
  }

  /** It serves; from now on the watchdog is told so as long as the event loop turns. `status` is asked anew each time. */
  start(status: () => string): void {
    this.#status = status;
    this.#send(['READY=1', this.#statusLine]);
    const watchdogMs = this.#manager?.watchdogMs;
    if (watchdogMs === undefined) return;
    // sd_watchdog_enabled(3): "at half of the interval".
    setInterval(() => {
      if (this.#waiting === 0) this.#send(['WATCHDOG=1', this.#statusLine]);
    }, watchdogMs / 2).unref();
  }

  /** A reload that it was asked for begins and ends, well or not: `work` never rejects. */
  async reload(work: () => Promise<void>): Promise<void> {
    if (this.#stopping) return work();
    // `Type=notify-reload` compares it with the time of its SIGHUP, by the clock that hrtime has on Linux.
    const usec = process.hrtime.bigint() / BigInt(USEC_PER_MS);
    this.#send(['RELOADING=1', `MONOTONIC_USEC=${usec}`, 'STATUS=reloading']);
    await work();
    if (this.#isStopping()) return;
    this.#send(['READY=1', this.#statusLine]);
  }

  /** It drains, which takes `withinMs` at most: `TimeoutStopSec` is extended if it is shorter. */
  stop(withinMs: number): void {
    this.#stopping = true;
    this.#send(['STOPPING=1', `EXTEND_TIMEOUT_USEC=${withinMs * USEC_PER_MS}`, this.#statusLine]);
  }

  /** Settles when everything has been told. */
  get told(): Promise<void> {
    return this.#last;
  }

  get #statusLine(): string {
    return `STATUS=${this.#status()}`;
  }

  // A call, as TypeScript does not see that the field changes while something is awaited.
  #isStopping(): boolean {
    return this.#stopping;
  }

  #send(assignments: readonly string[]): void {
    const { socket } = this.#manager ?? {};
    if (socket === undefined) return;
    this.#waiting++;
    this.#last = this.#last.then(async () => {
      const failure = await run(assignments, {
        NOTIFY_SOCKET: socket,
        ...(this.#path === undefined ? {} : { PATH: this.#path }),
      });
      this.#waiting--;
      if (failure !== undefined && !this.#failing) this.#logger.log('sd_notify_failed', { error: failure });
      this.#failing = failure !== undefined;
    });
  }
}

/** One datagram with these assignments. Returns what went wrong, never rejects. */
function run(assignments: readonly string[], env: NodeJS.ProcessEnv): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile(PROGRAM, assignments, { env, timeout: NOTIFY_MS }, (error, _stdout, stderr) => {
      resolve(error ? stderr.trim() || error.message : undefined);
    });
  });
}
