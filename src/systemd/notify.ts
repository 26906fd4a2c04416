import { execFile } from 'node:child_process';

import { NOTIFY_MS } from '../limits.js';
import type { Logger } from '../telemetry/logger.js';

const PROGRAM = 'systemd-notify';
const USEC_PER_MS = 1000;

/** The service manager's settings from the environment. */
interface Manager {
  /** `NOTIFY_SOCKET`. */
  readonly socket: string;
  /** `WATCHDOG_USEC` in ms, if this process is the watched one. */
  readonly watchdogMs: number | undefined;
}

/**
 * Notifies systemd of the state of the process (sd_notify(3)). Does nothing if systemd has not started the process.
 *
 * Node has no unix datagram sockets, so notifications are sent by `systemd-notify`, which `NotifyAccess=all` allows. It is part
 * of systemd and waits until its message has been processed. This keeps messages in order and lets systemd identify the sender
 * as a child of this process.
 */
export class Notifier {
  readonly #manager: Manager | undefined;
  readonly #logger: Logger;
  /** The `PATH` in which systemd-notify is looked up. */
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

  /** Reads and removes the variables, which are meant for this process but not for its children. */
  static takeFrom(env: NodeJS.ProcessEnv, logger: Logger): Notifier {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: usec, WATCHDOG_PID: pid, PATH: path } = env;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) Reflect.deleteProperty(env, name);
    if (socket === undefined || socket === '') return new Notifier(undefined, logger, path);
    const isWatched = Number(usec) > 0 && (pid === undefined || Number(pid) === process.pid);
    const watchdogMs = isWatched ? Number(usec) / USEC_PER_MS : undefined;
    return new Notifier({ socket, watchdogMs }, logger, path);
  }

  /** Reports that the process is ready. The watchdog is then notified as long as the event loop runs, with the current `status`. */
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

  /** Reports the start and the end of a requested reload, whether it succeeds or not. `work` never rejects. */
  async reload(work: () => Promise<void>): Promise<void> {
    if (this.#stopping) return work();
    // `Type=notify-reload` compares this time with that of its SIGHUP. On Linux, hrtime uses the same clock.
    const usec = process.hrtime.bigint() / BigInt(USEC_PER_MS);
    this.#send(['RELOADING=1', `MONOTONIC_USEC=${usec}`, 'STATUS=reloading']);
    await work();
    if (this.#isStopping()) return;
    this.#send(['READY=1', this.#statusLine]);
  }

  /** Reports a drain, which takes at most `withinMs`. A shorter `TimeoutStopSec` is extended. */
  stop(withinMs: number): void {
    this.#stopping = true;
    this.#send(['STOPPING=1', `EXTEND_TIMEOUT_USEC=${withinMs * USEC_PER_MS}`, this.#statusLine]);
  }

  /** Settles when all notifications have been sent. */
  get told(): Promise<void> {
    return this.#last;
  }

  get #statusLine(): string {
    return `STATUS=${this.#status()}`;
  }

  // A method, because TypeScript does not know that the field can change during an await.
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

/** Sends one datagram with these assignments. Resolves to the error message if this fails; never rejects. */
function run(assignments: readonly string[], env: NodeJS.ProcessEnv): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile(PROGRAM, assignments, { env, timeout: NOTIFY_MS }, (error, _stdout, stderr) => {
      resolve(error ? stderr.trim() || error.message : undefined);
    });
  });
}
