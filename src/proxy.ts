import { AdminServer, type Readiness } from './admin/admin-server.js';
import { DEFAULT_LOGGING } from './config/defaults.js';
import type { LoadResult } from './config/load.js';
import type { HostPort, Problem } from './config/model.js';
import { formatProblem } from './config/problem.js';
import { ConnectionEnd } from './connection/close-reason.js';
import { Listener, type ConnectionBudget } from './connection/listener.js';
import type { ConnectionStatus } from './connection/status.js';
import { bindKey, buildState, expiries, type ListenerState, type ProxyState } from './state.js';
import { ListenerTelemetry } from './telemetry/listener-telemetry.js';
import type { Logger } from './telemetry/logger.js';
import type { Metrics, Snapshot } from './telemetry/metrics.js';
import { RpcLog } from './telemetry/rpc/rpc-log.js';

/** What a proxy is made of; the command that runs it says where each comes from. */
export interface ProxyOptions {
  /** Reads the configuration, at the start and again for each reload that asks for it. */
  readonly load: () => Promise<LoadResult>;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly budget: ConnectionBudget;
}

/** A proxy that cannot start or reload: one line for each reason. `kind` decides the exit code. */
export class ProxyFailure extends Error {
  readonly kind: 'configuration' | 'system';
  readonly lines: readonly string[];

  constructor(kind: 'configuration' | 'system', lines: readonly string[]) {
    super(lines.join('\n'));
    this.kind = kind;
    this.lines = lines;
  }
}

/** What is served at the moment. */
interface Running {
  readonly state: ProxyState;
  readonly listeners: ReadonlyMap<string, Listener>;
  readonly admin: AdminServer | undefined;
}

/**
 * The composition root: configuration in, running proxy out.
 *
 * A reload reads and validates everything, binds what is new, and then puts it in force by one assignment; whatever
 * fails before that changes nothing.
 */
export class Proxy {
  readonly #options: ProxyOptions;
  readonly #rpcLog: RpcLog;
  /** Listeners that accept no more and have connections still. */
  readonly #retired = new Set<Listener>();
  #running: Running = { state: EMPTY_STATE, listeners: new Map(), admin: undefined };
  #phase: 'starting' | 'running' | 'draining' = 'starting';
  #changing: Promise<void> = Promise.resolve();

  private constructor(options: ProxyOptions) {
    this.#options = options;
    this.#rpcLog = new RpcLog(options.logger, DEFAULT_LOGGING.rpc);
  }

