import { hostname } from 'node:os';

import { AdminServer, type AdminSource, type Readiness } from '../admin/admin-server.js';
import { upstreamsOf } from '../config/forwarding.js';
import type { LoadResult } from '../config/load.js';
import type { Address, Configuration, HostPort, Problem } from '../config/model.js';
import { formatProblem } from '../config/problem.js';
import { formatEnd } from '../connection/peer-address.js';
import type { AuditLog } from './audit-log.js';
import { HealthWatch } from '../gitaly-client/health-watch.js';
import type { Assignment, InheritedSockets } from '../systemd/inherited-sockets.js';
import { mergeTraffic } from '../policy/observed-traffic.js';
import type { Logger } from '../telemetry/logger.js';
import type { Metrics, Snapshot } from '../telemetry/metrics.js';
import { bindState, closeSocketsNotIn, NOTHING_BOUND, type BoundState } from './bound-state.js';
import { logListeners } from './log-listeners.js';
import { ProxyFailure } from './proxy-failure.js';
import { PlanRefused, TrafficFailure } from './serving-plan.js';
import { checksOf, datedOfState, expiries, loadState, planOf, type ProxyState } from './serving-state.js';
import type { PreparedPlan, Traffic } from './traffic.js';
import { ValidityWatch } from './validity-watch.js';

/** The dependencies of a proxy, supplied by the command that runs it. */
export interface ProxyOptions {
  /** Reads the configuration: at startup and for each reload of `everything`. */
  readonly load: () => Promise<LoadResult>;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly audit: AuditLog;
  /** Returns the traffic that serves the connections. Called once, with the first configuration. */
  readonly trafficFor: (configuration: Configuration) => Traffic;
  /** Sockets that are already bound. */
  readonly sockets: InheritedSockets;
  /** Aborted if the process stops before the proxy has started. Nothing more is bound then. */
  readonly giveUp: AbortSignal;
}

/** A state that was read from disk and is valid. */
interface ReadState {
  readonly state: ProxyState;
  readonly inherited: Assignment<Address | HostPort>;
  /** Problems that are not errors. */
  readonly warnings: readonly Problem[];
  /** Formats a problem with its line in the file that was read. */
  readonly describe: (problem: Problem) => string;
}

/**
 * The composition root: builds a running proxy from a configuration.
 *
 * A reload reads and validates everything, lets the traffic prepare, binds new addresses, and then applies everything at once.
 * A failure before that point changes nothing.
 */
export class Proxy {
  readonly #options: ProxyOptions;
  readonly #health: HealthWatch;
  readonly #validity: ValidityWatch;
  #traffic: Traffic | undefined;
  #lastListenerId = 0;
  #bound: BoundState = NOTHING_BOUND;
  #phase: 'starting' | 'running' | 'draining' = 'starting';
  #changing: Promise<void> = Promise.resolve();

  private constructor(options: ProxyOptions) {
    this.#options = options;
    this.#health = new HealthWatch(options.logger);
    this.#validity = new ValidityWatch(options.logger);
  }

