import { listConnections, listRpcs, type OpenKind, type OpenPage } from '../telemetry/open-pages.js';
import { networkCheck } from '../config/cidr.js';
import { DEFAULT_LOGGING } from '../config/defaults.js';
import type { Problem } from '../config/model.js';
import type { Accepted } from '../connection/accepted.js';
import type { ConnectionWatcher, ConnectionBudget } from '../connection/admission.js';
import { ConnectionEnd } from '../connection/connection-end.js';
import { Connection } from '../connection/connection.js';
import { OpenConnections } from './open-connections.js';
import type { OpenExceeded } from './connection-quota.js';
import type { ListenerSettings, OpeningSettings } from '../connection/opening-settings.js';
import type { ConnectionStatus } from '../connection/connection-status.js';
import { CallPool } from '../inspect/call-pool.js';
import { Frontend } from '../http/frontend.js';
import { HttpConnection, type HttpConnectionSettings } from '../http/http-connection.js';
import { CurrentService, type HttpService } from '../http/service.js';
import { UpstreamPool } from '../http/upstream-pool.js';
import { HttpTelemetry } from '../telemetry/http-telemetry.js';
import { ListenerTelemetry } from '../telemetry/listener-telemetry.js';
import type { Logger } from '../telemetry/logger.js';
import type { Metrics, Snapshot } from '../telemetry/metrics.js';
import { RpcLog } from '../telemetry/rpc/rpc-log.js';
import type { AuditTrail } from '../telemetry/audit/audit-trail.js';
import { isMutating } from '../telemetry/audit/audited-calls.js';
import { UnauthenticatedLines } from '../telemetry/unauthenticated-lines.js';
import { identityCheck } from '../policy/identity-pattern.js';
import { NO_RULE, type Policy } from '../policy/policy.js';
import { CurrentPolicy } from '../policy/policy-judge.js';
import { CurrentMetadata, UpstreamToken, type UpstreamMetadata } from '../policy/upstream-metadata.js';
import { gitalyAuthorization } from '../gitaly-client/gitaly-token.js';
import { JudgedFields } from '../inspect/grpc/fields.js';
import { RpcTable } from '../policy/rpc-table.js';
import { maxFollowedCalls } from '../process/memory-guard.js';
import type { ServerParts } from '../tls/material.js';
import { TlsTerminator } from '../tls/terminator.js';
import { createDialer } from '../upstream/dialer.js';
import { RouteTable } from '../upstream/route-table.js';
import { TlsClient } from '../upstream/tls-client.js';
import { PlanRefused, type ServingPlan, type ServedListener } from './serving-plan.js';
import { reuse, type HttpServing, type Reused, type Serving } from './reuse.js';
import type { PreparedPlan, Traffic } from './traffic.js';

/** Serves connections in this process. */
export class LocalTraffic implements Traffic {
  readonly workers = 1;
  readonly #metrics: Metrics;
  readonly #logger: Logger;
  readonly #rpcLog: RpcLog;
  readonly #lines: UnauthenticatedLines;
  readonly #budget: ConnectionBudget;
  readonly #audit: AuditTrail;
  readonly #onSessionsEnd: (listenerId: number, atMs: number) => void;
  readonly #calls: CallPool<{ readonly status: ConnectionStatus }>;
  readonly #frontend = new Frontend();
  /** By listener id: the listeners of the current plan. */
  #serving = new Map<number, Serving>();
  /** By listener id: the connections of the current plan, and of removed listeners that still have open connections. */
  readonly #connections = new Map<number, OpenConnections>();

  /** `onSessionsEnd` notifies other processes that TLS sessions of a listener must not be resumed from this time on. */
  constructor(
    metrics: Metrics,
    logger: Logger,
    budget: ConnectionBudget,
    audit: AuditTrail,
    onSessionsEnd: (listenerId: number, atMs: number) => void = () => undefined,
  ) {
    this.#metrics = metrics;
    this.#logger = logger;
    this.#rpcLog = new RpcLog(logger, DEFAULT_LOGGING.rpc);
    this.#lines = new UnauthenticatedLines(logger);
    this.#budget = budget;
    this.#audit = audit;
    this.#onSessionsEnd = onSessionsEnd;
    this.#calls = new CallPool(maxFollowedCalls(), () => budget.isMemoryLow);
  }

