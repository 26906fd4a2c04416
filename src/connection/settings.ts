import type { ListenerConfiguration } from '../config/model.js';
import type { TlsTerminator } from '../tls/terminator.js';
import type { Dialer } from '../upstream/dialer.js';
import type { ConnectionEvents } from './events.js';

/** What a connection is accepted under. A reload makes a new one; connections keep theirs. */
export interface ConnectionSettings {
  readonly configuration: ListenerConfiguration;
  /** There if and only if the listener is `tls://`. */
  readonly terminator: TlsTerminator | undefined;
  readonly dialer: Dialer;
  /** Whether a client at this address must begin with a PROXY header; `undefined` is a unix socket. */
  readonly expectsProxyHeader: (address: string | undefined) => boolean;
  readonly events: ConnectionEvents;
}
