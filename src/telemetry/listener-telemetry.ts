import type { ListenerConfiguration } from '../config/model.js';
import type {
  ClientReport,
  ConnectionEvents,
  ConnectionReport,
  DropReason,
  InspectedPeer,
  TlsFacts,
} from '../connection/connection-events.js';
import type { ConnectionProtocol } from '../connection/protocol.js';
import type { ClientCertificateResult } from '../tls/client-certificate.js';
import type { HandshakeFailure } from '../tls/handshake-failure.js';
import type { UpstreamFailureReason } from '../upstream/failure.js';
import type { InspectionFailureReason } from '../inspect/connection-inspector.js';
import type { InspectionEvents } from '../inspect/inspection-events.js';
import { STATUS_CODES } from '../inspect/grpc/grpc-status.js';
import { isLimit } from '../inspect/limit.js';
import { DROP_LOG_MS, MAX_LOGGED } from '../limits.js';
import type { ClientProperties, ObservedClient } from '../policy/observed-traffic.js';
import type { DecidedCall } from '../policy/policy-judge.js';
import { cut } from '../printable.js';
import { AuditedCalls } from './audit/audited-calls.js';
import type { AuditTrail } from './audit/audit-trail.js';
import type { EventFields } from './events.js';
import type { Logger } from './logger.js';
import type { Metrics } from './metrics.js';
import { CallLines } from './rpc/call-lines.js';
import { ConnectionRpcs } from './rpc/connection-rpcs.js';
import type { ListenerCounts } from './rpc/listener-counts.js';
import type { RpcLog } from './rpc/rpc-log.js';
import { SampledLines } from './sampled-lines.js';
import type { UnauthenticatedLines } from './unauthenticated-lines.js';

/** Turns the connection reports of one listener into metrics and log lines. */
export class ListenerTelemetry implements ConnectionEvents {
  readonly #metrics: Metrics;
  readonly #logger: Logger;
  readonly #rpcLog: RpcLog;
  readonly #lines: UnauthenticatedLines;
  readonly #audit: AuditTrail;
  /** Whether connections and their calls are also counted under Gitaly's own metric names: true if they are relayed. */
  readonly #isRelay: boolean;
  readonly #listener: string;
  readonly #type: string;
  #dropsLoggedAtMs = Number.NEGATIVE_INFINITY;
  #dropsUnlogged = 0;
  readonly #sampled = new SampledLines();

