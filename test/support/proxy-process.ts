import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { get, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { expect, onTestFinished } from 'vitest';
import { stringify } from 'yaml';

import { LogLines } from './log-lines.js';
import { Scrape } from './metrics.js';
import { temporaryDirectory } from './temporary-directory.js';

/** The built program. */
export const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

const POLL_MS = 20;

/** Where `npm run coverage` wants V8's counts of the programs. */
const { PROGRAMS_V8_COVERAGE } = process.env;
const COVERAGE = PROGRAMS_V8_COVERAGE === undefined ? {} : { NODE_V8_COVERAGE: PROGRAMS_V8_COVERAGE };

/** Variables that the shell of the tests may set, and that the program warns about. */
const NO_NODE_VARIABLES = { NODE_OPTIONS: '', NODE_EXTRA_CA_CERTS: '' };

/** `TEST_WORKERS=2 npm test`: this number of workers for every test whose configuration has none. */
const { TEST_WORKERS } = process.env;
const WORKERS = TEST_WORKERS === undefined ? {} : { workers: Number(TEST_WORKERS) };
const ADDED = { prometheus_listen_addr: '127.0.0.1:0', ...WORKERS };

/** How the program is started; all but the configuration has a default. */
export interface StartOptions {
  /** The configuration, written as YAML. `prometheus_listen_addr` is added if it is missing. */
  readonly configuration?: Readonly<Record<string, unknown>>;
  /** Arguments instead of `serve --config FILE`. */
  readonly args?: readonly string[];
  /** Arguments for Node, before the program. */
  readonly nodeArgs?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The working directory; by default that of the tests. */
  readonly directory?: string;
  /** The limit of open files (`ulimit -n`). */
  readonly openFiles?: number;
  /** A file, `/dev/full` for one, that takes the log instead of the test: `spawn` it, nothing can be waited for. */
  readonly logFile?: string;
  /** Descriptors of this process that the program inherits from 3 on, as from systemd. */
  readonly inherits?: readonly number[];
  /** Allows `advanceClock`; see `TEST_CLOCK`. */
  readonly hasTestClock?: boolean;
}

/** The running program, as its user sees it. It is ended with the test that started it, however that ends. */
export class ProxyProcess {
  readonly log: LogLines;
  readonly stderr: LogLines;
  readonly configurationPath: string;
  /** The exit code, once all that was written has been read. */
  readonly exited: Promise<number | null>;
  /** The exit code, whether or not the output is read. */
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  #descriptorsAtReady = 0;

  private constructor(child: ChildProcess, configurationPath: string) {
    if (!child.stdout || !child.stderr) throw new Error('the program was started without pipes');
    this.#child = child;
    this.configurationPath = configurationPath;
    this.log = new LogLines(child.stdout);
    this.stderr = new LogLines(child.stderr);
    this.exited = once(child, 'close').then(() => child.exitCode);
    this.ended = once(child, 'exit').then(() => child.exitCode);
  }

  /** Starts it and waits until everything is bound. */
  static async start(options: StartOptions): Promise<ProxyProcess> {
    const proxy = await ProxyProcess.spawn(options);
    await proxy.log.waitForEvent('ready').catch((error: unknown) => {
      throw new Error(`the program did not start: ${proxy.stderr.text}`, { cause: error });
    });
    proxy.#descriptorsAtReady = proxy.descriptors();
    return proxy;
  }

  /** Starts it and waits for nothing. */
  static async spawn(options: StartOptions): Promise<ProxyProcess> {
    const configurationPath = join(await temporaryDirectory(), 'gitaly-tls-proxy.yaml');
    await writeFile(configurationPath, stringify({ ...ADDED, ...options.configuration }));
    const args = [
      ...(options.nodeArgs ?? []),
      CLI,
      ...(options.args ?? ['serve', '--config', configurationPath]),
    ];
    const limit = options.openFiles === undefined ? '' : `ulimit -n ${options.openFiles}; `;
    const inherits = options.inherits ?? [];
    // The shell becomes the program, which keeps its process id.
    const activation = inherits.length === 0 ? '' : `export LISTEN_PID=$$ LISTEN_FDS=${inherits.length}; `;
    const redirection = options.logFile === undefined ? '' : ` > '${options.logFile}'`;
    const [command, commandArgs] =
      limit === '' && activation === '' && redirection === ''
        ? [process.execPath, args]
        : ['sh', ['-c', `${limit}${activation}exec "$0" "$@"${redirection}`, process.execPath, ...args]];
    const child = spawn(command, commandArgs, {
      stdio: ['ignore', 'pipe', 'pipe', ...inherits, ...(options.hasTestClock ? (['ipc'] as const) : [])],
      env: { ...process.env, ...NO_NODE_VARIABLES, ...COVERAGE, ...options.env },
      ...(options.directory === undefined ? {} : { cwd: options.directory }),
    });
    const proxy = new ProxyProcess(child, configurationPath);
    onTestFinished(async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await proxy.exited;
    });
    return proxy;
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('the program could not be started');
    return this.#child.pid;
  }

  /** The bound address of a listener, by its address in the configuration. */
  async address(listener: string): Promise<URL> {
    const line = await this.log.waitForEvent('listening', { listener });
    return new URL(String(line['listen']));
  }

  /** The port of a listener. */
  async port(listener: string): Promise<number> {
    return Number((await this.address(listener)).port);
  }

  /** The admin port, as `http://host:port`. */
  async adminUrl(): Promise<string> {
    return (await this.address('prometheus_listen_addr')).origin;
  }

  async scrape(): Promise<Scrape> {
    // No agent: the connection ends with the answer, and the program has closed its descriptor.
    const request = get(`${await this.adminUrl()}/metrics`, { agent: false });
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      request.once('error', reject);
    });
    return new Scrape(await text(response));
  }

  /** Scrapes until a predicate holds; the test's own time limit is the bound. */
  async scrapeUntil(predicate: (scrape: Scrape) => boolean): Promise<Scrape> {
    for (;;) {
      const scrape = await this.scrape();
      if (predicate(scrape)) return scrape;
      await delay(POLL_MS);
    }
  }

  /** Rewrites the configuration file; a SIGHUP applies it. */
  async configure(configuration: Readonly<Record<string, unknown>>): Promise<void> {
    await writeFile(this.configurationPath, stringify({ ...ADDED, ...configuration }));
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Advances the clock of a program that was started with `TEST_CLOCK`. Settles when the timers that were due have fired. */
  async advanceClock(ms: number): Promise<void> {
    const advanced = once(this.#child, 'message');
    this.#child.send({ advanceMs: ms });
    await advanced;
  }

  /** Stops reading the log, so that its pipe fills. */
  leaveLogUnread(): void {
    this.#child.stdout?.pause();
  }

  readLogAgain(): void {
    this.#child.stdout?.resume();
  }

  /** Closes the reading end of the log. */
  closeLog(): void {
    this.#child.stdout?.destroy();
  }

  /** Open file descriptors of the program. */
  descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** The processes that the program has started and that still run. */
  children(): number[] {
    const { pid } = this;
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  }

  /**
   * The end of a good test: no connection is open, descriptors are what they were at the start, and the program
   * ends with exit code 0 on SIGTERM.
   */
  async endsWithNothingLeaked(): Promise<void> {
    await this.scrapeUntil((scrape) => scrape.value('gitaly_tls_proxy_connections_active') === 0);
    while (this.descriptors() > this.#descriptorsAtReady) await delay(POLL_MS);
    this.signal('SIGTERM');
    expect(await this.exited).toBe(0);
  }
}
