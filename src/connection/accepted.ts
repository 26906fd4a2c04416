import type { Socket } from 'node:net';

import { socketEnd, type SocketEnd } from './peer-address.js';

/** What is known of a connection when it is accepted. Of a client that has left, nobody knows its address later. */
export interface Arrival {
  /** Of no other connection since the start. */
  readonly id: number;
  readonly peer: SocketEnd | undefined;
  readonly local: SocketEnd | undefined;
}

/** A connection that was accepted and not read yet. */
export interface Accepted extends Arrival {
  readonly raw: Socket;
}

let connections = 0;

/** What is known of a socket that has just been accepted. */
export function accepted(raw: Socket): Accepted {
  return {
    id: ++connections,
    raw,
    peer: socketEnd(raw.remoteAddress, raw.remotePort),
    local: socketEnd(raw.localAddress, raw.localPort),
  };
}
