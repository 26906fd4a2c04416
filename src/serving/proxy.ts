import { isIP } from 'node:net';
import { hostname } from 'node:os';

import { AdminServer, type AdminSource, type Readiness } from '../admin/admin-server.js';
import { describeForwarding, upstreamsOf } from '../config/forwarding.js';
import type { LoadResult } from '../config/load.js';
import type { Address, Configuration, HostPort, ListenerConfiguration, Problem } from '../config/model.js';
import { formatProblem } from '../config/problem.js';
import { formatEnd } from '../connection/peer-address.js';
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

/** What a proxy is made of; the command that runs it says where each comes from. */
export interface ProxyOptions {
  /** Reads the configuration, at the start and again for each reload that asks for it. */
  readonly load: () => Promise<LoadResult>;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Who serves the connections; asked once, for the first configuration. */
  readonly trafficFor: (configuration: Configuration) => Traffic;
  /** Sockets that need not be bound. */
  readonly sockets: InheritedSockets;
  /** Aborted when the process ends before the proxy has started: nothing more is bound then. */
  readonly giveUp: AbortSignal;
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

/** A listener, and the id that its connections know it by. */
interface NumberedListener {
  readonly id: number;
  readonly listener: Listener;
}

/** What is served at the moment. */
interface Running {
  readonly state: ProxyState;
  /** By `bindKey`, in the configuration's order. */
  readonly listeners: ReadonlyMap<string, NumberedListener>;
  readonly admin: AdminServer | undefined;
}

/**
 * The composition root: configuration in, running proxy out.
 *
 * A reload reads and validates everything, has the traffic prepare for it, binds what is new, and then puts it in force
 * at once; whatever fails before that changes nothing.
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

  /** Whether it drains, or has. */
  get draining(): boolean {
    return this.#phase === 'draining';
  }

  /** Connections that are open, on all listeners. */
  get connectionCount(): number {
    return this.#traffic?.connectionCount ?? 0;
  }

  /** The state in force. */
  get state(): ProxyState {
    return this.#running.state;
  }

  /** Where the listeners are bound, in the configuration's order. */
  get listenUrls(): readonly string[] {
    const { state, listeners } = this.#running;
    return keyed(state.listeners).map(
      ([key, { configuration }]) => listeners.get(key)?.listener.url(configuration.listen) ?? '',
    );
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
   * Accepts no more and waits for all connections to end, at most `graceful_restart_timeout`; what is left is cut. A reload
   * that is under way is not waited for, and changes nothing any more.
   * @returns how many were cut
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
    const timer = setTimeout(() => (cut = this.cutAll('graceful_restart_timeout has passed')), timeoutMs);
    await this.#traffic?.drain('the proxy stops');
    clearTimeout(timer);
    return cut;
  }

  /** Breaks every connection off and says how many there were. */
  cutAll(why: string): number {
    return this.#traffic?.cutAll(why) ?? 0;
  }

  /** Closes the admin port, the last thing to go. */
  closeAdmin(): void {
    this.#running.admin?.close();
  }

