import { isIP } from 'node:net';
import { hostname } from 'node:os';

import { AdminServer, type AdminSource, type Readiness } from '../admin/admin-server.js';
import { describeForwarding, upstreamsOf } from '../config/forwarding.js';
import type { LoadResult } from '../config/load.js';
import type { Address, Configuration, HostPort, ListenerConfiguration, Problem } from '../config/model.js';
import { formatProblem } from '../config/problem.js';
import { formatEnd } from '../connection/peer-address.js';
import type { AuditLog } from './audit-log.js';
import { Listener } from './listener.js';
import type { SocketAccess } from './unix-socket.js';
import { HealthWatch } from '../gitaly-client/health-watch.js';
import type { Assignment, InheritedSockets } from '../systemd/inherited-sockets.js';
import {
  bindKey,
  checksOf,
  datedOfState,
  expiries,
  loadState,
  type ListenerState,
  type ProxyState,
  EMPTY_STATE,
} from './serving-state.js';
import type { Logger } from '../telemetry/logger.js';
import type { Metrics, Snapshot } from '../telemetry/metrics.js';
import { PlanRefused, TrafficFailure, type ServingPlan } from './serving-plan.js';
import type { Traffic } from './traffic.js';
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

/** A failed start or reload, with one line per reason. `kind` determines the exit code. */
export class ProxyFailure extends Error {
  readonly kind: 'configuration' | 'system';
  readonly lines: readonly string[];

  constructor(kind: 'configuration' | 'system', lines: readonly string[]) {
    super(lines.join('\n'));
    this.kind = kind;
    this.lines = lines;
  }
}

/** A listener and its id, which its connections refer to. */
interface NumberedListener {
  readonly id: number;
  readonly listener: Listener;
}