  /**
   * Starts a proxy; when the promise resolves, everything is bound.
   * @throws ProxyFailure
   */
  static async start(options: ProxyOptions): Promise<Proxy> {
    const proxy = new Proxy(options);
    options.metrics.observe({
      report: async () => proxy.#traffic?.report(),
      snapshot: () => proxy.#snapshot(),
    });
    options.giveUp.addEventListener('abort', () => {
      if (proxy.#phase === 'starting') proxy.#phase = 'draining';
    });
    await proxy.reload('everything');
    proxy.#throwIfDraining();
    proxy.#phase = 'running';
    options.logger.log('ready', {});
    return proxy;
  }

  /** Whether the proxy is draining or drained. */
  get draining(): boolean {
    return this.#phase === 'draining';
  }

  /** The number of open connections on all listeners. */
  get connectionCount(): number {
    return this.#traffic?.connectionCount ?? 0;
  }

  /** The state in effect. */
  get state(): ProxyState {
    return this.#bound.state;
  }

  /** The bound URL of each listener, in the configuration's order. */
  get listenUrls(): readonly string[] {
    const { state, listeners } = this.#bound;
    return state.listeners.map(
      ({ key, configuration }) => listeners.get(key)?.listener.url(configuration.listen) ?? '',
    );
  }

  /** The bound URL of the admin port, `http://host:port`. */
  get adminUrl(): string | undefined {
    return this.#bound.admin?.url;
  }

  /**
   * Applies the state on disk: `everything`, including the configuration, or only the `files` named by the configuration in
   * effect. Calls run one at a time. Does nothing while draining.
   * @throws ProxyFailure; nothing has changed then
   */
  reload(what: 'everything' | 'files'): Promise<void> {
    const change = this.#changing.then(() => (this.#phase === 'draining' ? undefined : this.#apply(what)));
    this.#changing = change.catch(() => undefined);
    return change;
  }

  /**
   * Stops accepting and waits up to `graceful_restart_timeout` for all connections to end. Remaining connections are aborted. A
   * reload in progress is not awaited and no longer takes effect.
   * @returns the number of aborted connections
   */
  async drain(): Promise<number> {
    this.#phase = 'draining';
    const timeoutMs = this.#bound.state.configuration.gracefulRestartTimeoutMs;
    this.#health.stop();
    this.#validity.stop();
    this.#options.logger.log('draining', { connections: this.#traffic?.connectionCount ?? 0 });
    for (const { listener } of this.#bound.listeners.values()) listener.close();
    this.#bound.admin?.drain();
    let cut = 0;
    const timer = setTimeout(() => (cut = this.cutAll('graceful_restart_timeout exceeded')), timeoutMs);
    await this.#traffic?.drain('the proxy is stopping');
    clearTimeout(timer);
    return cut;
  }

  /** Aborts all connections and returns their number. */
  cutAll(why: string): number {
    return this.#traffic?.cutAll(why) ?? 0;
  }

  /** Closes the admin port. Called last. */
  closeAdmin(): void {
    this.#bound.admin?.close();
  }

  async #apply(what: 'everything' | 'files'): Promise<void> {
    const previous = this.#bound;
    // Whether or not the configuration can be applied: the file was moved away.
    if (what === 'everything') await this.#options.audit.reopen();
    const read = await this.#read(what, previous.state);
    const { state, inherited } = read;
    this.#throwIfDraining();
    const ids = this.#numberListeners(state, previous);
    const prepared = await this.#prepare(read, ids);
    let next: BoundState;
    try {
      this.#throwIfDraining();
      const { descriptors } = inherited;
      const listenAdmin = this.#listenAdmin.bind(this);
      next = await bindState(state, previous, { ids, descriptors, listenAdmin });
      if (this.draining) closeSocketsNotIn(previous, next);
      this.#throwIfDraining();
    } catch (error) {
      prepared.discard();
      throw error;
    }
    this.#publish(read, next, prepared);
  }

  /**
   * Reads and validates the configuration, if it is to be applied, and the files that it names.
   * @throws ProxyFailure
   */
  async #read(what: 'everything' | 'files', previous: ProxyState): Promise<ReadState> {
    const loaded = what === 'everything' ? await this.#options.load() : undefined;
    const describe = (problem: Problem): string =>
      formatProblem(problem, loaded ?? { file: undefined, locate: () => undefined });
    const configuration = loaded ? loaded.configuration : previous.configuration;
    if (!configuration) throw refusal(loaded?.problems ?? [], describe);
    if (this.#traffic && configuration.workers !== previous.configuration.workers) {
      const current = previous.configuration.workers;
      const message = `cannot change while the proxy is running (currently ${current}): restart the proxy`;
      const value = configuration.workers;
      throw refusal([{ severity: 'error', key: ['workers'], message, value }], describe);
    }
    const inherited = await this.#options.sockets.assign(addressesOf(configuration));
    // Connections to an unclaimed socket would never be accepted.
    if (inherited.unclaimed.length > 0) throw new ProxyFailure('configuration', inherited.unclaimed);
    const { state, problems } = await loadState(configuration, previous);
    if (!state) throw refusal(problems, describe);
    return { state, inherited, warnings: [...(loaded?.problems ?? []), ...problems], describe };
  }

