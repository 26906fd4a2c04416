import type { ListenerConfiguration } from '../config/model.js';
import type { TlsTerminator } from '../tls/terminator.js';
import type { Dialer } from '../upstream/dialer.js';
import type { RouteTable } from '../upstream/route-table.js';
import type { CallPool } from '../inspect/call-pool.js';
import type { Accepted } from './accepted.js';
import type { Admission } from './admission.js';
import type { ConnectionEvents } from './connection-events.js';
import type { ServedConnection, ConnectionStatus } from './connection-status.js';

/** What a client is let in under. A reload makes a new one; connections keep theirs. */
export interface OpeningSettings {
  readonly configuration: ListenerConfiguration;
  /** There if and only if the listener is `tls://` or `https://`. */
  readonly terminator: TlsTerminator | undefined;
  /** Whether a client at this address must begin with a PROXY header; `undefined` is a unix socket. */
  readonly expectsProxyHeader: (address: string | undefined) => boolean;
  /** Which upstream it goes to. */
  readonly routes: RouteTable<Dialer>;
  readonly events: ConnectionEvents;
  /** The calls that this process inspects. */
  readonly calls: CallPool<CallOwner>;
}

/** The connection of a call, for the page of open calls. */
export interface CallOwner {
  readonly status: ConnectionStatus;
}

/** What a listener accepts connections under. */
export interface ListenerSettings extends OpeningSettings {
  /** Makes of an accepted socket what its listener serves. */
  readonly connect: (accepted: Accepted, admission: Admission) => ServedConnection;
}