  constructor(
    configuration: Pick<ListenerConfiguration, 'listen' | 'http'>,
    metrics: Metrics,
    logger: Logger,
    rpcLog: RpcLog,
    lines: UnauthenticatedLines,
    audit: AuditTrail,
  ) {
    this.#metrics = metrics;
    this.#logger = logger;
    this.#listener = configuration.listen.url;
    this.#type = configuration.listen.scheme;
    this.#rpcLog = rpcLog;
    this.#lines = lines;
    this.#audit = audit;
    this.#isRelay = configuration.http === undefined;
    // Initialised to 0, so that rates are correct from the first connection.
    if (this.#isRelay) {
      metrics.rpcs.of(this.#listener);
      metrics.gitalyConnections.inc({ type: this.#type }, 0);
    }
    for (const direction of ['to_upstream', 'to_client']) {
      metrics.connectionBytes.inc({ listener: this.#listener, direction }, 0);
    }
  }

  accepted(): void {
    if (this.#isRelay) this.#metrics.gitalyConnections.inc({ type: this.#type });
  }

  dropped(reason: DropReason, peerAddress: string): void {
    this.#metrics.connectionsDropped.inc({ listener: this.#listener, reason });
    this.#dropsUnlogged++;
    const now = performance.now();
    // A flood of refusals must not cause a flood of log lines.
    if (now - this.#dropsLoggedAtMs < DROP_LOG_MS) return;
    this.#dropsLoggedAtMs = now;
    const fields = {
      listener: this.#listener,
      'peer.address': peerAddress,
      'close.reason': reason,
      count: this.#dropsUnlogged,
    };
    this.#dropsUnlogged = 0;
    this.#logger.log('connection_refused', fields);
  }

  handshakeFinished(facts: TlsFacts, seconds: number): void {
    const listener = this.#listener;
    this.#metrics.handshakes.inc({ listener, version: facts.version, resumed: String(facts.resumed) });
    this.#metrics.handshakeSeconds.observe({ listener }, seconds);
  }

  handshakeFailed(reason: HandshakeFailure): void {
    this.#metrics.handshakeFailures.inc({ listener: this.#listener, reason });
  }

  clientCertificate(result: ClientCertificateResult): void {
    this.#metrics.clientCertificates.inc({ listener: this.#listener, result });
  }

  clientReported({ fault, detail, fix, peerAddress }: ClientReport): void {
    const source = peerAddress.replace(/:\d+$/u, '');
    const count = this.#sampled.admit(`${fault} ${source}`, performance.now());
    if (count === undefined || !this.#lines.admits('connection', `would_refuse_${fault}`, peerAddress))
      return;
    const fields = { listener: this.#listener, 'peer.address': peerAddress, result: fault, count };
    this.#logger.log('client_would_be_refused', { ...fields, error: cut(detail, MAX_LOGGED.detail), fix });
  }

  clientAdmitted(properties: Omit<ClientProperties, 'listener'>): ObservedClient {
    return this.#metrics.observed.connected({ listener: this.#listener, ...properties });
  }

  protocolDetected(protocol: ConnectionProtocol): void {
    this.#metrics.connections.inc({ listener: this.#listener, type: this.#type, protocol });
  }

  upstreamConnected(upstream: string, seconds: number): void {
    const listener = this.#listener;
    this.#metrics.upstreamConnectSeconds.observe({ listener, upstream }, seconds);
    this.#metrics.upstreams.seen({ listener, upstream }, { up: true, atMs: Date.now() });
  }

  upstreamFailed(upstream: string, reason: UpstreamFailureReason): void {
    const listener = this.#listener;
    this.#metrics.upstreamConnectFailures.inc({ listener, upstream, reason });
    this.#metrics.upstreams.seen({ listener, upstream }, { up: false, atMs: Date.now() });
  }

  inspecting({
    upstream,
    peerAddress,
    identity,
    observed,
    isAuthenticated,
  }: InspectedPeer): InspectionEvents {
    const peer = {
      listener: this.#listener,
      upstream,
      'peer.address': peerAddress,
      'peer.identity': identity,
    };
    const admits = (reason: string): boolean =>
      isAuthenticated() || this.#lines.admits('call', reason, peerAddress);
    const lines = new CallLines(this.#rpcLog, peer, admits);
    const audit = new AuditedCalls(this.#audit, peer);
    return new ConnectionRpcs(this.#metrics.rpcs.methods, this.#rpcs, lines, audit, observed);
  }

  callDecided({ outcome, decision, service, method, correlationId }: DecidedCall, peer: InspectedPeer): void {
    const { rule, identity, refusal, operation, isKnown } = decision;
    this.#rpcs.decided(rule, outcome);
    const { methods } = this.#metrics.rpcs;
    const observed = methods.find(`/${service}/${method}`);
    // The calls to RPCs that no label names are observed when they end.
    if (observed !== methods.other) peer.observed?.decided(observed, outcome, rule);
    if (!refusal) return;
    const { upstream, peerAddress } = peer;
    // A client could make up RPCs, so those that are unknown are one subject.
    const subject = isKnown ? `${service}/${method}` : '';
    const key = `${outcome} ${refusal.code} ${identity ?? ''} ${subject}`;
    const count = this.#sampled.admit(key, performance.now());
    if (count === undefined) return;
    if (!peer.isAuthenticated() && !this.#lines.admits('call', `${outcome} by policy`, peerAddress)) return;
    const fields = {
      listener: this.#listener,
      upstream,
      'peer.address': peerAddress,
      'peer.identity': peer.identity,
      'grpc.service': cut(service, MAX_LOGGED.grpcName),
      'grpc.method': cut(method, MAX_LOGGED.grpcName),
      'grpc.method_operation': isKnown ? operation : 'unknown',
      'grpc.code': STATUS_CODES[refusal.code] ?? 'Unknown',
      'policy.rule': rule,
      'policy.identity': identity,
      correlation_id: correlationId,
      count,
      error: sentence(refusal.reason),
      fix: sentence(refusal.fix),
    };
    this.#logger.log(outcome === 'denied' ? 'call_refused' : 'call_would_be_refused', fields);
  }

  inspectorLost(reason: InspectionFailureReason, peer: InspectedPeer): void {
    const { upstream, peerAddress, identity } = peer;
    const { lost } = this.#rpcs;
    lost.set(reason, (lost.get(reason) ?? 0) + 1);
    // A connection that is closed because of a limit has its own log line.
    if (isLimit(reason)) return;
    if (!peer.isAuthenticated() && !this.#lines.admits('inspection', reason, peerAddress)) return;
    const fields = {
      listener: this.#listener,
      upstream,
      'peer.address': peerAddress,
      'peer.identity': identity,
      'inspection.reason': reason,
    };
    this.#logger.log('inspection_lost', fields);
  }

  bytes(toUpstream: number, toClient: number): void {
    const listener = this.#listener;
    this.#metrics.connectionBytes.inc({ listener, direction: 'to_upstream' }, toUpstream);
    this.#metrics.connectionBytes.inc({ listener, direction: 'to_client' }, toClient);
  }

  closed(report: ConnectionReport): void {
    const listener = this.#listener;
    const { reason, initiator, protocol } = report;
    if (protocol === undefined)
      this.#metrics.connections.inc({ listener, type: this.#type, protocol: 'unknown' });
    this.#metrics.connectionsClosed.inc({ listener, reason, initiator });
    this.#metrics.connectionDuration.observe({ listener }, report.durationMs / 1000);
    if (reason === 'max_unauthenticated_connections' || reason === 'max_connections_per_source')
      this.dropped(reason, report.peerAddress);
    if (reason === 'internal_error') this.#metrics.internalErrors.inc({ scope: 'connection' });
    if (!this.#logger.isEnabled('connection_closed', { 'close.reason': reason })) return;
    // Internal errors are always logged, even if an unauthenticated client triggers them.
    const isLimited = !report.isAuthenticated && reason !== 'internal_error';
    if (isLimited && !this.#lines.admits('connection', reason, report.peerAddress)) return;
    this.#logger.log('connection_closed', this.#fields(report));
  }

  get #rpcs(): ListenerCounts {
    return this.#metrics.rpcs.of(this.#listener);
  }

  #fields(report: ConnectionReport): EventFields<'connection_closed'> {
    // The detail of an internal error is a stack trace, which is not cut.
    const detail = report.reason === 'internal_error' ? report.detail : cut(report.detail, MAX_LOGGED.detail);
    return {
      listener: this.#listener,
      upstream: report.upstream,
      'peer.address': report.peerAddress,
      'peer.via': report.viaAddress,
      'peer.identity': report.identity,
      protocol: report.protocol ?? 'unknown',
      'tls.version': report.tls?.version,
      'tls.cipher': report.tls?.cipher,
      'tls.resumed': report.tls?.resumed,
      server_name: report.serverName,
      'bytes.to_upstream': report.bytesToUpstream,
      'bytes.to_client': report.bytesToClient,
      duration_ms: Math.round(report.durationMs * 1000) / 1000,
      'close.reason': report.reason,
      'close.initiator': report.initiator,
      'close.detail': detail === '' ? undefined : detail,
      'close.advice': report.advice,
    };
  }
}

/** A text as a sentence for the log. */
function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;
}
