import type { Socket } from 'node:net';

import type { ConnectionInjector } from '@grpc/grpc-js';

import { BACKCHANNEL_MAGIC } from '../../inspect/backchannel/magic.js';
import { YamuxSession } from './yamux-session.js';

/**
 * Serves a connection as Gitaly does: its first 11 bytes say whether it is gRPC or the backchannel, whose first stream is
 * gRPC.
 */
export function acceptEither(connection: Socket, server: ConnectionInjector): void {
  connection.on('error', () => undefined);
  const peek = (): void => {
    const head: unknown = connection.read(BACKCHANNEL_MAGIC.length);
    if (!Buffer.isBuffer(head)) return;
    connection.off('readable', peek);
    if (!head.equals(BACKCHANNEL_MAGIC)) {
      connection.unshift(head);
      server.injectConnection(connection);
      return;
    }
    let isFirst = true;
    const session = new YamuxSession(connection, 'server', (stream) => {
      if (isFirst) stream.once('close', () => session.end());
      isFirst = false;
      server.injectConnection(stream);
    });
  };
  connection.on('readable', peek);
}