  /**
   * Starts a proxy; when the promise resolves, everything is bound.
   * @throws ProxyFailure
   */
  static async start(options: ProxyOptions): Promise<Proxy> {
    const proxy = new Proxy(options);
    options.metrics.observe({ reportBytes: () => proxy.#reportBytes(), snapshot: () => proxy.#snapshot() });
    await proxy.reload('everything');
    proxy.#phase = 'running';
    options.logger.info({}, 'ready');
    return proxy;
  }

  /** The state in force. */
  get state(): ProxyState {
    return this.#running.state;
  }

  /** Where the listeners are bound, in the configuration's order. */
  get listenUrls(): readonly string[] {
    return [...this.#running.listeners.values()].map(({ url }) => url);
  }

  /** Where the admin port is bound, as `http://host:port`. */
  get adminUrl(): string | undefined {
    return this.#running.admin?.url;
  }

  /**
   * Puts what is on disk in force: `everything`, the configuration too, or only the `files` that the configuration
   * in force names. Calls run one after the other. While draining nothing happens.
   * @throws ProxyFailure; nothing has changed then
   */
  reload(what: 'everything' | 'files'): Promise<void> {
    const change = this.#changing.then(() => (this.#phase === 'draining' ? undefined : this.#apply(what)));
    this.#changing = change.catch(() => undefined);
    return change;
  }

  /**
   * Accepts no more and waits for all connections to end, at most `graceful_restart_timeout`; what is left is cut.
   * @returns how many were cut
   */
  async drain(): Promise<number> {
    this.#phase = 'draining';
    await this.#changing;
    const { logger } = this.#options;
    const timeoutMs = this.#running.state.configuration.gracefulRestartTimeoutMs;
    logger.info(
      { connections: this.#connectionCount() },
      'draining: no new connections, waiting for the open ones',
    );
    const listeners = [...this.#running.listeners.values(), ...this.#retired];
    let cut = 0;
    const timer = setTimeout(() => (cut = this.cutAll('graceful_restart_timeout has passed')), timeoutMs);
    await Promise.all(listeners.map((listener) => listener.close('the proxy stops')));
    clearTimeout(timer);
    return cut;
  }

  /** Breaks every connection off and says how many there were. */
  cutAll(why: string): number {
    const listeners = [...this.#running.listeners.values(), ...this.#retired];
    return listeners.reduce(
      (sum, listener) => sum + listener.cutAll(new ConnectionEnd('drain_timeout', 'proxy', why)),
      0,
    );
  }

  /** Closes the admin port, the last thing to go. */
  closeAdmin(): void {
    this.#running.admin?.close();
  }

  async #apply(what: 'everything' | 'files'): Promise<void> {
    const { load, logger, metrics } = this.#options;
    const previous = this.#running;
    const loaded = what === 'everything' ? await load() : undefined;
    const describe = (problem: Problem): string =>
      formatProblem(problem, loaded ?? { file: undefined, locate: () => undefined });
    const configuration = loaded ? loaded.configuration : previous.state.configuration;
    if (!configuration)
      throw new ProxyFailure('configuration', errorsOf(loaded?.problems ?? []).map(describe));

    const { state, problems } = await buildState(
      configuration,
      previous.state,
      (listener) => new ListenerTelemetry(listener, metrics, logger, this.#rpcLog),
    );
    if (!state) throw new ProxyFailure('configuration', errorsOf(problems).map(describe));
    const next = await this.#bind(state, previous);

    this.#running = next;
    this.#publish(next, previous);
    for (const problem of [...(loaded?.problems ?? []), ...problems]) logger.warn({}, describe(problem));
    metrics.lastReload.set(Date.now() / 1000);
  }

  /** Binds what the new state needs and the former did not have; after a failure nothing of it is left. */
  async #bind(state: ProxyState, previous: Running): Promise<Running> {
    const bound: { close(why: string): unknown }[] = [];
    const listeners = new Map<string, Listener>();
    try {
      for (const [key, { settings }] of keyed(state.listeners)) {
        let listener = previous.listeners.get(key);
        if (!listener) {
          const { listen } = settings.configuration;
          listener = await orFailure(
            Listener.listen(settings, this.#options.budget),
            `cannot listen on ${listen.url}`,
          );
          bound.push(listener);
        }
        listeners.set(key, listener);
      }
      const wanted = state.configuration.prometheusListenAddr;
      let admin = sameAddress(wanted, previous.state.configuration.prometheusListenAddr)
        ? previous.admin
        : undefined;
      if (wanted && !admin) {
        admin = await orFailure(
          AdminServer.listen(wanted, {
            expose: (format) => this.#options.metrics.expose(format),
            readiness: () => this.#readiness(),
            connections: () => this.#statuses(),
          }),
          `cannot listen on prometheus_listen_addr ${wanted.host}:${wanted.port}`,
        );
        bound.push(admin);
      }
      return { state, listeners, admin };
    } catch (error) {
      for (const one of bound) one.close('nothing of the new configuration holds');
      throw error;
    }
  }

  /** Everything is in place: from here on nothing can fail. */
  #publish(next: Running, previous: Running): void {
    const { logger } = this.#options;
    logger.configure(next.state.configuration.logging);
    this.#rpcLog.configure(next.state.configuration.logging.rpc);
    for (const [key, { settings }] of keyed(next.state.listeners)) {
      const listener = next.listeners.get(key);
      listener?.publish(settings);
      if (!listener || previous.listeners.has(key)) continue;
      const { listen, forward } = settings.configuration;
      logger.info({ listener: listen.url, listen: listener.url, forward: forward.url }, 'listening');
    }
    for (const [key, listener] of previous.listeners) {
      if (next.listeners.has(key)) continue;
      logger.info(
        { listener: listener.settings.configuration.listen.url, connections: listener.connectionCount },
        'listener removed',
      );
      this.#retired.add(listener);
      void listener.close('its listener was removed').then(() => this.#retired.delete(listener));
    }
    if (next.admin !== previous.admin) {
      previous.admin?.close();
      if (next.admin)
        logger.info({ listener: 'prometheus_listen_addr', listen: next.admin.url }, 'listening');
    }
  }

  #readiness(): Readiness {
    const reasons: string[] = [];
    if (this.#phase === 'starting') reasons.push('starting');
    if (this.#phase === 'draining') reasons.push('draining');
    for (const listener of this.#running.listeners.values()) {
      if (!listener.listening) reasons.push(`not listening on ${listener.settings.configuration.listen.url}`);
    }
    return { ready: reasons.length === 0, reasons };
  }

  #connectionCount(): number {
    return [...this.#running.listeners.values(), ...this.#retired].reduce(
      (sum, { connectionCount }) => sum + connectionCount,
      0,
    );
  }

  #statuses(): ConnectionStatus[] {
    return [...this.#running.listeners.values(), ...this.#retired].flatMap((listener) => [
      ...listener.statuses(),
    ]);
  }

  #reportBytes(): void {
    for (const listener of [...this.#running.listeners.values(), ...this.#retired]) listener.reportBytes();
  }

  #snapshot(): Snapshot {
    const listeners = [...this.#running.listeners.values(), ...this.#retired].map((listener) => {
      const { listen } = listener.settings.configuration;
      return { listener: listen.url, type: listen.scheme, connections: listener.connectionCount };
    });
    return {
      listeners,
      ...expiries(this.#running.state),
      droppedLogLines: this.#options.logger.sink.droppedLines,
    };
  }
}

const EMPTY_STATE: ProxyState = {
  configuration: {
    listeners: [],
    prometheusListenAddr: undefined,
    gracefulRestartTimeoutMs: 0,
    logging: DEFAULT_LOGGING,
  },
  listeners: [],
  signature: '',
};

/** Each listener under what it binds; several on port 0 of a host are told apart by their order. */
function keyed(listeners: readonly ListenerState[]): [string, ListenerState][] {
  const seen = new Map<string, number>();
  return listeners.map((listener) => {
    const key = bindKey(listener.settings.configuration);
    const nth = seen.get(key) ?? 0;
    seen.set(key, nth + 1);
    return [`${key} ${nth}`, listener];
  });
}

function errorsOf(problems: readonly Problem[]): Problem[] {
  return problems.filter(({ severity }) => severity === 'error');
}

function sameAddress(one: HostPort | undefined, other: HostPort | undefined): boolean {
  return one?.host === other?.host && one?.port === other?.port;
}

async function orFailure<T>(work: Promise<T>, what: string): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw new ProxyFailure('system', [`${what}: ${error instanceof Error ? error.message : String(error)}`]);
  }
}
