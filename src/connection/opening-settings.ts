import type { ListenerConfiguration } from '../config/model.js';
import type { TlsTerminator } from '../tls/terminator.js';
import type { Dialer } from '../upstream/dialer.js';
import type { RouteTable } from '../upstream/route-table.js';
import type { CallPool } from '../inspect/call-pool.js';
import type { CallJudging } from '../inspect/grpc/call.js';
import type { Accepted } from './accepted.js';
import type { Admission } from './admission.js';
import type { ConnectionEvents } from './connection-events.js';
import type { ConnectionFacts, ServedConnection, ConnectionStatus } from './connection-status.js';

/** The settings under which a connection is admitted. A reload creates new ones; open connections keep theirs. */
export interface OpeningSettings {
  readonly configuration: ListenerConfiguration;
  /** Set if and only if the listener is `tls://` or `https://`. */
  readonly terminator: TlsTerminator | undefined;
  /** Whether a client at this address must begin with a PROXY header; the address of a unix socket is `undefined`. */
  readonly expectsProxyHeader: (address: string | undefined) => boolean;
  /** Maps a server name to an upstream. */
  readonly routes: RouteTable<Dialer>;
  readonly events: ConnectionEvents;
  /** Returns the judge of a client's calls. Set if and only if the listener refuses calls or adds fields to them. */
  readonly judgingOf?: (facts: ConnectionFacts) => CallJudging;
  /** The calls that this process inspects. */
  readonly calls: CallPool<CallOwner>;
}

/** The connection that a call belongs to, for the page of open calls. */
export interface CallOwner {
  readonly status: ConnectionStatus;
}

/** The settings with which a listener accepts connections. */
export interface ListenerSettings extends OpeningSettings {
  /** Creates the gRPC or HTTP connection for an accepted socket. */
  readonly connect: (accepted: Accepted, admission: Admission) => ServedConnection;
}
