import type { ListenerConfiguration } from '../config/model.js';
import type { TlsTerminator } from '../tls/terminator.js';
import type { Dialer } from '../upstream/dialer.js';
import type { RouteTable } from '../upstream/route-table.js';
import type { CallPool } from '../inspect/call-pool.js';
import type { JudgedFields } from '../inspect/grpc/fields.js';
import type { CurrentMetadata } from '../policy/upstream-metadata.js';
import type { CurrentPolicy } from '../policy/policy-judge.js';
import type { Accepted } from './accepted.js';
import type { Admission } from './admission.js';
import type { ConnectionEvents } from './connection-events.js';
import type { ServedConnection, ConnectionStatus } from './connection-status.js';

/** The settings under which a connection is admitted. A reload creates new ones; open connections keep theirs. */
export interface OpeningSettings {
  readonly configuration: ListenerConfiguration;
  /** Set if and only if the listener is `tls://` or `https://`. */
  readonly terminator: TlsTerminator | undefined;
  /** Whether a client at this address must begin with a PROXY header; the address of a unix socket is `undefined`. */
  readonly expectsProxyHeader: (address: string | undefined) => boolean;
  /** Whether a client with these identities may connect. */
  readonly allowsClient: (identities: readonly string[]) => boolean;
  /** The policy for calls, which a reload also changes for open connections. */
  readonly policy: CurrentPolicy;
  /** The fields that are added to calls, which a reload also changes for open connections. */
  readonly metadata: CurrentMetadata;
  /** Whether a call with this `:path` needs an audit line that cannot be written. */
  readonly mustRefuseUnaudited: (path: string) => boolean;
  /** The fields that are read of calls to judge them; `undefined`: calls are not judged. */
  readonly judgedFields: JudgedFields | undefined;
  /** Maps a server name to an upstream. */
  readonly routes: RouteTable<Dialer>;
  readonly events: ConnectionEvents;
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