  async #apply(what: 'everything' | 'files'): Promise<void> {
    const { load, logger, metrics, trafficFor, sockets } = this.#options;
    const previous = this.#running;
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
      const message = `cannot change while the proxy runs, it is ${previous.state.configuration.workers}: restart it`;
      return refuse([{ severity: 'error', key: ['workers'], message, value: configuration.workers }]);
    }
    const inherited = await sockets.assign(addressesOf(configuration));
    // Nobody would accept what connects to it.
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
    let next: Running;
    try {
      this.#throwIfDraining();
      next = await this.#bind(state, ids, inherited, previous);
      if (this.draining) closeNew(next, previous);
      this.#throwIfDraining();
    } catch (error) {
      prepared.discard();
      throw error;
    }

    const health = checksOf(state);

    // Everything is in place: from here on nothing can fail.
    this.#running = next;
    next.admin?.answerTo(adminHostsOf(configuration));
    logger.configure(configuration.logging);
    this.#report(next, previous);
    prepared.publish();
    this.#openListeners(next, previous);
    this.#health.configure(health);
    this.#validity.configure(datedOfState(state));
    for (const problem of [...(loaded?.problems ?? []), ...problems])
      if (problem.isAboutDates !== true) logger.log('configuration_warning', { error: describe(problem) });
    metrics.lastReload.set(Date.now() / 1000);
  }

  /** @throws ProxyFailure if a drain has begun during a reload or the start */
  #throwIfDraining(): void {
    if (this.draining) throw new ProxyFailure('system', ['the proxy is draining']);
  }

  /** Listeners that are kept keep their id. */
  #numberListeners(state: ProxyState, previous: Running): ReadonlyMap<string, number> {
    return new Map(
      keyed(state.listeners).map(([key]) => [key, previous.listeners.get(key)?.id ?? ++this.#lastListenerId]),
    );
  }

  /** Binds what the new state needs and the former did not have; after a failure nothing of it is left. */
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

  /** Says what comes and goes. */
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
    // Many containers have ::1 for localhost in their hosts file, but no IPv6.
    if (absent.length > 0 && !(listen.scheme !== 'unix' && listen.host === 'localhost'))
      logger.log('listening_incomplete', {
        listener: listen.url,
        error: `The name has addresses that this machine does not have: ${absent.join(', ')}.`,
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

/** Closes the listeners of a state that does not take effect. */
function closeNew(next: Running, previous: Running): void {
  for (const [key, { listener }] of next.listeners) if (!previous.listeners.has(key)) listener.close();
  if (next.admin !== previous.admin) next.admin?.close();
}

/** The names that clients use for the admin port. */
function adminHostsOf({ prometheusListenAddr, adminHosts }: Configuration): string[] {
  const name = hostname();
  const [shortName = name] = name.split('.', 1);
  return [...(prometheusListenAddr ? [prometheusListenAddr.host] : []), name, shortName, ...adminHosts];
}

/** All that a configuration listens on. */
function addressesOf({ listeners, prometheusListenAddr }: Configuration): (Address | HostPort)[] {
  return [...listeners.map(({ listen }) => listen), ...(prometheusListenAddr ? [prometheusListenAddr] : [])];
}

/** Each listener under what it binds; several on port 0 of a host are told apart by their order. */
function keyed(listeners: readonly ListenerState[]): [string, ListenerState][] {
  const seen = new Map<string, number>();
  return listeners.map((listener) => {
    const key = bindKey(listener.configuration);
    const nth = seen.get(key) ?? 0;
    seen.set(key, nth + 1);
    return [`${key} ${nth}`, listener];
  });
}

/** What the traffic is told of a state. */
function planOf(state: ProxyState, ids: ReadonlyMap<string, number>): ServingPlan {
  const listeners = keyed(state.listeners).map(([key, { configuration, server, upstream, fingerprint }]) => ({
    listenerId: ids.get(key) ?? 0,
    configuration,
    server,
    upstream,
    fingerprint,
  }));
  return { listeners, logging: state.configuration.logging };
}

/** The address that a name is bound to. */
function addressesField(listen: Address, listener: Listener | undefined): { addresses?: string } {
  const isName = listen.scheme !== 'unix' && isIP(listen.host) === 0;
  return isName && listener ? { addresses: listener.addresses.join(', ') } : {};
}

/**
 * Changes the access to the sockets that are kept.
 * @throws ProxyFailure; all have their previous access then
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
      await orFailure(
        listener.setAccess(access),
        `cannot change who may connect to ${configuration.listen.url}`,
      );
      changed.push({ listener, access: before.access });
    }
  } catch (error) {
    for (const { listener, access } of changed) await listener.setAccess(access).catch(() => undefined);
    throw error;
  }
}

/** The log field of a listener that was inherited. */
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