  prepare(plan: ServingPlan): Promise<PreparedPlan> {
    return new Promise((resolve) => resolve(this.#prepare(plan)));
  }

  accept(listenerId: number, accepted: Accepted, watcher?: ConnectionWatcher): void {
    const connections = this.#serving.has(listenerId) ? this.#connections.get(listenerId) : undefined;
    if (connections) {
      connections.accept(accepted, watcher);
      return;
    }
    // The listener was removed while the socket was being sent to this process.
    accepted.raw.destroy();
    watcher?.ended();
  }

  /** Closes an open connection that exceeds a limit. */
  refuse(listenerId: number, id: number, exceeded: OpenExceeded): void {
    this.#connections.get(listenerId)?.refuse(id, exceeded);
  }

  /** TLS sessions of a listener that began before this time are not resumed after it. */
  endSessions(listenerId: number, atMs: number): void {
    this.#serving.get(listenerId)?.settings.terminator?.endSessions(atMs);
  }

  async drain(why: string): Promise<void> {
    await Promise.all([...this.#connections.values()].map((connections) => connections.drain(why)));
  }

  cutAll(why: string): number {
    const end = new ConnectionEnd('drain_timeout', 'proxy', why);
    return [...this.#connections.values()].reduce((sum, connections) => sum + connections.cutAll(end), 0);
  }

  get connectionCount(): number {
    return [...this.#connections.values()].reduce((sum, { connectionCount }) => sum + connectionCount, 0);
  }

  connectionsOn(listenerId: number): number {
    return this.#connections.get(listenerId)?.connectionCount ?? 0;
  }

  listeners(): Snapshot['listeners'] {
    return [...this.#connections.values()].map(({ settings, connectionCount }) => {
      const { listen } = settings.configuration;
      return { listener: listen.url, type: listen.scheme, connections: connectionCount };
    });
  }

  notReadyReasons(): string[] {
    return [];
  }

  report(): Promise<void> {
    for (const connections of this.#connections.values()) connections.reportBytes();
    return Promise.resolve();
  }

  open(kind: OpenKind, limit: number): Promise<OpenPage> {
    const nowMs = performance.now();
    if (kind === 'rpcs') return Promise.resolve(listRpcs(this.#calls, limit, nowMs));
    const oldest = [...this.#connections.values()].flatMap((connections): ConnectionStatus[] =>
      connections.oldest(limit),
    );
    return Promise.resolve(listConnections(oldest, this.connectionCount, limit, nowMs));
  }

  /** @throws PlanRefused */
  #prepare({ listeners, logging, rpcs, audit }: ServingPlan): PreparedPlan {
    const table = new RpcTable(rpcs);
    const serving = new Map<number, Serving>();
    const problems: Problem[] = [];
    for (const listener of listeners) {
      try {
        serving.set(listener.listenerId, this.#build(listener, table, audit?.isRequired ?? false));
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        const message = `the TLS library refuses the settings: ${reason}`;
        problems.push({ severity: 'error', key: listener.configuration.key, message });
      }
    }
    if (problems.length > 0) throw new PlanRefused(problems);
    return {
      publish: () => {
        this.#rpcLog.configure(logging.rpc);
        this.#metrics.rpcs.methods.configure(table);
        this.#publish(serving);
      },
      discard: () => undefined,
    };
  }

  #publish(serving: Map<number, Serving>): void {
    this.#serving = serving;
    for (const [listenerId, { settings, http, policy, metadata }] of serving) {
      http?.current.publish(http.service);
      const connections = this.#connections.get(listenerId);
      if (connections && !isJudgedAlike(connections.settings, settings)) connections.drainUnjudged();
      settings.policy.publish(policy);
      settings.metadata.publish(metadata);
      if (policy) this.#countFromZero(settings.configuration.listen.url, policy);
      if (connections) connections.publish(settings);
      else this.#connections.set(listenerId, new OpenConnections(settings, this.#budget));
    }
    for (const [listenerId, connections] of this.#connections) {
      if (serving.has(listenerId)) continue;
      void connections.drain('its listener was removed').then(() => this.#connections.delete(listenerId));
    }
  }

  #countFromZero(listener: string, { settings }: Policy): void {
    const counts = this.#metrics.rpcs.of(listener);
    for (const rule of [...settings.rules.map(({ name }) => name), NO_RULE]) counts.decisionsOf(rule);
  }

  /** @throws the error of the TLS library */
  #build(listener: ServedListener, rpcs: RpcTable, isAuditRequired: boolean): Serving {
    const { configuration, server, upstream, upstreamToken: token } = listener;
    const { forwarding, timeouts, proxyProtocol } = configuration;
    const kept = reuse(this.#serving.get(listener.listenerId), listener);
    const tls = upstream && new TlsClient(upstream);
    const current = kept.policy ?? new CurrentPolicy();
    const policy = current.prepare(configuration.policy, rpcs);
    const metadata: UpstreamMetadata = {
      token:
        token === undefined ? undefined : new UpstreamToken((unixMs) => gitalyAuthorization(token, unixMs)),
      identityFields: configuration.upstreamMetadata.map(({ name }) => name),
    };
    const isJudged =
      isAuditRequired || policy !== undefined || token !== undefined || metadata.identityFields.length > 0;
    const opening: OpeningSettings = {
      configuration,
      terminator: kept.terminator ?? (server && this.#terminator(listener.listenerId, server)),
      allowsClient: identityCheck(configuration.clientAllow),
      policy: current,
      metadata: kept.metadata ?? new CurrentMetadata(),
      mustRefuseUnaudited: (path) =>
        this.#audit.mustRefuse && isMutating(this.#metrics.rpcs.methods.find(path).operation),
      judgedFields: isJudged ? new JudgedFields(metadata.identityFields) : undefined,
      expectsProxyHeader: networkCheck(proxyProtocol.acceptFrom),
      routes: new RouteTable(forwarding, (address) => createDialer(address, tls, timeouts.dialMs)),
      events:
        kept.events ??
        new ListenerTelemetry(
          configuration,
          this.#metrics,
          this.#logger,
          this.#rpcLog,
          this.#lines,
          this.#audit,
        ),
      calls: this.#calls,
    };
    if (!configuration.http)
      return {
        listener,
        policy,
        metadata,
        settings: { ...opening, connect: relaying(opening) },
        http: undefined,
      };
    const http = this.#httpServing(opening, kept);
    const served = { ...opening, frontend: this.#frontend, current: http.current };
    return { listener, policy, metadata, settings: { ...opening, connect: servingHttp(served) }, http };
  }

  #terminator(listenerId: number, server: ServerParts): TlsTerminator {
    return new TlsTerminator(server, {
      now: Date.now,
      onSessionsEnd: (atMs) => this.#onSessionsEnd(listenerId, atMs),
    });
  }

  #httpServing({ configuration, routes, events }: OpeningSettings, kept: Reused): HttpServing {
    const dialer = routes.only;
    if (!dialer) throw new Error('an HTTP listener must have exactly one upstream');
    const { listen } = configuration;
    const upstream = dialer.address;
    const service: HttpService = {
      configuration,
      upstream,
      pool: kept.pool ?? new UpstreamPool(dialer, events, this.#budget),
      requests:
        kept.requests ?? new HttpTelemetry({ listen, upstream }, this.#metrics, this.#logger, this.#lines),
      events,
      budget: this.#budget,
    };
    return { service, current: kept.current ?? new CurrentService() };
  }
}

/** Whether the calls on connections under previous settings are judged by all that applies now. */
function isJudgedAlike(previous: OpeningSettings, next: OpeningSettings): boolean {
  return !next.judgedFields || (previous.judgedFields?.hasReserved(next.judgedFields) ?? false);
}

function relaying(settings: OpeningSettings): ListenerSettings['connect'] {
  return (accepted, admission) => new Connection(accepted, settings, admission);
}

function servingHttp(settings: HttpConnectionSettings): ListenerSettings['connect'] {
  return (accepted, admission) => new HttpConnection(accepted, settings, admission);
}
