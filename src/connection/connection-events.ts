import type { InspectionFailureReason } from '../inspect/connection-inspector.js';
import type { InspectionEvents } from '../inspect/inspection-events.js';
import type { ClientProperties, ObservedClient } from '../policy/observed-traffic.js';
import type { DecidedCall } from '../policy/policy-judge.js';
import type { ClientCertificateResult, ClientFault } from '../tls/client-certificate.js';
import type { HandshakeFailure } from '../tls/handshake-failure.js';
import type { UpstreamFailureReason } from '../upstream/failure.js';
import type { CloseReason, Initiator } from './connection-end.js';
import type { ConnectionProtocol } from './protocol.js';

/** The parameters that a handshake has negotiated. */
export interface TlsFacts {
  /** `TLSv1.2` or `TLSv1.3`. */
  readonly version: string;
  /** The standard name, as in RFC 8446 appendix B.4. */
  readonly cipher: string;
  readonly resumed: boolean;
}

/** The reason that a connection was refused at accept. */
export type DropReason =
  | 'max_connections'
  /** Too many connections have clients that are not authenticated yet. */
  | 'max_unauthenticated_connections'
  | 'max_connections_per_source'
  | 'descriptors'
  /** Memory is nearly exhausted. */
  | 'memory'
  | 'no_worker';

/** A connection that has ended, for logs and metrics. */
export interface ConnectionReport {
  readonly peerAddress: string;
  /** The load balancer's address, if a PROXY header named another one for the client. */
  readonly viaAddress: string | undefined;
  /** The name in the verified client certificate. */
  readonly identity: string | undefined;
  readonly protocol: ConnectionProtocol | undefined;
  readonly isAuthenticated: boolean;
  readonly serverName: string | undefined;
  /** The URL of the upstream that was chosen for it; `undefined` if it ended before that. */
  readonly upstream: string | undefined;
  readonly tls: TlsFacts | undefined;
  /** Plaintext bytes read from the client. */
  readonly bytesToUpstream: number;
  /** Plaintext bytes read from upstream. */
  readonly bytesToClient: number;
  readonly durationMs: number;
  readonly reason: CloseReason;
  readonly initiator: Initiator;
  readonly detail: string;
  /** The fix, if one is known. */
  readonly advice: string | undefined;
}

/** A client that is admitted although its certificate would be refused. */
export interface ClientReport {
  readonly fault: ClientFault;
  readonly detail: string;
  readonly fix: string;
  readonly peerAddress: string;
}

/** A client whose calls are followed. */
export interface InspectedPeer {
  /** The URL of the upstream that the calls go to. */
  readonly upstream: string;
  readonly peerAddress: string;
  readonly identity: string | undefined;
  /** Counts its calls. */
  readonly observed: ObservedClient | undefined;
  /** Whether the client is authenticated at the time of the call. */
  readonly isAuthenticated: () => boolean;
}

/** The events of the connections of one listener, for telemetry. Calls are synchronous and never throw. */
export interface ConnectionEvents {
  accepted(): void;
  dropped(reason: DropReason, peerAddress: string): void;
  handshakeFinished(facts: TlsFacts, seconds: number): void;
  handshakeFailed(reason: HandshakeFailure): void;
  clientCertificate(result: ClientCertificateResult): void;
  /** A client is admitted without an identity, or although `client_allow` does not name it, because `client_auth` is `report`. */
  clientReported(report: ClientReport): void;
  /** A client is admitted. Returns what counts its calls. */
  clientAdmitted(properties: Omit<ClientProperties, 'listener'>): ObservedClient;
  protocolDetected(protocol: ConnectionProtocol): void;
  /** `upstream`: its URL. */
  upstreamConnected(upstream: string, seconds: number): void;
  upstreamFailed(upstream: string, reason: UpstreamFailureReason): void;
  /** The calls of a connection are followed from now on. Returns the receiver of their events. */
  inspecting(peer: InspectedPeer): InspectionEvents;
  /** The policy has decided on a call. */
  callDecided(call: DecidedCall, peer: InspectedPeer): void;
  /** Calls of a connection cannot be followed, or its client has exceeded a limit. */
  inspectorLost(reason: InspectionFailureReason, peer: InspectedPeer): void;
  bytes(toUpstream: number, toClient: number): void;
  closed(report: ConnectionReport): void;
}