/** The state in effect, with its listeners. */
interface Running {
  readonly state: ProxyState;
  /** By `bindKey`, in the configuration's order. */
  readonly listeners: ReadonlyMap<string, NumberedListener>;
  readonly admin: AdminServer | undefined;
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
  #running: Running = { state: EMPTY_STATE, listeners: new Map(), admin: undefined };
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
    return this.#running.state;
  }

  /** The bound URL of each listener, in the configuration's order. */
  get listenUrls(): readonly string[] {
    const { state, listeners } = this.#running;
    return keyed(state.listeners).map(
      ([key, { configuration }]) => listeners.get(key)?.listener.url(configuration.listen) ?? '',
    );
  }

  /** The bound URL of the admin port, `http://host:port`. */
  get adminUrl(): string | undefined {
    return this.#running.admin?.url;
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
    const timeoutMs = this.#running.state.configuration.gracefulRestartTimeoutMs;
    this.#health.stop();
    this.#validity.stop();
    this.#options.logger.log('draining', { connections: this.#traffic?.connectionCount ?? 0 });
    for (const { listener } of this.#running.listeners.values()) listener.close();
    this.#running.admin?.drain();
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
    this.#running.admin?.close();
  }

  async #apply(what: 'everything' | 'files'): Promise<void> {
    const { load, logger, metrics, audit, trafficFor, sockets } = this.#options;
    const previous = this.#running;
    // Whether or not the configuration can be applied: the file was moved away.
    if (what === 'everything') await audit.reopen();
    const loaded = what === 'everything' ? await load() : undefined;
    const describe = (problem: Problem): string =>
      formatProblem(problem, loaded ?? { file: undefined, locate: () => undefined });
    const refuse = (problems: readonly Problem[]): never => {
      const errors = problems.filter(({ severity }) => severity === 'error');
      throw new ProxyFailure('configuration', errors.map(describe));
    };
    const configuration = loaded ? loaded.configuration : previous.state.configuration;
    if (!configuration) return refuse(loaded?.problems ?? []);
    if (this.#traffic && configuration.workers !== previous.state.configuration.workers) {
      const current = previous.state.configuration.workers;
      const message = `cannot change while the proxy is running (currently ${current}): restart the proxy`;
      return refuse([{ severity: 'error', key: ['workers'], message, value: configuration.workers }]);
    }
    const inherited = await sockets.assign(addressesOf(configuration));
    // Connections to an unclaimed socket would never be accepted.
    if (inherited.unclaimed.length > 0) throw new ProxyFailure('configuration', inherited.unclaimed);
    const { state, problems } = await loadState(configuration, previous.state);
    if (!state) return refuse(problems);
    this.#throwIfDraining();

    this.#traffic ??= trafficFor(configuration);
    const ids = this.#numberListeners(state, previous);
    const prepared = await this.#traffic.prepare(planOf(state, ids)).catch((error: unknown) => {
      if (error instanceof PlanRefused) return refuse(error.problems);
      if (error instanceof TrafficFailure) throw new ProxyFailure('system', [error.message]);
      throw error;
    });
    const preparedAudit = await audit.prepare(configuration.audit);
    if ('severity' in preparedAudit) {
      prepared.discard();
      return refuse([preparedAudit]);
    }
    let next: Running;
    try {
      this.#throwIfDraining();
      next = await this.#bind(state, ids, inherited, previous);
      if (this.draining) closeNew(next, previous);
      this.#throwIfDraining();
    } catch (error) {
      prepared.discard();
      preparedAudit.discard();
      throw error;
    }

    const health = checksOf(state);

    // Nothing can fail from here on.
    this.#running = next;
    next.admin?.answerTo(adminHostsOf(configuration));
    logger.configure(configuration.logging);
    this.#report(next, previous);
    preparedAudit.publish();
    prepared.publish();
    this.#openListeners(next, previous);
    this.#health.configure(health);
    this.#validity.configure(datedOfState(state));
    for (const problem of [...(loaded?.problems ?? []), ...problems])
      if (problem.isAboutDates !== true) logger.log('configuration_warning', { error: describe(problem) });
    metrics.lastReload.set(Date.now() / 1000);
  }

  /** @throws ProxyFailure if draining began during a reload or startup */
  #throwIfDraining(): void {
    if (this.draining) throw new ProxyFailure('system', ['the proxy is draining']);
  }

  /** Assigns an id to each listener. Kept listeners keep theirs. */
  #numberListeners(state: ProxyState, previous: Running): ReadonlyMap<string, number> {
    return new Map(
      keyed(state.listeners).map(([key]) => [key, previous.listeners.get(key)?.id ?? ++this.#lastListenerId]),
    );
  }

  /** Binds the addresses that the previous state did not have. After a failure none of them stays bound. */
  async #bind(
    state: ProxyState,
    ids: ReadonlyMap<string, number>,
    { descriptors }: Assignment<Address | HostPort>,
    previous: Running,
  ): Promise<Running> {
    const bound: { close(): void }[] = [];
    const listeners = new Map<string, NumberedListener>();
    try {
      for (const [key, { configuration, access }] of keyed(state.listeners)) {
        const former = previous.listeners.get(key);
        if (former) {
          listeners.set(key, former);
          continue;
        }
        const { listen } = configuration;
        const listener = await orFailure(
          Listener.bind(listen, { inherited: descriptors.get(listen) ?? [], access }),
          `cannot listen on ${listen.url}`,
        );
        bound.push(listener);
        listeners.set(key, { id: ids.get(key) ?? 0, listener });
      }
      const wanted = state.configuration.prometheusListenAddr;
      let admin = sameAddress(wanted, previous.state.configuration.prometheusListenAddr)
        ? previous.admin
        : undefined;
      if (wanted && !admin) {
        admin = await orFailure(
          this.#listenAdmin(wanted, descriptors.get(wanted) ?? []),
          `cannot listen on prometheus_listen_addr ${wanted.host}:${wanted.port}`,
        );
        bound.push(admin);
      }
      await changeAccess(state, listeners, previous);
      return { state, listeners, admin };
    } catch (error) {
      for (const one of bound) one.close();
      throw error;
    }
  }

  #listenAdmin(address: HostPort, inherited: readonly number[]): Promise<AdminServer> {
    const source: AdminSource = {
      expose: (format) => this.#options.metrics.expose(format),
      readiness: () => this.#readiness(),
      open: async (kind, limit) => (await this.#traffic?.open(kind, limit)) ?? { open: 0, entries: [] },
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

  /** Logs added and removed listeners. */
  #report(next: Running, previous: Running): void {
    const { logger } = this.#options;
    for (const [key, { configuration }] of keyed(next.state.listeners)) {
      if (previous.listeners.has(key)) continue;
      const { listen, forwarding } = configuration;
      const forward = describeForwarding(forwarding);
      const listener = next.listeners.get(key)?.listener;
      logger.log('listening', {
        listener: listen.url,
        listen: listener?.url(listen) ?? '',
        ...addressesField(listen, listener),
        forward,
        ...inheritedField(listener),
      });
      this.#warnOfListener(configuration, listener);
    }
    for (const [key, { configuration }] of keyed(previous.state.listeners)) {
      const gone = next.listeners.has(key) ? undefined : previous.listeners.get(key);
      if (!gone) continue;
      const connections = this.#traffic?.connectionsOn(gone.id) ?? 0;
      logger.log('listener_removed', { listener: configuration.listen.url, connections });
    }
    if (next.admin && next.admin !== previous.admin)
      logger.log('listening', {
        listener: 'prometheus_listen_addr',
        listen: next.admin.url,
        ...inheritedField(next.admin),
      });
  }

  #warnOfListener({ listen, socket }: ListenerConfiguration, listener: Listener | undefined): void {
    const { logger } = this.#options;
    const absent = listener?.absent ?? [];
    // In many containers the hosts file maps localhost to ::1 although IPv6 is disabled.
    if (absent.length > 0 && !(listen.scheme !== 'unix' && listen.host === 'localhost'))
      logger.log('listening_incomplete', {
        listener: listen.url,
        error: `The name resolves to addresses that are not assigned to this machine: ${absent.join(', ')}.`,
      });
    if (socket && listener?.isInherited === true)
      logger.log('socket_settings_ignored', { listener: listen.url });
  }

  #openListeners(next: Running, previous: Running): void {
    for (const [key, { id, listener }] of next.listeners)
      if (!previous.listeners.has(key)) listener.open((accepted) => this.#traffic?.accept(id, accepted));
    for (const [key, { listener }] of previous.listeners) if (!next.listeners.has(key)) listener.close();
    if (next.admin !== previous.admin) previous.admin?.close();
  }

  #readiness(): Readiness {
    const reasons: string[] = [];
    if (this.#phase === 'starting') reasons.push('starting');
    if (this.#phase === 'draining') reasons.push('draining');
    for (const [key, { configuration }] of keyed(this.#running.state.listeners)) {
      if (!this.#running.listeners.get(key)?.listener.listening)
        reasons.push(`not listening on ${configuration.listen.url}`);
    }
    reasons.push(...(this.#traffic?.notReadyReasons() ?? []));
    if (this.#running.state.configuration.healthChecks?.readinessRequiresUpstream === true)
      reasons.push(...this.#health.notReadyReasons());
    return { ready: reasons.length === 0, reasons };
  }

  #snapshot(): Snapshot {
    return {
      listeners: this.#traffic?.listeners() ?? [],
      upstreams: this.#running.state.listeners.flatMap(({ configuration: { listen, forwarding } }) =>
        upstreamsOf(forwarding).map(({ url }) => ({ listener: listen.url, upstream: url })),
      ),
      ...expiries(this.#running.state),
      outOfDate: this.#validity.outOfDate(),
      health: this.#health.states(),
      droppedLogLines: this.#options.logger.sink.droppedLines,
      workers: this.#traffic?.workers ?? 0,
    };
  }
}

/** Closes the new listeners of a state that is not applied. */
function closeNew(next: Running, previous: Running): void {
  for (const [key, { listener }] of next.listeners) if (!previous.listeners.has(key)) listener.close();
  if (next.admin !== previous.admin) next.admin?.close();
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

/** Listeners by `bindKey` and an index. The index distinguishes several listeners on port 0 of the same host. */
function keyed(listeners: readonly ListenerState[]): [string, ListenerState][] {
  const seen = new Map<string, number>();
  return listeners.map((listener) => {
    const key = bindKey(listener.configuration);
    const nth = seen.get(key) ?? 0;
    seen.set(key, nth + 1);
    return [`${key} ${nth}`, listener];
  });
}

/** The part of a state that the traffic needs. */
function planOf(state: ProxyState, ids: ReadonlyMap<string, number>): ServingPlan {
  const listeners = keyed(state.listeners).map(
    ([key, { configuration, server, upstream, upstreamToken, fingerprint }]) => ({
      listenerId: ids.get(key) ?? 0,
      configuration,
      server,
      upstream,
      upstreamToken,
      fingerprint,
    }),
  );
  const { logging, rpcs, audit } = state.configuration;
  return { listeners, logging, rpcs, audit: audit && { isRequired: audit.isRequired } };
}

/** The log field with the addresses that a host name is bound to. */
function addressesField(listen: Address, listener: Listener | undefined): { addresses?: string } {
  const isName = listen.scheme !== 'unix' && isIP(listen.host) === 0;
  return isName && listener ? { addresses: listener.addresses.join(', ') } : {};
}

/**
 * Changes the access to kept unix sockets.
 * @throws ProxyFailure; the previous access is restored then
 */
async function changeAccess(
  state: ProxyState,
  listeners: ReadonlyMap<string, NumberedListener>,
  previous: Running,
): Promise<void> {
  const former = new Map(keyed(previous.state.listeners));
  const changed: { readonly listener: Listener; readonly access: SocketAccess }[] = [];
  try {
    for (const [key, { configuration, access }] of keyed(state.listeners)) {
      const before = former.get(key);
      const listener = listeners.get(key)?.listener;
      if (!before || !listener) continue;
      await orFailure(listener.setAccess(access), `cannot change the access to ${configuration.listen.url}`);
      changed.push({ listener, access: before.access });
    }
  } catch (error) {
    for (const { listener, access } of changed) await listener.setAccess(access).catch(() => undefined);
    throw error;
  }
}

/** The log field of an inherited listener. */
function inheritedField(listener: { readonly isInherited: boolean } | undefined): { inherited?: true } {
  return listener?.isInherited === true ? { inherited: true } : {};
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
