import { isIP } from 'node:net';

import { describeForwarding } from '../config/forwarding.js';
import type { Address, ListenerConfiguration } from '../config/model.js';
import type { Logger } from '../telemetry/logger.js';
import type { BoundState } from './bound-state.js';
import type { Listener } from './listener.js';

/** Logs the listeners that a state adds to the previous one, and those that it removes. */
export function logListeners(
  logger: Logger,
  next: BoundState,
  previous: BoundState,
  connectionsOn: (listenerId: number) => number,
): void {
  for (const { key, configuration } of next.state.listeners)
    if (!previous.listeners.has(key)) logListening(logger, configuration, next.listeners.get(key)?.listener);
  for (const { key, configuration } of previous.state.listeners) {
    const gone = next.listeners.has(key) ? undefined : previous.listeners.get(key);
    if (!gone) continue;
    const connections = connectionsOn(gone.id);
    logger.log('listener_removed', { listener: configuration.listen.url, connections });
  }
  if (next.admin && next.admin !== previous.admin)
    logger.log('listening', {
      listener: 'prometheus_listen_addr',
      listen: next.admin.url,
      ...inheritedField(next.admin),
    });
}

function logListening(
  logger: Logger,
  { listen, forwarding, socket }: ListenerConfiguration,
  listener: Listener | undefined,
): void {
  logger.log('listening', {
    listener: listen.url,
    listen: listener?.url(listen) ?? '',
    ...addressesField(listen, listener),
    forward: describeForwarding(forwarding),
    ...inheritedField(listener),
  });
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

/** The log field with the addresses that a host name is bound to. */
function addressesField(listen: Address, listener: Listener | undefined): { addresses?: string } {
  const isName = listen.scheme !== 'unix' && isIP(listen.host) === 0;
  return isName && listener ? { addresses: listener.addresses.join(', ') } : {};
}

/** The log field of an inherited listener. */
function inheritedField(listener: { readonly isInherited: boolean } | undefined): { inherited?: true } {
  return listener?.isInherited === true ? { inherited: true } : {};
}