  /** @throws ProxyFailure */
  async #prepare({ state, describe }: ReadState, ids: ReadonlyMap<string, number>): Promise<PreparedPlan> {
    this.#traffic ??= this.#options.trafficFor(state.configuration);
    try {
      const plan = await this.#traffic.prepare(planOf(state, ids));
      const audit = await this.#options.audit.prepare(state.configuration.audit);
      if ('severity' in audit) {
        plan.discard();
        throw refusal([audit], describe);
      }
      return {
        discard: () => {
          plan.discard();
          audit.discard();
        },
        publish: () => {
          audit.publish();
          plan.publish();
        },
      };
    } catch (error) {
      if (error instanceof PlanRefused) throw refusal(error.problems, describe);
      if (error instanceof TrafficFailure) throw new ProxyFailure('system', [error.message]);
      throw error;
    }
  }

  #publish({ state, warnings, describe }: ReadState, next: BoundState, prepared: PreparedPlan): void {
    const { logger, metrics } = this.#options;
    const { configuration } = state;
    const previous = this.#bound;
    const health = checksOf(state);
    // Nothing can fail from here on.
    this.#bound = next;
    next.admin?.answerTo(adminHostsOf(configuration));
    logger.configure(configuration.logging);
    logListeners(logger, next, previous, (id) => this.#traffic?.connectionsOn(id) ?? 0);
    prepared.publish();
    for (const [key, { id, listener }] of next.listeners)
      if (!previous.listeners.has(key)) listener.open((accepted) => this.#traffic?.accept(id, accepted));
    closeSocketsNotIn(next, previous);
    this.#health.configure(health);
    this.#validity.configure(datedOfState(state));
    for (const problem of warnings)
      if (problem.isAboutDates !== true) logger.log('configuration_warning', { error: describe(problem) });
    metrics.lastReload.set(Date.now() / 1000);
  }

  /** @throws ProxyFailure if draining began during a reload or startup */
  #throwIfDraining(): void {
    if (this.draining) throw new ProxyFailure('system', ['the proxy is draining']);
  }

  /** Assigns an id to each listener. Kept listeners keep theirs. */
  #numberListeners({ listeners }: ProxyState, previous: BoundState): ReadonlyMap<string, number> {
    return new Map(
      listeners.map(({ key }) => [key, previous.listeners.get(key)?.id ?? ++this.#lastListenerId]),
    );
  }

  #listenAdmin(address: HostPort, inherited: readonly number[]): Promise<AdminServer> {
    const source: AdminSource = {
      expose: (format) => this.#options.metrics.expose(format),
      readiness: () => this.#readiness(),
      open: async (kind, limit) => (await this.#traffic?.open(kind, limit)) ?? { open: 0, entries: [] },
      traffic: async (limit) => (await this.#traffic?.observed(limit)) ?? mergeTraffic([], limit),
      refused: ({ error, peer, count }) => {
        const fields = {
          error,
          'peer.address': formatEnd(peer),
          count,
        };
        this.#options.logger.log('admin_request_refused', fields);
      },
    };
    return AdminServer.listen(address, source, inherited);
  }

  #readiness(): Readiness {
    const reasons: string[] = [];
    if (this.#phase === 'starting') reasons.push('starting');
    if (this.#phase === 'draining') reasons.push('draining');
    for (const { key, configuration } of this.#bound.state.listeners) {
      if (!this.#bound.listeners.get(key)?.listener.listening)
        reasons.push(`not listening on ${configuration.listen.url}`);
    }
    reasons.push(...(this.#traffic?.notReadyReasons() ?? []));
    if (this.#bound.state.configuration.healthChecks?.readinessRequiresUpstream === true)
      reasons.push(...this.#health.notReadyReasons());
    return { ready: reasons.length === 0, reasons };
  }

  #snapshot(): Snapshot {
    return {
      listeners: this.#traffic?.listeners() ?? [],
      upstreams: this.#bound.state.listeners.flatMap(({ configuration: { listen, forwarding } }) =>
        upstreamsOf(forwarding).map(({ url }) => ({ listener: listen.url, upstream: url })),
      ),
      ...expiries(this.#bound.state),
      outOfDate: this.#validity.outOfDate(),
      health: this.#health.states(),
      droppedLogLines: this.#options.logger.sink.droppedLines,
      workers: this.#traffic?.workers ?? 0,
    };
  }
}

function refusal(problems: readonly Problem[], describe: (problem: Problem) => string): ProxyFailure {
  const errors = problems.filter(({ severity }) => severity === 'error');
  return new ProxyFailure('configuration', errors.map(describe));
}

/** The host names that clients may use for the admin port. */
function adminHostsOf({ prometheusListenAddr, adminHosts }: Configuration): string[] {
  const name = hostname();
  const [shortName = name] = name.split('.', 1);
  return [...(prometheusListenAddr ? [prometheusListenAddr.host] : []), name, shortName, ...adminHosts];
}

/** All addresses that a configuration listens on. */
function addressesOf({ listeners, prometheusListenAddr }: Configuration): (Address | HostPort)[] {
  return [...listeners.map(({ listen }) => listen), ...(prometheusListenAddr ? [prometheusListenAddr] : [])];
}
